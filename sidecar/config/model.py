"""What the user may write: every key, its default, and a sentence on it.

`shape.py` reads the annotations; the JSON Schema, `docs/configuration.md` and what `check` prints are made from them.
The rest of the program works from the same structs, once `resolve.py` has filled in what depends on other keys. A
field without a description is no key: the program fills it in. Every secret `x` has a twin `x_file` that is not written
down here. Durations are seconds, sizes are bytes, secrets are `SecretSource`s.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Struct

from sidecar.config.products import SAAS_TOKEN_URL, ProductName
from sidecar.config.scalars import (
    BaseUrl,
    ClusterId,
    Count,
    DirectoryPath,
    Duration,
    FilePath,
    GrpcUrl,
    Header,
    HiddenText,
    Host,
    Listen,
    LoginUrl,
    Name,
    Origin,
    PemText,
    PositiveSize,
    Prefix,
    RedisUrl,
    Region,
    RuleText,
    SecretText,
    Share,
    Size,
    Subject,
    Switch,
    TcpListen,
    Text,
    Timeout,
    TokenUrl,
)
from sidecar.config.urls import is_loopback
from sidecar.config.values import NOWHERE, TcpAddress
from sidecar.errors import Mistake

UNWRITTEN = Path()
"""The directory of a store that names none."""
BY_PRODUCT = "\0"
"""The audience of a route that names none: null asks for none, and this nobody can write."""


class Admin(Struct, frozen=True):
    """The listener for operators: /metrics, /livez, /readyz, /status, and the status page at /."""

    listen: Annotated[
        Listen, "Where it listens. A peer that is not loopback gets /metrics, /livez and /readyz and nothing else."
    ] = TcpAddress("127.0.0.1", 8601)
    quitquitquit: Annotated[
        Switch,
        "Whether POST /quitquitquit from this host ends the sidecar, for a Job's program at its end.",
    ] = False


class Saas(Struct, frozen=True):
    """The Camunda SaaS cluster; fills in the upstreams of routes that are products."""

    region: Annotated[Region, "The cluster's region, such as bru-2."]
    cluster_id: Annotated[ClusterId, "The cluster's id, a UUID."]


class Tls(Struct, frozen=True):
    """What a TLS client needs beyond the system's own roots. TLS 1.2 is the least."""

    ca_file: Annotated[FilePath | None, "PEM bundle that is trusted instead of the system's roots."] = None
    client_certificate_file: Annotated[
        FilePath | None, "PEM certificate (and chain) to show; the key may stand in the same file."
    ] = None
    client_key_file: Annotated[FilePath | None, "PEM key of that certificate."] = None
    client_key_password: Annotated[SecretText | None, "The key's password."] = None


class Identity(Struct, frozen=True):
    """Self-managed Camunda Identity on Keycloak: the issuer's address, and product audiences such as operate-api."""

    url: Annotated[BaseUrl, "Keycloak's base URL, such as http://keycloak:18080/auth."]
    realm: Annotated[Name, "The realm."] = "camunda-platform"


class Entra(Struct, frozen=True):
    """Microsoft Entra ID: the issuer's address, the scope `<client id>/.default`, and no audience."""

    tenant_id: Annotated[ClusterId, "The directory (tenant) id."]


class Named(Struct, frozen=True):
    """A credential. Its name is the key that it stands under."""

    name: str

    def __repr__(self) -> str:
        """Nothing else: a proxy's URL and an issuer's extra field may be secret too."""
        return f"{type(self).__name__}({self.name!r})"


class ClientCredentials(Named, frozen=True, kw_only=True, tag_field="type", tag="client_credentials"):
    """OAuth client credentials (RFC 6749, 4.4)."""

    token_url: Annotated[
        TokenUrl, f"The issuer's token endpoint. Default: the preset's; for Camunda SaaS's APIs {SAAS_TOKEN_URL}."
    ] = ""
    identity: Annotated[Identity | None, "Preset: self-managed Identity on Keycloak."] = None
    entra: Annotated[Entra | None, "Preset: Microsoft Entra ID."] = None
    client_id: Annotated[Text, "The client's id."]
    client_secret: Annotated[SecretText | None, "The client's secret."] = None
    request_format: Annotated[Literal["form", "json"], "How the token request's body is written."] = "form"
    client_authentication: Annotated[
        Literal["body", "basic", "private_key_jwt", "tls"],
        (
            "How the client proves itself: secret in the body (client_secret_post), by HTTP Basic, by a signed"
            " assertion (RFC 7523), or by its TLS certificate (RFC 8705)."
        ),
    ] = "body"
    scope: Annotated[Text | None, "The token request's `scope`. Default: the preset's."] = None
    resource: Annotated[Text | None, "The token request's `resource` (RFC 8707)."] = None
    extra: Annotated[dict[Text, HiddenText], "More fields of the token request."] = msgspec.field(default_factory=dict)
    private_key: Annotated[PemText | None, "PEM key for private_key_jwt."] = None
    private_key_password: Annotated[SecretText | None, "The key's password."] = None
    certificate_file: Annotated[
        FilePath | None, "PEM certificate whose thumbprint goes into the assertion's header (Entra ID)."
    ] = None
    key_id: Annotated[Text | None, "`kid` in the assertion's header."] = None
    assertion_audience: Annotated[Text | None, "`aud` of the assertion. Default: the token URL."] = None
    assertion_algorithm: Annotated[
        Text | None, "JWS algorithm of the assertion, such as PS256. Default: by the key's type."
    ] = None
    tls: Annotated[Tls, "TLS towards the issuer."] = Tls()
    proxy: str | None = None
    """The forward proxy's URL from `HTTPS_PROXY` and `NO_PROXY`; it may hold a password."""


class StaticToken(Named, frozen=True, tag_field="type", tag="static_token"):
    """A bearer token that somebody else renews: Optimize's shared secret, a mounted service account's token."""

    token: Annotated[SecretText, "The token."]


class SessionLogin(Named, frozen=True, tag_field="type", tag="session"):
    """Cookie login of self-managed Operate and Tasklist."""

    login_url: Annotated[LoginUrl, "Where user and password are sent, such as http://operate:8080/api/login."]
    username: Annotated[Text, "The user."]
    password: Annotated[SecretText, "The password."]
    request_format: Annotated[
        Literal["form", "query"], "Whether user and password travel as a form or in the query."
    ] = "form"
    tls: Annotated[Tls, "TLS towards the login."] = Tls()
    proxy: str | None = None
    """The forward proxy's URL from `HTTPS_PROXY` and `NO_PROXY`; it may hold a password."""


class Basic(Named, frozen=True, tag_field="type", tag="basic"):
    """HTTP Basic (RFC 7617)."""

    username: Annotated[Text, "The user."]
    password: Annotated[SecretText, "The password."]


class NoCredential(Named, frozen=True, tag_field="type", tag="none"):
    """Nothing is attached; the client's own credentials are still removed."""


Credential = ClientCredentials | StaticToken | SessionLogin | Basic | NoCredential


class Timeouts(Struct, frozen=True):
    """Time limits of one exchange with the upstream."""

    connect: Annotated[Timeout, "Connecting, TLS included."] = 5.0
    response: Annotated[
        Duration | None, "From the request's end to the answer's head; 0s is no limit. Default: the product's, else 1m."
    ] = None
    idle: Annotated[Timeout, "Without a byte in either direction."] = 60.0


class Route(Named, frozen=True, kw_only=True):
    """A path prefix bound to an upstream, a credential and an audience. Named after a product, it has its defaults."""

    product: Annotated[
        ProductName | None, "The Camunda API that fills in what is left out. Default: the route's name."
    ] = None
    prefix: Annotated[Prefix, "The local path. Default: `/` and the route's name."] = ""
    upstream: Annotated[BaseUrl, "The API's base URL. Default: the product's, from `saas`."] = NOWHERE
    credential: Annotated[Name, "A name from `credentials`."]
    audience: Annotated[Text | None, "The token's audience; null asks for none. Default: the product's."] = BY_PRODUCT
    public: Annotated[
        tuple[RuleText, ...] | None, "Requests that are forwarded with no Authorization. Default: the product's."
    ] = None
    allow: Annotated[
        tuple[RuleText, ...] | None,
        "Requests that may pass, such as `GET /api/**`; `*` is one segment, `**` any number. Default: all.",
    ] = None
    timeouts: Annotated[Timeouts, "Time limits towards the upstream."] = Timeouts()
    tls: Annotated[Tls, "TLS towards the upstream."] = Tls()
    cookies: Annotated[Literal["drop", "pass"], "Whether the upstream's Set-Cookie reaches the client."] = "drop"
    max_body: Annotated[Size | None, "The largest request body; larger ones get 413. Default: any."] = None
    proxy: str | None = None
    """The forward proxy's URL from `HTTPS_PROXY` and `NO_PROXY`; it may hold a password."""


GRPC = "grpc"
"""The name under which gRPC stands beside the routes."""
TOKEN_ENDPOINT = "token_endpoint"  # noqa: S105
AUTHORIZE = "authorize"
"""The same for the token endpoint."""


class Grpc(Named, frozen=True, kw_only=True):
    """Zeebe's gRPC, for job workers: plaintext on this machine, the token attached to every call."""

    listen: Annotated[TcpListen, "Where gRPC clients come."] = TcpAddress("127.0.0.1", 26500)
    upstream: Annotated[
        GrpcUrl, "The gateway's address, such as https://zeebe:26500; http is without TLS. Default: from `saas`."
    ] = NOWHERE
    credential: Annotated[Name, "A name from `credentials`."]
    audience: Annotated[Text | None, "The token's audience; null asks for none. Default: the product zeebe's."] = (
        BY_PRODUCT
    )
    tls: Annotated[Tls, "TLS towards the gateway."] = Tls()
    max_message: Annotated[PositiveSize, "The largest message, in either direction."] = 16 << 20
    connect: float = 5.0
    """Seconds that connecting may take."""
    proxy: str | None = None
    """The forward proxy's URL from `HTTPS_PROXY` and `NO_PROXY`; it may hold a password."""

    @property
    def route(self) -> Route:
        """What it has in common with HTTP's routes; instead of a prefix it has the listener's address."""
        return Route(
            name=GRPC,
            prefix=f"grpc://{self.listen}",
            upstream=self.upstream,
            credential=self.credential,
            audience=self.audience,
            tls=self.tls,
            proxy=self.proxy,
        )


class Certificate(Struct, frozen=True):
    """What a client's certificate has to be, besides signed by `listen_tls.client_ca_file`."""

    subject: Annotated[
        Subject, "What its subject has in it, as in RFC 4514: `CN=reports,O=Example`. Other attributes do not matter."
    ]


class Client(Named, frozen=True):
    """A program that the sidecar knows. What it may do is what is listed here."""

    secret: Annotated[SecretText | None, "What it shows by HTTP Basic, or at the token endpoint; not the issuer's."] = (
        None
    )
    certificate: Annotated[Certificate | None, "The certificate that it shows instead."] = None
    audiences: Annotated[
        tuple[Text, ...] | None,
        "The audiences that it may have tokens for. Default: its routes'; none where it has `allow`.",
    ] = None
    routes: Annotated[tuple[Name, ...] | None, "The routes that it may use. Default: all; those of `allow`."] = None
    allow: Annotated[
        dict[Name, tuple[RuleText, ...]], "By route, the only requests that it may make there, as a route's `allow`."
    ] = msgspec.field(default_factory=dict)


class ListenTls(Struct, frozen=True):
    """TLS on the proxy's listener. The files are read again when they change."""

    certificate_file: Annotated[FilePath, "PEM certificate (and chain); the key may stand in the same file."]
    key_file: Annotated[FilePath | None, "PEM key of that certificate."] = None
    client_ca_file: Annotated[
        FilePath | None, "PEM bundle: a client has to show a certificate that one of these has signed."
    ] = None


class TokenEndpoint(Struct, frozen=True):
    """A token endpoint on the proxy's listener, for programs that insist on OAuth: they get the sidecar's tokens."""

    path: Annotated[Prefix, "Its path."] = "/oauth/token"
    allow_any_client: Annotated[
        Switch, "Whether a client that is not in `clients` gets a token too; only on loopback and on a Unix socket."
    ] = False


class Authorize(Struct, frozen=True):
    """The helper of other proxies: a route's credential for nginx's auth_request, Envoy's ext_authz, Traefik."""

    listen: Annotated[
        Listen,
        (
            "Where these proxies ask, best unix: and a socket's path: whoever can connect may read every route's"
            " credential."
        ),
    ]


class MemoryStore(Struct, frozen=True, tag_field="type", tag="memory"):
    """Tokens are this process's own."""


class FileStore(Struct, frozen=True, tag_field="type", tag="file"):
    """Shared by every process that uses the directory."""

    directory: Annotated[
        DirectoryPath,
        (
            "The directory. Default: $XDG_STATE_HOME/camunda-sidecar where that is set,"
            " else ~/.local/state/camunda-sidecar."
        ),
    ] = UNWRITTEN
    group: Annotated[Text | None, "The group whose members share it; without one it is the user's alone."] = None


class Sentinel(Struct, frozen=True):
    """Redis Sentinel, which knows the primary of a service."""

    service: Annotated[Name, "The primary's name there, such as mymaster."]
    hosts: Annotated[tuple[TcpListen, ...], "Some of the Sentinels."]
    username: Annotated[Text | None, "The Sentinels' own ACL user."] = None
    password: Annotated[SecretText | None, "The Sentinels' own password."] = None


class RedisStore(Struct, frozen=True, tag_field="type", tag="redis"):
    """Shared by many hosts, over Redis or Valkey."""

    url: Annotated[RedisUrl | None, "Such as redis://redis:6379/0; rediss:// is TLS. Required without `sentinel`."] = (
        None
    )
    username: Annotated[Text | None, "The ACL user. Default: the URL's."] = None
    password: Annotated[SecretText | None, "Its password. Default: the URL's."] = None
    prefix: Annotated[Text, "What every key begins with: several clusters may use one Redis."] = "camunda-sidecar:"
    sentinel: Annotated[Sentinel | None, "Find the primary through Sentinel, instead of `url`."] = None
    cluster: Annotated[Switch, "Whether it is a Redis Cluster."] = False
    tls: Annotated[
        Tls, "TLS with rediss://, and with `sentinel` if any of this is set; read again for each new connection."
    ] = Tls()
    processes: Annotated[
        Count,
        "How many processes share it at most. One that has never reached it asks issuers as seldom as that needs.",
    ] = 3


TokenStore = FileStore | MemoryStore | RedisStore


class IssuerLimits(Struct, frozen=True):
    """The limits of one issuer."""

    min_interval: Annotated[Duration, "The least time between two token requests to it."]


class TokenRequests(Struct, frozen=True):
    """How often issuers are asked, and how long a client waits."""

    min_interval: Annotated[Duration, "The least time between two token requests to one issuer."] = 1.25
    max_wait: Annotated[Duration, "A client's whole wait for a token."] = 10.0
    timeout: Annotated[Timeout, "One attempt to reach the issuer."] = 5.0
    issuers: Annotated[
        dict[Origin, IssuerLimits], "Issuers (scheme, host and port) that have a limit of their own, or none."
    ] = msgspec.field(default_factory=dict)


class Refresh(Struct, frozen=True):
    """When tokens are renewed in the background."""

    after: Annotated[Share, "The share of a token's life after which it is renewed."] = 0.8
    leeway: Annotated[Duration, "The safety before its end."] = 30.0


class Guard(Struct, frozen=True):
    """Who may come in."""

    hosts: Annotated[tuple[Host, ...], "Names, besides local ones, that `Host` may have."] = ()
    require_header: Annotated[Header | None, "A header that every request must have, as `Name` or `Name: value`."] = (
        None
    )
    allow_remote: Annotated[Switch, "Whether `listen` may be an address that other machines reach."] = False


class Limits(Struct, frozen=True):
    """What clients may use."""

    header_bytes: Annotated[PositiveSize, "The largest head of a request, or of any answer."] = 64 << 10
    head_timeout: Annotated[Timeout, "The time in which a request's head must arrive."] = 10.0
    replay_bytes: Annotated[Size, "The largest body that is kept, to send it again with a new token after a 401."] = (
        64 << 10
    )
    connections: Annotated[Count, "Client connections at a time."] = 10_000


class Logging(Struct, frozen=True):
    """Logs go to standard error."""

    format: Annotated[Literal["json", "console"], "One JSON object a line, or colours for a person."] = "json"
    level: Annotated[Literal["debug", "info", "warning", "error"], "The least level that is logged."] = "info"
    access: Annotated[Literal["none", "errors", "all"], "Which requests are logged."] = "errors"


class Settings(Struct, frozen=True, kw_only=True):
    """A camunda-sidecar configuration."""

    listen: Annotated[Listen, "Where clients come: an address, or unix: and a socket's path."] = TcpAddress(
        "127.0.0.1", 8600
    )
    admin: Annotated[Admin, "The listener for operators."] = Admin()
    saas: Annotated[Saas | None, "The Camunda SaaS cluster."] = None
    credentials: Annotated[dict[Name, Credential], "What the sidecar holds, by name."] = msgspec.field(
        default_factory=dict
    )
    routes: Annotated[dict[Name, Route], "What it forwards, by name."] = msgspec.field(default_factory=dict)
    grpc: Annotated[Grpc | None, "Zeebe's gRPC. Default: off."] = None
    listen_tls: Annotated[ListenTls | None, "TLS on `listen`. Default: off."] = None
    clients: Annotated[dict[Name, Client], "The programs that the sidecar knows, by name."] = msgspec.field(
        default_factory=dict
    )
    token_endpoint: Annotated[TokenEndpoint | None, "A local token endpoint. Default: off."] = None
    authorize: Annotated[Authorize | None, "The helper of other proxies. Default: off."] = None
    token_store: Annotated[TokenStore, "Where tokens and their budgets are shared. Default: `type: file`."] = (
        FileStore()
    )
    token_requests: Annotated[TokenRequests, "How often issuers are asked."] = TokenRequests()
    refresh: Annotated[Refresh, "When tokens are renewed."] = Refresh()
    guard: Annotated[Guard, "Who may come in."] = Guard()
    limits: Annotated[Limits, "What clients may use."] = Limits()
    logging: Annotated[Logging, "What is logged."] = Logging()
    reload_on_change: Annotated[Switch, "Whether a changed configuration file is taken into force by itself."] = False
    drain_delay: Annotated[Duration, "How long it goes on serving as before, already not ready, at the end."] = 0.0
    drain_timeout: Annotated[Duration, "How long requests in flight may take to finish at the end."] = 25.0
    source: str = ""
    """The file's name, or `environment`."""
    warnings: tuple[Mistake, ...] = ()
    """What works, and what a person should know of."""

    @property
    def is_remote(self) -> bool:
        """Whether other machines reach the proxy's listener."""
        return isinstance(self.listen, TcpAddress) and not is_loopback(self.listen.host)

    @property
    def clients_only(self) -> bool:
        """Whether nobody but `clients` may use routes: on loopback, they may be for the token endpoint alone."""
        clients = self.clients.values()
        about_routes = any(each.certificate or each.allow or each.routes is not None for each in clients)
        return bool(clients) and (self.is_remote or self.token_endpoint is None or about_routes)

    @property
    def all_routes(self) -> tuple[Route, ...]:
        """Everything that has an upstream and a credential: HTTP's routes, and gRPC's."""
        routes = tuple(self.routes.values())
        return routes if self.grpc is None else (*routes, self.grpc.route)
