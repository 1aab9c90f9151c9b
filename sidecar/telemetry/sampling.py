"""Repeated log lines: after the first ones of a kind, the rest of some seconds becomes one line with their number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, MutableMapping
from typing import Any, Final

import structlog

from sidecar.clock import SystemClock

MOST: Final = 100
"""Lines of one kind that are written in a window."""
WINDOW: Final = 10.0
"""Seconds."""
KINDS: Final = 1000
"""The most kinds that are counted in a window: further ones, which only libraries' own words can make, are written."""
ACCESS: Final = frozenset({"request", "request refused"})
_TELLS_APART: Final = ("event", "route", "status", "code", "credential", "audience", "setting")

Kind = tuple[object, ...]


class Sampler:
    """A structlog processor. One window counts for all kinds, so that a line costs the same beside any number."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self.whole_access_log = False
        """Whether each request has its line, for `logging.access: all` was asked for."""
        self._monotonic = monotonic
        self._seen: Counter[Kind] = Counter()
        self._end = 0.0

    def __call__(self, _logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Pass the line on.

        Raises:
            structlog.DropEvent: there were `MOST` of its kind; it is counted.
        """
        if self._monotonic() >= self._end:
            self.flush()
        kind = tuple(event.get(name) for name in _TELLS_APART)
        if (self.whole_access_log and kind[0] in ACCESS) or (len(self._seen) >= KINDS and kind not in self._seen):
            return event
        self._seen[kind] += 1
        if self._seen[kind] > MOST:
            raise structlog.DropEvent
        return event

    def flush(self) -> None:
        """Write the number of the lines that were left out, and begin a new window."""
        seen, self._seen = self._seen, Counter()
        self._end = self._monotonic() + WINDOW
        for kind, count in seen.items():
            if count > MOST:
                what = {
                    name: value for name, value in zip(_TELLS_APART[1:], kind[1:], strict=True) if value is not None
                }
                structlog.get_logger(__name__).warning(
                    "log lines were left out", repeated=kind[0], lines=count - MOST, **what
                )


SAMPLER: Final = Sampler(SystemClock.monotonic)
"""The sampler of this process."""
