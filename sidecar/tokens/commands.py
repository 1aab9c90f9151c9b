"""What the lifecycle tells its shell to do. Plain values; moments are seconds of the boot clock."""

from __future__ import annotations

import msgspec

from sidecar.tokens.events import Failure, Outcome
from sidecar.tokens.token_record import Change

# --- commands that are carried out at once -----------------------------------------------------------------------


class Serve(msgspec.Struct, frozen=True):
    """Hand the token to whoever asked, and to all that wait."""


class Wait(msgspec.Struct, frozen=True):
    """Whoever asked joins those that wait."""


class Refuse(msgspec.Struct, frozen=True):
    """Whoever asked, and all that wait, get an error."""

    failure: Failure
    retry_after: float
    """Seconds."""
    oauth_error: str = ""


class PassOn(msgspec.Struct, frozen=True):
    """The upstream's refusal stands: no token would help."""


class Save(msgspec.Struct, frozen=True):
    """Put this change on the store; nobody waits for it."""

    change: Change


# --- steps of a fetch: each takes its time, and its end is an event ----------------------------------------------


class Look(msgspec.Struct, frozen=True):
    """Begin a fetch: read the store. `Loaded` follows."""


class Lock(msgspec.Struct, frozen=True):
    """Try to win the identity's lock, and read the store again. `Loaded` follows."""


class Delay(msgspec.Struct, frozen=True):
    """The issuer has failed again and again: read the store again at this moment. `Loaded` follows."""

    until: float


class Fetch(msgspec.Struct, frozen=True):
    """Ask the issuer; in the background only if a slot is free now. `Fetched` or `FetchFailed` follows."""

    attempts: int
    background: bool


class SaveFirst(msgspec.Struct, frozen=True):
    """Put an outcome on the store before any client is told, as other processes rely on it. `Saved` follows."""

    outcome: Outcome
    retry_after: float = 0.0


Step = Look | Lock | Delay | Fetch | SaveFirst
"""At most one is due at a time."""
Command = Serve | Wait | Refuse | PassOn | Save | Step
