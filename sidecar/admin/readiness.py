"""Whether traffic may come."""

from __future__ import annotations


class Readiness:
    """Ready when nothing named is pending and nothing draining.

    >>> readiness = Readiness("listeners bound")
    >>> readiness.reason
    'waiting for: listeners bound'
    >>> readiness.done("listeners bound"); readiness.reason is None
    True
    """

    def __init__(self, *pending: str) -> None:
        """`pending` names what must be done first, in words that a person reads in the probe's answer."""
        self._pending = dict.fromkeys(pending)
        self._draining = False

    @property
    def reason(self) -> str | None:
        """Why traffic must not come, or None when it may."""
        if self._draining:
            return "draining"
        return f"waiting for: {', '.join(self._pending)}" if self._pending else None

    @property
    def ready(self) -> bool:
        """Whether traffic may come."""
        return self.reason is None

    def done(self, what: str) -> None:
        """`what` is no longer missing; saying it twice does no harm."""
        self._pending.pop(what, None)

    def drain(self) -> None:
        """From now on and for good: no new traffic."""
        self._draining = True
