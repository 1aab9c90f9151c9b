"""What can happen to a token identity, and what the shell can be told to do about it. Plain values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from sidecar.tokens.shared import Change, PutFailing, PutQuarantine, PutToken, Shared, Token

# --- events ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Wanted:
    """A client needs a token."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the store holds; `may_fetch`: with the identity's lock won, or its patience over."""

    shared: Shared
    may_fetch: bool = False


@dataclass(frozen=True, slots=True)
class Fetched:
    """The issuer gave a token."""

    token: Token


class Failure(Enum):
    """How a fetch failed."""

    TRANSIENT = auto()
    THROTTLED = auto()
    REFUSED = auto()
    NO_SLOT = auto()
    COOLING = auto()
    """No slot, because of a cool-down."""


@dataclass(frozen=True, slots=True)
class FetchFailed:
    """The issuer gave none, or was not asked."""

    failure: Failure
    retry_after: float = 0.0
    """Seconds before asking again can help, where known."""
    oauth_error: str = ""
    detail: str = ""


Outcome = PutToken | PutQuarantine | PutFailing
"""What an attempt changes for every process on the store."""


@dataclass(frozen=True, slots=True)
class Saved:
    """An attempt's outcome is on the store, or the store was waited for long enough: it may be heard of."""

    outcome: Outcome
    retry_after: float = 0.0
    """As in `FetchFailed`."""


@dataclass(frozen=True, slots=True)
class PatienceOver:
    """A client has waited for as long as it may; the flight goes on."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """An upstream refused this version; `replay`: its request can be sent again with another."""

    version: str
    replay: bool = True


@dataclass(frozen=True, slots=True)
class Replayed:
    """An upstream's answer to that replay."""

    accepted: bool


@dataclass(frozen=True, slots=True)
class Rotated:
    """An upstream changed the session that `version` stands for."""

    version: str
    token: Token


@dataclass(frozen=True, slots=True)
class SecretChanged:
    """This identity's secret has taken the place of another one, whose token may still be good."""

    previous: Token
    used: bool
    """Clients use it: the first token of the new secret is obtained at once."""


@dataclass(frozen=True, slots=True)
class QuarantineEnded:
    """SIGHUP, or `doctor` succeeded."""


@dataclass(frozen=True, slots=True)
class Woke:
    """The moment that `Wake` named has come."""


Event = (
    Wanted
    | Loaded
    | Fetched
    | FetchFailed
    | Saved
    | PatienceOver
    | Rejected
    | Replayed
    | Rotated
    | SecretChanged
    | QuarantineEnded
    | Woke
)


# --- commands ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Serve:
    """Hand the token to whoever asked, and to all that wait."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Whoever asked joins those that wait."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """Whoever asked, and all that wait, get an error."""

    failure: Failure
    retry_after: float
    oauth_error: str = ""


@dataclass(frozen=True, slots=True)
class PassOn:
    """The upstream's refusal stands: no token would help."""


@dataclass(frozen=True, slots=True)
class Look:
    """Begin a flight: look into the store, and go on as `Loaded` says."""


@dataclass(frozen=True, slots=True)
class Lock:
    """Try to win the identity's lock, look again."""


@dataclass(frozen=True, slots=True)
class Hold:
    """The issuer has failed again and again: keep what was won, look again at this moment."""

    until: float


@dataclass(frozen=True, slots=True)
class Fetch:
    """Ask the issuer; in the background only if a slot is free now."""

    attempts: int
    background: bool


@dataclass(frozen=True, slots=True)
class SaveFirst:
    """Put this on the store and go on as `Saved` says: what other processes rely on is there before a client knows."""

    outcome: Outcome
    retry_after: float = 0.0


@dataclass(frozen=True, slots=True)
class Save:
    """Put this change on the store; nobody waits for it."""

    change: Change


@dataclass(frozen=True, slots=True)
class Wake:
    """Send `Woke` at this moment; a later command replaces an earlier one."""

    at: float


Command = Serve | Wait | Refuse | PassOn | Look | Lock | Hold | Fetch | SaveFirst | Save | Wake
