"""What `/status` says: the structs that the composition root fills in, and that the page and `status` read.

Never a token's value, nor a secret. Times are seconds since 1970, durations are seconds.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from sidecar.tokens.token_status import IssuerStatus, TokenStatus

__all__ = ["IssuerStatus", "ProblemStatus", "RouteStatus", "Status", "StoreStatus", "TokenStatus"]

Severity = Literal["warning", "critical"]
Whose = Literal["host", "credential", "issuer", "upstream", "store"]


class ProblemStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong now, as `sidecar.admin.problems` finds it."""

    severity: Severity
    """`critical`: requests fail for it. `warning`: they do not yet."""
    code: str
    """One of `sidecar.admin.problems.CODES`; it never changes its meaning."""
    since: float
    """When this process first knew of it."""
    whose: Whose
    """Where the cause lies; `host`: this machine and its configuration."""
    subject: str = ""
    """The credential, issuer, route or setting that has the problem; empty for the sidecar itself."""
    what: str
    cure: str
    command: str = ""
    """One to run on this host, which finds out more or repairs it."""


class ErrorStatus(msgspec.Struct, frozen=True):
    """A request that failed."""

    at: float
    status: int
    source: str
    """Whose answer it was: `sidecar` or `upstream`."""
    code: str = ""
    """The sidecar's own, of README's table."""
    request_id: str = ""


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
    failing: str = ""
    """The code of the sidecar's own latest error about this upstream, until the upstream answers again."""
    failing_since: float | None = None
    failed_at: float = 0.0
    """When the latest such error came."""
    last_error: ErrorStatus | None = None
    recent_requests: int = 0
    """In the last five minutes."""
    recent_upstream_errors: int = 0
    """Of those, the ones that the upstream answered with 5xx, 401, 403 or 429."""


class StoreStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Where tokens are shared."""

    type: str
    location: str = ""
    """A directory, or a host; never a password."""
    up: bool = True
    detail: str = ""
    """Why it is not up, in words."""


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
    drain: float = 0.0
    """How long its end may take: `drain_delay` and `drain_timeout`."""
    routes: tuple[RouteStatus, ...] = ()
    tokens: tuple[TokenStatus, ...] = ()
    issuers: tuple[IssuerStatus, ...] = ()
    store: StoreStatus
    problems: tuple[ProblemStatus, ...] = ()
    """Critical ones first."""
    reload_refused_at: float | None = None
    """When the configuration was last refused, where that is newer than the one in force."""
    mistakes: tuple[str, ...] = ()
    """What is wrong with the refused configuration."""
    secret_files: dict[str, str] = {}
    """Why a secret's or key's newest file cannot be used, by the setting that names it."""
    log_lines_dropped: int = 0
    log_lines_dropped_at: float | None = None
    """When the last of them was dropped."""
    workers: int = 1
    workers_missing: int = 0
    """How many of them do not answer."""
