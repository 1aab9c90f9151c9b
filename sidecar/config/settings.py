"""The resolved configuration: frozen, complete, every default filled in. What the rest of the program works from.

Durations are seconds, sizes are bytes, secrets are `SecretSource`s. What is the same as the user wrote it comes from
`model.py`; how the rest becomes this is `resolve.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from sidecar.config.model import (
    Basic,
    ClientCredentials,
    Credential,
    FileStore,
    Guard,
    Limits,
    Logging,
    MemoryStore,
    NoCredential,
    RedisStore,
    Refresh,
    SessionLogin,
    StaticToken,
    Tls,
    TokenStore,
)
from sidecar.config.values import Address, RequiredHeader, Rule, TcpAddress, UnixAddress, Upstream
from sidecar.errors import Mistake


@dataclass(frozen=True, slots=True)
class Timeouts:
    """For one exchange with the upstream, in seconds."""

    connect: float = 5.0
    response: float = 60.0
    """0: no limit."""
    idle: float = 60.0


@dataclass(frozen=True, slots=True)
class Route:
    """A local path prefix bound to an upstream, a credential and an audience."""

    name: str
    product: str | None
    prefix: str
    """Begins with a slash; `/` alone matches everything."""
    upstream: Upstream
    credential: str
    audience: str | None
    public: tuple[Rule, ...] = ()
    allow: tuple[Rule, ...] | None = None
    timeouts: Timeouts = Timeouts()
    tls: Tls = Tls()
    cookies: Literal["drop", "pass"] = "drop"
    max_body: int | None = None
    proxy: str | None = field(default=None, repr=False)
    """The forward proxy's URL from `HTTPS_PROXY` and `NO_PROXY`; it may hold a password."""


@dataclass(frozen=True, slots=True)
class Grpc:
    """Zeebe's gRPC: a listener of its own, and the one route behind it."""

    listen: TcpAddress
    route: Route
    """Named `grpc`; it has no prefix, and of its upstream the path means nothing."""
    max_message: int = 16 << 20
    """Bytes of the largest message in either direction."""


@dataclass(frozen=True, slots=True)
class TokenRequests:
    """How often the issuers may be asked, and how long a client waits."""

    min_interval: float = 1.25
    max_wait: float = 10.0
    timeout: float = 5.0
    issuers: Mapping[str, float] = field(default_factory=dict)
    """`min_interval` of single issuers, by origin."""


@dataclass(frozen=True, slots=True)
class Settings:
    """One complete configuration."""

    source: str
    """The file's name, or `environment`."""
    listen: Address
    admin_listen: Address
    credentials: Mapping[str, Credential]
    routes: tuple[Route, ...]
    token_store: TokenStore
    token_requests: TokenRequests = TokenRequests()
    refresh: Refresh = Refresh()
    guard: Guard = Guard()
    limits: Limits = Limits()
    logging: Logging = Logging()
    drain_delay: float = 0.0
    drain_timeout: float = 25.0
    warnings: tuple[Mistake, ...] = ()
    """What works, and what a person should know of."""
