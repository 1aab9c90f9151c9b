"""What happens to tokens, as plain events: the hook that a metrics sink implements.

Every label value is one of the configuration's or from a fixed set; none can be invented by a client. `audience` is
the empty string where a route has none. `issuer` is the token endpoint's URL without user, query and fragment.

Hand-outs of a token that this process already holds are not events: they are the hot path, and only counted
(`TokenManager.memory_lookups`, to be read at the scrape). Nor is a state an event: `TokenManager.snapshot` tells when a
token ends, what is refused, and which issuer is left alone.
"""

from __future__ import annotations

from typing import Literal

Outcome = Literal["success", "failed", "throttled", "refused"]
"""How one attempt to reach the issuer ended: a grant, a transient fault, 429 (or a firewall), a definite refusal."""

Source = Literal["memory", "store", "issuer", "coalesced"]
"""Where a client's token came from; `coalesced`: from a request that another client had begun."""

InvalidationReason = Literal["upstream_refused", "secret_changed", "session_rotated"]

StoreOperation = Literal["open", "load", "save", "reserve", "lock"]


class TokenObserver:
    """Receives the token core's events, on the event loop, and must neither block nor raise. This one ignores them."""

    def registered(self, *, issuer: str, credential: str, audience: str) -> None:
        """A route uses this credential and audience: its series can start at 0."""

    def retired(self, *, issuer: str, credential: str, audience: str) -> None:
        """No route uses this credential and audience any more: its series can end."""

    def token_requested(self, *, issuer: str, audience: str, outcome: Outcome, seconds: float) -> None:
        """One attempt has ended, `seconds` after its slot. Repeated attempts are attempts."""

    def looked_up(self, *, audience: str, source: Source) -> None:
        """A client that did not find a token in memory got one; `source` says where from."""

    def invalidated(self, *, audience: str, reason: InvalidationReason) -> None:
        """A token is no longer asked for or handed out, although its life has not ended."""

    def waiting(self) -> None:
        """A client began to wait for a token."""

    def waited(self, seconds: float) -> None:
        """The client was answered, or went away, after so many seconds."""

    def budget_waited(self, *, issuer: str, seconds: float) -> None:
        """An attempt waited so many seconds for its slot (0: the slot was free)."""

    def store_up(self, *, up: bool) -> None:
        """Whether the configured store is in use, or the layer below it."""

    def store_failed(self, *, operation: StoreOperation) -> None:
        """One operation on the store failed."""
