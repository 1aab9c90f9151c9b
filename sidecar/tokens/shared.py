"""What all processes on a store know of one token identity, and the changes that they make to it. Pure values."""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass, field, replace
from typing import Final, assert_never

from sidecar.tokens.grant import Grant

NEVER: Final = -math.inf
"""A moment that has always passed."""
REFUSED_KEPT: Final = 8
"""Refused versions that are remembered: more generations than can be in any process's memory at once."""


@dataclass(frozen=True, slots=True)
class Token:
    """A grant with its place in time. Moments are seconds of this machine's boot clock."""

    version: str
    """Random: tells this grant from every other."""
    grant: Grant = field(repr=False)
    born: float
    """When the request that brought it was sent."""

    @property
    def lifetime(self) -> float:
        """In seconds."""
        return self.grant.lifetime

    @property
    def end(self) -> float:
        """When the issuer considers it expired."""
        return self.born + self.grant.lifetime


@dataclass(frozen=True, slots=True)
class Backoff:
    """How many times something was done in vain, and the moment before which it is not done again."""

    count: int = 0
    until: float = NEVER


@dataclass(frozen=True, slots=True)
class Quarantine:
    """The issuer refused the credential, `count` times in a row; it is not asked before `until`."""

    count: int
    until: float
    oauth_error: str
    detail: str = ""
    """What the issuer said and what to do, for people."""


@dataclass(frozen=True, slots=True)
class Shared:
    """The store's record of one identity."""

    token: Token | None = None
    refused: tuple[str, ...] = ()
    """Versions that an upstream refused, never to be handed out again."""
    forced: Backoff = Backoff()
    """Refreshes that an upstream's refusal forced, since one last helped (DESIGN 5.8)."""
    failing: Backoff = Backoff()
    """Fetches that clients waited for and that failed at transient faults, since one last succeeded."""
    quarantine: Quarantine | None = None
    """Kept when its time has passed: the credential is refused until a grant comes; the next quarantine is longer."""


@dataclass(frozen=True, slots=True)
class PutToken:
    """A grant came."""

    token: Token


@dataclass(frozen=True, slots=True)
class RefuseToken:
    """An upstream refused this version."""

    version: str
    forced: Backoff


@dataclass(frozen=True, slots=True)
class ForcedHelped:
    """The token of a forced refresh was accepted."""


@dataclass(frozen=True, slots=True)
class PutFailing:
    """The issuer could not be asked, or gave nothing usable."""

    failing: Backoff


@dataclass(frozen=True, slots=True)
class PutQuarantine:
    """The issuer refused the credential."""

    quarantine: Quarantine


@dataclass(frozen=True, slots=True)
class EndQuarantine:
    """Somebody may have repaired the credential: the issuer can be asked. Until a grant comes it counts as refused."""


Change = PutToken | RefuseToken | ForcedHelped | PutFailing | PutQuarantine | EndQuarantine


def apply(shared: Shared, change: Change) -> Shared:
    """The record after a change, whatever other processes did in between."""
    match change:
        case PutToken(token):
            return replace(shared, token=_better(token, shared), failing=Backoff(), quarantine=None)
        case RefuseToken(version, forced):
            kept = None if shared.token is not None and shared.token.version == version else shared.token
            refused = (*(old for old in shared.refused if old != version), version)[-REFUSED_KEPT:]
            return replace(shared, token=kept, refused=refused, forced=forced)
        case ForcedHelped():
            return replace(shared, forced=Backoff())
        case PutFailing(failing):
            return replace(shared, failing=failing)
        case PutQuarantine(quarantine):
            return replace(shared, quarantine=quarantine)
        case EndQuarantine():
            ended = replace(shared.quarantine, count=0, until=NEVER) if shared.quarantine is not None else None
            return replace(shared, failing=Backoff(), quarantine=ended)
        case _:
            assert_never(change)


def _better(token: Token, shared: Shared) -> Token | None:
    """The one that lives longer: a process that was stopped for minutes must not bury a newer token under its own."""
    if token.version in shared.refused:
        return shared.token
    if shared.token is not None and shared.token.end > token.end:
        return shared.token
    return token


def new_version() -> str:
    """A name for a grant that no other has. The one thing here that is not pure."""
    return secrets.token_hex(8)
