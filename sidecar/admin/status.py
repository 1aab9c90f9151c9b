"""What `/status` says: the shape that the composition root fills in, and that the page and `status` read.

Never a token's value, nor a secret. Times are seconds since 1970, durations are seconds.
"""

from __future__ import annotations

import msgspec


class RouteStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One route, and what it has done since the start."""

    name: str
    prefix: str
    upstream: str
    credential: str
    audience: str | None = None
    requests: int = 0
    """Answered, whatever the code."""
    errors: int = 0
    """Of those, the ones that the sidecar itself made (source `sidecar`)."""
    in_flight: int = 0


class TokenStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One token identity."""

    credential: str
    audience: str | None = None
    issuer: str = ""
    state: str
    """`none` (not wanted yet), `fresh`, `stale`, `expired` or `quarantined`."""
    expires_at: float | None = None
    refreshes_at: float | None = None
    quarantined_until: float | None = None
    detail: str = ""
    """The issuer's refusal or the last failure, in words."""
    routes: tuple[str, ...] = ()


class IssuerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One issuer's budget."""

    issuer: str
    min_interval: float
    requests: int = 0
    """Token requests that this process has sent."""
    next_slot_at: float | None = None
    cooldown_until: float | None = None


class StoreStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Where tokens are shared."""

    type: str
    location: str = ""
    """A directory, or a host; never a password."""
    up: bool = True


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """Everything."""

    pid: int
    version: str
    started_at: float
    uptime: float
    ready: bool
    reason: str | None = None
    """Why it is not ready."""
    listen: str
    admin: str
    configuration: str
    """The file, or `environment`."""
    routes: tuple[RouteStatus, ...] = ()
    tokens: tuple[TokenStatus, ...] = ()
    issuers: tuple[IssuerStatus, ...] = ()
    store: StoreStatus
