"""What can happen to a token identity. Plain values."""

from __future__ import annotations

from enum import Enum, auto

import msgspec

from sidecar.tokens.token_record import PutFailing, PutQuarantine, PutToken, Token, TokenRecord


class Wanted(msgspec.Struct, frozen=True):
    """A client needs a token."""


class Loaded(msgspec.Struct, frozen=True):
    """The store was read. `may_fetch`: the identity's lock is held, or was tried for long enough."""

    record: TokenRecord
    may_fetch: bool = False


class Fetched(msgspec.Struct, frozen=True):
    """The issuer gave a token."""

    token: Token


class Failure(Enum):
    """How a token request failed."""

    TRANSIENT = auto()
    THROTTLED = auto()
    REFUSED = auto()
    NO_SLOT = auto()
    NO_TURN = auto()
    """The store is away, so that this process asks only in its turns, and the next is far off."""
    COOLING = auto()
    """There was no slot, because of a cool-down."""
    NOT_SHARED = auto()
    """The store cannot be written to, and this process must not ask beside those that share it."""


class FetchFailed(msgspec.Struct, frozen=True):
    """The issuer gave no token, or was not asked."""

    failure: Failure
    retry_after: float = 0.0
    """Seconds before asking again can help, where known."""
    oauth_error: str = ""
    detail: str = ""
    """What happened, for people."""


Outcome = PutToken | PutQuarantine | PutFailing
"""What an attempt changes for every process on the store."""


class Saved(msgspec.Struct, frozen=True):
    """An attempt's outcome is on the store, or the store was waited for long enough: clients may be told."""

    outcome: Outcome
    retry_after: float = 0.0
    """As in `FetchFailed`."""


class PatienceOver(msgspec.Struct, frozen=True):
    """A client has waited for as long as it may; the fetch goes on."""


class Rejected(msgspec.Struct, frozen=True):
    """An upstream refused this version. `replay`: its request can be sent again with another."""

    version: str
    replay: bool = True


class Replayed(msgspec.Struct, frozen=True):
    """An upstream answered the request that was sent again."""

    accepted: bool


class SessionRotated(msgspec.Struct, frozen=True):
    """An upstream changed the session that `version` stands for."""

    version: str
    token: Token


class SecretChanged(msgspec.Struct, frozen=True):
    """This identity's secret has taken the place of another one, whose token may still be good."""

    previous: Token
    used: bool
    """Clients use it: the first token of the new secret is obtained at once."""


class QuarantineEnded(msgspec.Struct, frozen=True):
    """A reload was ordered, or `doctor` succeeded."""


class Woke(msgspec.Struct, frozen=True):
    """The moment of `refresh_at` has come."""


Event = (
    Wanted
    | Loaded
    | Fetched
    | FetchFailed
    | Saved
    | PatienceOver
    | Rejected
    | Replayed
    | SessionRotated
    | SecretChanged
    | QuarantineEnded
    | Woke
)
