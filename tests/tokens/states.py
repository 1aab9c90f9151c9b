"""Tokens in every state, for tables."""

from __future__ import annotations

from dataclasses import replace

from sidecar.tokens.commands import Command, SaveFirst
from sidecar.tokens.events import Fetched, FetchFailed, Saved
from sidecar.tokens.grant import Grant
from sidecar.tokens.lifecycle import decide
from sidecar.tokens.token_record import NEVER, Quarantine, Token, TokenRecord
from sidecar.tokens.token_state import FetchState, TokenState, schedule

BORN = 1000.0
FRESH, STALE, LAST, GONE = BORN + 10, BORN + 3000, BORN + 3580, BORN + 3599
"""Moments in the life of an hour's token: it is stale from 2,880, waited for from 3,570, not used from 3,598."""


def token(version: str = "v1", *, born: float = BORN, lifetime: float = 3600.0) -> Token:
    """A token whose header says which it is."""
    return Token(version, Grant(f"Authorization: Bearer {version}\r\n".encode(), lifetime), born)


def holding(held: Token | None = None, **changes: object) -> TokenState:
    """A state with a token that was used, an hour's from BORN unless told."""
    held = held or token()
    state = TokenState(record=TokenRecord(token=held), used=True)
    return replace(state, moments=schedule(held, state.refresh, 0.0), **changes)


def empty(**changes: object) -> TokenState:
    """A state that has never had a token."""
    return replace(TokenState(), **changes)


def quarantine(until: float, count: int = 1) -> Quarantine:
    """The issuer said `access_denied`."""
    return Quarantine(count, until, "access_denied", "No permission for this audience: add it.")


def with_quarantine(state: TokenState, until: float, *, looked_at: float = NEVER, count: int = 1) -> TokenState:
    """The same state, its credential refused."""
    return replace(state, record=replace(state.record, quarantine=quarantine(until, count)), looked_at=looked_at)


def concluded(state: TokenState, event: Fetched | FetchFailed, now: float) -> tuple[TokenState, tuple[Command, ...]]:
    """An attempt's end with a store that saves at once; all commands on the way."""
    state, commands = decide(state, event, now, 0.0)
    given = commands
    while saves := [command for command in commands if isinstance(command, SaveFirst)]:
        state, commands = decide(state, Saved(saves[0].outcome, saves[0].retry_after), now, 0.0)
        given += commands
    return state, given


__all__ = ["FetchState", "decide"]
