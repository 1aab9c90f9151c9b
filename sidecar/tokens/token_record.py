"""What all processes on a store know of one token identity, and the changes that they make to it. Pure values."""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass, field, replace
from typing import Final, assert_never

import msgspec

from sidecar.tokens.grant import Grant

NEVER: Final = -math.inf
"""A moment that has always passed."""
REFUSED_KEPT: Final = 8
"""Refused versions that are remembered: more generations than can be in any process's memory at once."""


@dataclass(frozen=True, slots=True)
class Token:
    """A grant with its place in time. Moments are seconds of this machine's boot clock."""

    version: str
    """A random name, which no other grant has."""
    grant: Grant = field(repr=False)
    born: float
    """When the request that brought it was sent."""

    @property
    def lifetime(self) -> float:
        """Seconds from `born` to `end`."""
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
class TokenRecord:
    """What the store says of one identity."""

    token: Token | None = None
    refused_versions: tuple[str, ...] = ()
    """Versions that an upstream refused, never to be handed out again."""
    forced: Backoff = Backoff()
    """Refreshes that an upstream's refusal forced, since one last helped."""
    failing: Backoff = Backoff()
    """Fetches that clients waited for and that failed at transient faults, since one last succeeded."""
    quarantine: Quarantine | None = None
    """Kept when its time has passed: the credential is refused until a grant comes; the next quarantine is longer."""

    def shifted(self, by: float) -> TokenRecord:
        """The same, by a clock that says `by` seconds more."""
        token, quarantine = self.token, self.quarantine
        return replace(
            self,
            token=replace(token, born=token.born + by) if token else None,
            forced=replace(self.forced, until=self.forced.until + by),
            failing=replace(self.failing, until=self.failing.until + by),
            quarantine=replace(quarantine, until=quarantine.until + by) if quarantine else None,
        )


class PutToken(msgspec.Struct, frozen=True):
    """The issuer gave a grant."""

    token: Token


class RefuseToken(msgspec.Struct, frozen=True):
    """An upstream refused this version."""

    version: str
    forced: Backoff


class ForcedHelped(msgspec.Struct, frozen=True):
    """The token of a forced refresh was accepted."""


class PutFailing(msgspec.Struct, frozen=True):
    """The issuer could not be asked, or gave nothing usable."""

    failing: Backoff


class PutQuarantine(msgspec.Struct, frozen=True):
    """The issuer refused the credential."""

    quarantine: Quarantine


class EndQuarantine(msgspec.Struct, frozen=True):
    """Somebody may have repaired the credential: the issuer can be asked. Until a grant comes it counts as refused."""


Change = PutToken | RefuseToken | ForcedHelped | PutFailing | PutQuarantine | EndQuarantine


def apply(record: TokenRecord, change: Change) -> TokenRecord:
    """The record after a change; a change of another process in between is kept."""
    match change:
        case PutToken(token):
            return replace(record, token=_better(token, record), failing=Backoff(), quarantine=None)
        case RefuseToken(version, forced):
            kept = None if record.token is not None and record.token.version == version else record.token
            refused = (*(old for old in record.refused_versions if old != version), version)[-REFUSED_KEPT:]
            return replace(record, token=kept, refused_versions=refused, forced=forced)
        case ForcedHelped():
            return replace(record, forced=Backoff())
        case PutFailing(failing):
            return replace(record, failing=failing)
        case PutQuarantine(quarantine):
            return replace(record, quarantine=quarantine)
        case EndQuarantine():
            ended = replace(record.quarantine, count=0, until=NEVER) if record.quarantine is not None else None
            return replace(record, failing=Backoff(), quarantine=ended)
        case _:
            assert_never(change)


def _better(token: Token, record: TokenRecord) -> Token | None:
    """The token that lives longer: a process that was stopped for minutes must not replace a newer token by its own."""
    if token.version in record.refused_versions:
        return record.token
    if record.token is not None and record.token.end > token.end:
        return record.token
    return token


def new_version() -> str:
    """A name for a grant that no other has. The one thing here that is not pure."""
    return secrets.token_hex(8)
