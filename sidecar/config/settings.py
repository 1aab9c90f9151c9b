"""The resolved configuration: frozen, complete, every default filled in. What the rest of the program works from.

Durations are seconds, sizes are bytes, secrets are `SecretSource`s. What is the same as the user wrote it comes from
`model.py`; how the rest becomes this is `resolve.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from sidecar.config.model import (
    Admin,
    Basic,
    Client,
    ClientCredentials,
    Credential,
    FileStore,
    Guard,
    IssuerLimits,
    Limits,
    Logging,
    MemoryStore,
    NoCredential,
    RedisStore,
    Refresh,
    SessionLogin,
    StaticToken,
    Tls,
    TokenEndpoint,
    TokenRequests,
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


GRPC = "grpc"
"""The name under which gRPC stands beside the routes."""
TOKEN_ENDPOINT = "token_endpoint"  # noqa: S105
"""The same for the token endpoint."""


@dataclass(frozen=True, slots=True)
class Grpc:
    """Zeebe's gRPC: a listener of its own, and what stands behind it."""

    listen: TcpAddress
    upstream: Upstream
    credential: str
    audience: str | None
    tls: Tls = Tls()
    max_message: int = 16 << 20
    """Bytes of the largest message in either direction."""
    connect: float = 5.0
    """Seconds that connecting may take."""
    proxy: str | None = field(default=None, repr=False)
    """The forward proxy's URL from `HTTPS_PROXY` and `NO_PROXY`; it may hold a password."""

    @property
    def route(self) -> Route:
        """What it has in common with HTTP's routes; instead of a prefix it has the listener's address."""
        prefix, rest = f"grpc://{self.listen}", (self.upstream, self.credential, self.audience)
        return Route(GRPC, None, prefix, *rest, tls=self.tls, proxy=self.proxy)


@dataclass(frozen=True, slots=True)
class Settings:
    """One complete configuration."""

    source: str
    """The file's name, or `environment`."""
    listen: Address
    admin: Admin
    credentials: Mapping[str, Credential]
    routes: tuple[Route, ...]
    token_store: TokenStore
    grpc: Grpc | None = None
    clients: Mapping[str, Client] = field(default_factory=dict)
    token_endpoint: TokenEndpoint | None = None
    token_requests: TokenRequests = TokenRequests()
    refresh: Refresh = Refresh()
    guard: Guard = Guard()
    limits: Limits = Limits()
    logging: Logging = Logging()
    drain_delay: float = 0.0
    drain_timeout: float = 25.0
    warnings: tuple[Mistake, ...] = ()
    """What works, and what a person should know of."""

    @property
    def all_routes(self) -> tuple[Route, ...]:
        """Everything that has an upstream and a credential: HTTP's routes, and gRPC's."""
        return self.routes if self.grpc is None else (*self.routes, self.grpc.route)


def place_of(route: Route) -> tuple[str, ...]:
    """The path of the section that a route is configured in."""
    return (GRPC,) if route.name == GRPC else ("routes", route.name)
