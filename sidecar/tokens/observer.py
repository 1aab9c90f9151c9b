"""What happens to tokens, as plain events: the hook that a metrics sink implements.

Every label value is one of the configuration's or from a fixed set; none can be invented by a client. `audience` is
the empty string where a route has none. `issuer` is the token endpoint's URL without user, query and fragment.

Hand-outs of a token that this process already holds are not events: they are the hot path, and only counted
(`TokenManager.memory_lookups`, to be read at the scrape).
"""

from __future__ import annotations

from typing import Literal, Protocol

Outcome = Literal["success", "failed", "throttled", "refused"]
"""How one attempt to reach the issuer ended: a grant, a transient fault, 429 (or a firewall), a definite refusal."""

Source = Literal["memory", "store", "issuer", "coalesced"]
"""Where a client's token came from; `coalesced`: from a request that another client had begun."""

InvalidationReason = Literal["upstream_refused", "secret_changed", "session_rotated"]

StoreOperation = Literal["open", "load", "save", "reserve", "lock"]


class TokenObserver(Protocol):
    """Receives the token core's events, on the event loop; it must not block and must not raise."""

    def registered(self, *, issuer: str, credential: str, audience: str) -> None:
        """A route uses this: its series can start at 0."""
        ...

    def token_requested(self, *, issuer: str, audience: str, outcome: Outcome, seconds: float) -> None:
        """One attempt has ended, `seconds` after its slot: every attempt is counted, repeated ones too."""
        ...

    def looked_up(self, *, audience: str, source: Source) -> None:
        """A client that did not find a token in memory got one; `source` says where from."""
        ...

    def invalidated(self, *, audience: str, reason: InvalidationReason) -> None:
        """A token is no longer handed out although its life has not ended."""
        ...

    def waiting(self) -> None:
        """A client began to wait for a token."""
        ...

    def waited(self, seconds: float) -> None:
        """It was answered, or went away."""
        ...

    def budget_waited(self, *, issuer: str, seconds: float) -> None:
        """An attempt waited for its slot (0: it was free)."""
        ...

    def cooldown(self, *, issuer: str, until: float) -> None:
        """The issuer is left alone until this moment (seconds since 1970)."""
        ...

    def quarantined(self, *, credential: str, audience: str, active: bool) -> None:
        """An identity went into quarantine, or came out of it."""
        ...

    def token_expires(self, *, credential: str, audience: str, at: float) -> None:
        """The token in use ends at this moment (seconds since 1970)."""
        ...

    def store_up(self, *, up: bool) -> None:
        """Whether the configured store is in use, or the layer below it."""
        ...

    def store_failed(self, *, operation: StoreOperation) -> None:
        """One operation on the store failed."""
        ...


class NoObserver:
    """Hears everything, does nothing."""

    def registered(self, *, issuer: str, credential: str, audience: str) -> None:
        """See `TokenObserver`."""

    def token_requested(self, *, issuer: str, audience: str, outcome: Outcome, seconds: float) -> None:
        """See `TokenObserver`."""

    def looked_up(self, *, audience: str, source: Source) -> None:
        """See `TokenObserver`."""

    def invalidated(self, *, audience: str, reason: InvalidationReason) -> None:
        """See `TokenObserver`."""

    def waiting(self) -> None:
        """See `TokenObserver`."""

    def waited(self, seconds: float) -> None:
        """See `TokenObserver`."""

    def budget_waited(self, *, issuer: str, seconds: float) -> None:
        """See `TokenObserver`."""

    def cooldown(self, *, issuer: str, until: float) -> None:
        """See `TokenObserver`."""

    def quarantined(self, *, credential: str, audience: str, active: bool) -> None:
        """See `TokenObserver`."""

    def token_expires(self, *, credential: str, audience: str, at: float) -> None:
        """See `TokenObserver`."""

    def store_up(self, *, up: bool) -> None:
        """See `TokenObserver`."""

    def store_failed(self, *, operation: StoreOperation) -> None:
        """See `TokenObserver`."""
