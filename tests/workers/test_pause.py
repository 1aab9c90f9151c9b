"""How long a worker that died is waited for."""

import pytest

from sidecar.workers.pause import LONG_LIFE, LONGEST, next_pause


@pytest.mark.parametrize(
    ("previous", "lived", "pause"),
    [
        (0.0, 0.0, 0.1),
        (0.0, LONG_LIFE - 1, 0.1),
        (0.1, 0.5, 0.2),
        (1.6, 0.0, 3.2),
        (LONGEST, 0.0, LONGEST),
        (20.0, 0.0, LONGEST),
        (0.0, LONG_LIFE, 0.0),
        (LONGEST, LONG_LIFE, 0.0),
    ],
)
def test_the_pause_doubles_with_each_short_life(previous, lived, pause):
    """None after a long life; a worker that dies at once, again and again, is no fork bomb."""
    assert next_pause(previous, lived) == pytest.approx(pause)
