"""How long to wait before a worker that died is forked anew. Pure."""

from __future__ import annotations

FIRST = 0.1
LONGEST = 30.0
LONG_LIFE = 60.0
"""Seconds after which a worker that dies did not die of how it starts."""


def backoff(previous: float, lived: float) -> float:
    """Seconds until the next start: none after a long life, else twice the last, so that no fault becomes a fork bomb.

    Args:
        previous: the backoff before the life that has ended, in seconds; 0 for the first.
        lived: that life's length in seconds.
    """
    if lived >= LONG_LIFE:
        return 0.0
    return min(max(FIRST, 2 * previous), LONGEST)
