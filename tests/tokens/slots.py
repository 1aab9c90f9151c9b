"""Slots in every state, for tables."""

from __future__ import annotations

from dataclasses import replace

from sidecar.tokens.events import Command, Fetched, FetchFailed, Saved, SaveFirst
from sidecar.tokens.grant import Grant
from sidecar.tokens.lifecycle import decide
from sidecar.tokens.shared import NEVER, Quarantine, Shared, Token
from sidecar.tokens.slot import Flight, Slot, schedule

BORN = 1000.0
FRESH, STALE, LAST, GONE = BORN + 10, BORN + 3000, BORN + 3580, BORN + 3599
"""Moments in the life of an hour's token: it is stale from 2,880, waited for from 3,570, not used from 3,598."""


def token(version: str = "v1", *, born: float = BORN, lifetime: float = 3600.0) -> Token:
    """A token whose header says which it is."""
    return Token(version, Grant(f"Authorization: Bearer {version}\r\n".encode(), lifetime), born)


def holding(held: Token | None = None, **changes: object) -> Slot:
    """A slot with a token that was used, an hour's from BORN unless told."""
    held = held or token()
    slot = Slot(shared=Shared(token=held), used=True)
    return replace(slot, moments=schedule(held, slot.rules, 0.0), **changes)


def empty(**changes: object) -> Slot:
    """A slot that has never had a token."""
    return replace(Slot(), **changes)


def quarantine(until: float, count: int = 1) -> Quarantine:
    """The issuer said `access_denied`."""
    return Quarantine(count, until, "access_denied", "No permission for this audience: add it.")


def with_quarantine(slot: Slot, until: float, *, looked_at: float = NEVER, count: int = 1) -> Slot:
    """The same slot, its credential refused."""
    return replace(slot, shared=replace(slot.shared, quarantine=quarantine(until, count)), looked_at=looked_at)


def concluded(slot: Slot, event: Fetched | FetchFailed, now: float) -> tuple[Slot, tuple[Command, ...]]:
    """An attempt's end with a store that saves at once; all commands on the way."""
    slot, commands = decide(slot, event, now, 0.0)
    given = commands
    while saves := [command for command in commands if isinstance(command, SaveFirst)]:
        slot, commands = decide(slot, Saved(saves[0].outcome, saves[0].retry_after), now, 0.0)
        given += commands
    return slot, given


__all__ = ["Flight", "decide"]
