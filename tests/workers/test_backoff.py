"""How long it takes until a worker that died is replaced."""

import pytest

from sidecar.workers.supervisor import LONG_LIFE, LONGEST_BACKOFF, backoff


@pytest.mark.parametrize(
    ("previous", "lived", "seconds"),
    [
        (0.0, 0.0, 0.1),
        (0.0, LONG_LIFE - 1, 0.1),
        (0.1, 0.5, 0.2),
        (1.6, 0.0, 3.2),
        (LONGEST_BACKOFF, 0.0, LONGEST_BACKOFF),
        (20.0, 0.0, LONGEST_BACKOFF),
        (0.0, LONG_LIFE, 0.0),
        (LONGEST_BACKOFF, LONG_LIFE, 0.0),
    ],
)
def test_the_backoff_doubles_with_each_short_life(previous, lived, seconds):
    """None after a long life; a worker that dies at once, again and again, is no fork bomb."""
    assert backoff(previous, lived) == pytest.approx(seconds)
