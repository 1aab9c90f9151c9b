"""What the rest of the program works from: the complete configuration, as `load` returns it, and what it is made of."""

from __future__ import annotations

from sidecar.config.model import (
    AUTHORIZE,
    GRPC,
    TOKEN_ENDPOINT,
    Admin,
    Authorize,
    Basic,
    Certificate,
    Client,
    ClientCredentials,
    Credential,
    FileStore,
    Grpc,
    Guard,
    IssuerLimits,
    Limits,
    ListenTls,
    Logging,
    MemoryStore,
    NoCredential,
    RedisStore,
    Refresh,
    Route,
    SessionLogin,
    Settings,
    StaticToken,
    Timeouts,
    Tls,
    TokenEndpoint,
    TokenRequests,
    TokenStore,
)
from sidecar.config.values import Address, RequiredHeader, Rule, TcpAddress, UnixAddress, Upstream


def place_of(route: Route) -> tuple[str, ...]:
    """The path of the section that a route is configured in."""
    return (GRPC,) if route.name == GRPC else ("routes", route.name)
