import pytest

from sidecar.clock import duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0 s"),
        (0.4, "0 s"),
        (59, "59 s"),
        (61, "1 min 1 s"),
        (3605, "1 h"),
        (5400, "1 h 30 min"),
        (90061, "1 d 1 h"),
    ],
)
def test_durations_have_two_units(seconds, text):
    """Short enough for a column, and exact enough to act on."""
    assert duration(seconds) == text
