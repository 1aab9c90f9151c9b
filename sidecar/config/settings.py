"""The resolved configuration: frozen, complete, every default filled in. What the rest of the program works from.

Durations are seconds, sizes are bytes, secrets are `SecretSource`s. What the user may write is `model.py`; how one
becomes the other is `resolve.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sidecar.errors import Mistake
from sidecar.secret import SecretSource


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A host (name or address, IPv6 without brackets) and a port; port 0 is any free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A Unix socket's path."""

    path: Path

    def __str__(self) -> str:
        return f"unix:{self.path}"


Address = TcpAddress | UnixAddress


@dataclass(frozen=True, slots=True)
class Tls:
    """What a TLS client needs beyond the system's own roots; TLS 1.2 is the least."""

    ca_file: Path | None = None
    client_certificate_file: Path | None = None
    client_key_file: Path | None = None
    client_key_password: SecretSource | None = None


# --- credentials -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ClientCredentials:
    """RFC 6749, 4.4."""

    name: str
    token_url: str
    client_id: str
    client_secret: SecretSource | None = None
    request_format: Literal["form", "json"] = "form"
    client_authentication: Literal["body", "basic", "private_key_jwt", "tls"] = "body"
    scope: str | None = None
    resource: str | None = None
    extra: Mapping[str, str] = field(default_factory=dict, repr=False)
    """More fields of the token request; an issuer of one's own may want a secret there."""
    private_key: SecretSource | None = None
    """PEM, for `private_key_jwt` (RFC 7523)."""
    private_key_password: SecretSource | None = None
    certificate_file: Path | None = None
    """PEM; its thumbprint goes into the assertion's header (`x5t`, `x5t#S256`), as Entra ID wants it."""
    key_id: str | None = None
    """`kid` in the assertion's header, where the issuer knows the key by a name."""
    assertion_audience: str | None = None
    """`aud` of the assertion; the token URL where nothing else is said."""
    assertion_algorithm: str | None = None
    """JWS algorithm; by the key's type where nothing else is said (RS256, ES256, EdDSA, …)."""
    tls: Tls = Tls()
    proxy: str | None = field(default=None, repr=False)
    """The forward proxy's URL from `HTTPS_PROXY` and `NO_PROXY`; it may hold a password."""


@dataclass(frozen=True, slots=True)
class StaticToken:
    """A token that somebody else renews: Optimize's shared secret, a mounted service-account token."""

    name: str
    token: SecretSource


@dataclass(frozen=True, slots=True)
class SessionLogin:
    """Cookie login of self-managed Operate and Tasklist (Spring Security)."""

    name: str
    login_url: str
    username: str
    password: SecretSource
    request_format: Literal["form", "query"] = "form"
    """Whether user and password travel as a form body or in the query, as Operate's old API has it."""
    tls: Tls = Tls()
    proxy: str | None = field(default=None, repr=False)
    """The forward proxy's URL from `HTTPS_PROXY` and `NO_PROXY`; it may hold a password."""


@dataclass(frozen=True, slots=True)
class Basic:
    """RFC 7617."""

    name: str
    username: str
    password: SecretSource


@dataclass(frozen=True, slots=True)
class NoCredential:
    """Forwarded as it is, less the client's own credentials."""

    name: str


Credential = ClientCredentials | StaticToken | SessionLogin | Basic | NoCredential


# --- routes ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Upstream:
    """An upstream's base URL, taken apart."""

    scheme: Literal["http", "https"]
    host: str
    """A name or an address, IPv6 without brackets."""
    port: int
    base_path: str
    """Without a trailing slash; empty for the root."""

    @property
    def authority(self) -> str:
        """`Host`'s value: without a default port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = 443 if self.scheme == "https" else 80
        return host if self.port == default else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """Scheme and authority: `https://example.com`."""
        return f"{self.scheme}://{self.authority}"

    def __str__(self) -> str:
        return f"{self.origin}{self.base_path}"


@dataclass(frozen=True, slots=True)
class Rule:
    """`GET /api/public/**`: a method (None: any; GET includes HEAD) and a pattern for the path after the prefix."""

    method: str | None
    pattern: str

    def __str__(self) -> str:
        return f"{self.method} {self.pattern}" if self.method else self.pattern


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


# --- everything --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MemoryStore:
    """Tokens are this process's own."""


@dataclass(frozen=True, slots=True)
class FileStore:
    """Shared by every process that uses the directory."""

    directory: Path
    group: str | None = None


@dataclass(frozen=True, slots=True)
class RedisStore:
    """Shared by many hosts. `url` may hold a password."""

    url: SecretSource


TokenStore = MemoryStore | FileStore | RedisStore


@dataclass(frozen=True, slots=True)
class TokenRequests:
    """How often the issuers may be asked, and how long a client waits."""

    min_interval: float = 1.25
    max_wait: float = 10.0
    timeout: float = 5.0
    issuers: Mapping[str, float] = field(default_factory=dict)
    """`min_interval` of single issuers, by origin."""


@dataclass(frozen=True, slots=True)
class Refresh:
    """When a token is renewed: share of its life, and seconds before its end."""

    after: float = 0.8
    leeway: float = 30.0


@dataclass(frozen=True, slots=True)
class RequiredHeader:
    """A header that must be there; with a value, exactly that."""

    name: str
    value: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Guard:
    """Who may come in."""

    hosts: tuple[str, ...] = ()
    require_header: RequiredHeader | None = None
    allow_remote: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client may use."""

    header_bytes: int = 64 << 10
    head_timeout: float = 10.0
    replay_bytes: int = 64 << 10
    connections: int = 10_000


@dataclass(frozen=True, slots=True)
class Logging:
    """Where the volume is set."""

    format: Literal["json", "console"] = "json"
    level: Literal["debug", "info", "warning", "error"] = "info"
    access: Literal["none", "errors", "all"] = "errors"


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
