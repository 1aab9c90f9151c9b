"""A configuration from the environment variables that Camunda's own documentation and clients name.

`TABLE` has all of them. `load` reads the environment by it, `init` reads the Console's credentials file by it, and
`docs/configuration.md` prints it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sidecar.config.products import GRPC_CURE, GRPC_MISSING, GRPC_PORT, PRODUCTS, Product, has_grpc, is_saas
from sidecar.config.report import BadValueError, Path, Report, quote
from sidecar.config.urls import is_loopback, parse_base, parse_grpc

CLUSTER, CONSOLE, HUB = "cluster", "console", "hub"
STRATEGIES = {
    "OAUTH": "client_credentials",
    "OIDC": "client_credentials",
    "BASIC": "basic",
    "BEARER": "static_token",
    "COOKIE": "session",
    "NONE": "none",
}
"""The credential's type for each value of `CAMUNDA_AUTH_STRATEGY` and of `camunda.client.auth.method`."""

_CLUSTER: Mapping[str, Mapping[str, str]] = {
    "client_credentials": {
        "client_id": "CAMUNDA_CLIENT_ID ZEEBE_CLIENT_ID camunda.client.auth.client-id zeebe.client.cloud.client-id",
        "client_secret": "CAMUNDA_CLIENT_SECRET ZEEBE_CLIENT_SECRET camunda.client.auth.client-secret"
        " zeebe.client.cloud.client-secret",
        "token_url": "CAMUNDA_OAUTH_URL CAMUNDA_AUTHORIZATION_SERVER_URL ZEEBE_AUTHORIZATION_SERVER_URL"
        " camunda.client.auth.token-url camunda.client.auth.issuer zeebe.client.cloud.auth-url",
        "scope": "CAMUNDA_OAUTH_SCOPE CAMUNDA_TOKEN_SCOPE ZEEBE_TOKEN_SCOPE camunda.client.auth.scope"
        " zeebe.client.cloud.scope",
        "resource": "CAMUNDA_TOKEN_RESOURCE ZEEBE_TOKEN_RESOURCE camunda.client.auth.resource",
    },
    "basic": {
        "username": "CAMUNDA_BASIC_AUTH_USERNAME camunda.client.auth.username",
        "password": "CAMUNDA_BASIC_AUTH_PASSWORD camunda.client.auth.password",
    },
    "static_token": {"token": "CAMUNDA_OAUTH_TOKEN"},
    "session": {
        "login_url": "CAMUNDA_COOKIE_AUTH_URL",
        "username": "CAMUNDA_COOKIE_AUTH_USERNAME",
        "password": "CAMUNDA_COOKIE_AUTH_PASSWORD",
    },
}
"""What each type of the cluster's credential is made of. Names in one place of the lists belong to one client."""
_OPTIONAL = {"token_url", "scope", "resource"}
_ADDRESSES = {
    "zeebe": "CAMUNDA_REST_ADDRESS ZEEBE_REST_ADDRESS camunda.client.rest-address camunda.client.zeebe.rest-address"
    " camunda.client.zeebe.base-url zeebe.client.broker.rest-address",
    "hub": "CAMUNDA_HUB_REST_URL",
}
_AUDIENCES = {
    "zeebe": "CAMUNDA_ZEEBE_OAUTH_AUDIENCE CAMUNDA_TOKEN_AUDIENCE ZEEBE_TOKEN_AUDIENCE camunda.client.auth.audience"
    " camunda.client.zeebe.audience zeebe.client.cloud.audience",
}
_OAUTH_URL = "CAMUNDA_OAUTH_URL"
_SUSPECT = re.compile(
    r"(?:CAMUNDA|ZEEBE)_(?!SIDECAR_)\w*(?:URL|URI|ADDRESS|CLIENT_?ID|SECRET|PASSWORD|PASSPHRASE|USERNAME|TOKEN|AUDIENCE"
    r"|SCOPE|ISSUER|AUTH|(?:KEY|CERT|CA|CERTIFICATE|KEYSTORE|TRUSTSTORE)(?:_?PATH)?)"
)
"""The name of a variable that says where to go or who to be."""


def relaxed(name: str) -> tuple[str, ...]:
    """Return the variables of a Spring Boot property: dots become underscores, and dashes go or become underscores."""
    upper = name.upper().replace(".", "_")
    return tuple(dict.fromkeys((upper.replace("-", ""), upper.replace("-", "_"))))


@dataclass(frozen=True, slots=True)
class Row:
    """Some variables, and the key that they become."""

    key: str
    """The key's path in the configuration; empty for what the sidecar knows and does not use."""
    listed: str
    """Variables of the clients for Java, JavaScript, Python and C#; in lower case properties of the Spring starter."""
    note: str = ""
    type: str = ""
    """The type of the credential whose key it is."""

    @property
    def path(self) -> tuple[str, ...]:
        """The key's path as a tuple."""
        return tuple(self.key.split("."))

    @property
    def names(self) -> tuple[str, ...]:
        """Every variable."""
        return tuple(name for each in self.listed.split() for name in (relaxed(each) if each.islower() else (each,)))


_STRATEGY = Row(
    "credentials.cluster.type",
    "CAMUNDA_AUTH_STRATEGY camunda.client.auth.method",
    "`OAUTH`, `OIDC`, `BASIC`, `BEARER`, `COOKIE` or `NONE`. Default: OAuth or Basic, by what else is set.",
)
_REGION = Row(
    "saas.region",
    "CAMUNDA_CLUSTER_REGION camunda.client.cloud.region camunda.client.region zeebe.client.cloud.region",
    "With the cluster's id: its APIs on Camunda SaaS.",
)
_CLUSTER_ID = Row(
    "saas.cluster_id",
    "CAMUNDA_CLUSTER_ID camunda.client.cloud.cluster-id camunda.client.cluster-id zeebe.client.cloud.cluster-id",
)
_SCOPES = Row(
    "",
    "CAMUNDA_CREDENTIALS_SCOPES",
    "Which of the APIs that follow from region and cluster id become routes. Default: all of them.",
)
_GRPC = Row(
    "grpc.upstream",
    "ZEEBE_ADDRESS ZEEBE_GRPC_ADDRESS CAMUNDA_GRPC_ADDRESS camunda.client.grpc-address"
    " zeebe.client.broker.grpc-address zeebe.client.broker.gateway-address",
    "The gRPC API's address, with or without a scheme. `init` takes region and cluster id from `ZEEBE_ADDRESS`.",
)
_GRPC_PLAIN = Row(
    "",
    "ZEEBE_INSECURE_CONNECTION zeebe.client.security.plaintext",
    "`true`: the gRPC API's address is one without TLS, where it has no scheme.",
)
_DISCOVERY = Row(
    "",
    "CAMUNDA_ISSUER_URL CAMUNDA_WELL_KNOWN_CONFIGURATION_URL camunda.client.auth.issuer-url"
    " camunda.client.auth.well-known-configuration-url",
    "A mistake unless another variable names the token endpoint: the sidecar reads no discovery document.",
)


def _credential(name: str, kind: str) -> dict[str, Row]:
    """Return the variables of a credential, by its keys."""
    listed = _CLUSTER.get(kind, {})
    if name != CLUSTER:
        own = {key: f"CAMUNDA_{name.upper()}_{key.upper()}" for key in ("client_id", "client_secret")}
        listed = {**own, "token_url": _OAUTH_URL} if kind == "client_credentials" else {}
    return {key: Row(f"credentials.{name}.{key}", names, type=kind) for key, names in listed.items()}


def _route(name: str) -> tuple[Row, Row]:
    """Return the variables of a product's address and of its audience."""
    upper = name.upper()
    return (
        Row(f"routes.{name}.upstream", _ADDRESSES.get(name, f"CAMUNDA_{upper}_BASE_URL")),
        Row(f"routes.{name}.audience", _AUDIENCES.get(name, f"CAMUNDA_{upper}_OAUTH_AUDIENCE")),
    )


TABLE: tuple[Row, ...] = (
    *(row for kind in _CLUSTER for row in _credential(CLUSTER, kind).values()),
    _STRATEGY,
    *(row for name in (CONSOLE, HUB) for row in _credential(name, "client_credentials").values()),
    *(_REGION, _CLUSTER_ID),
    *(row for name in PRODUCTS for row in _route(name)),
    *(_GRPC, _GRPC_PLAIN, _SCOPES, _DISCOVERY),
)
_KNOWN = frozenset(name for row in TABLE for name in row.names)


def from_environment(environ: Mapping[str, str], report: Report) -> dict[str, Any]:
    """Return a raw configuration, with a route for each product that has both an address and a credential.

    `report.names` gets the variable of each value. Variables that contradict each other are a mistake.
    """
    return _Reader({name: value for name, value in environ.items() if value.strip()}, report).read()


def is_known(name: str) -> bool:
    """Tell whether the table has this variable."""
    return name in _KNOWN


class _Reader:
    def __init__(self, environ: Mapping[str, str], report: Report) -> None:
        self._environ = environ
        self._report = report
        self._credentials: dict[str, dict[str, str]] = {}
        self._routes: dict[str, dict[str, str]] = {}

    def read(self) -> dict[str, Any]:
        for name in (CONSOLE, HUB, CLUSTER):
            if kind := self._kind(name):
                self._add_credential(name, kind)
        saas = self._saas()
        for product in PRODUCTS.values():
            self._add_route(product, saas)
        grpc = self._grpc()
        self._warn_of_unknown()
        if self._credentials and not self._routes and not grpc:
            self._report.mistake(
                (),
                "there are credentials, and no API to use them for",
                "set the API's address, such as CAMUNDA_REST_ADDRESS or CAMUNDA_OPERATE_BASE_URL,"
                " or both CAMUNDA_CLUSTER_ID and CAMUNDA_CLUSTER_REGION",
            )
        sections = {"saas": saas, "credentials": self._credentials, "routes": self._routes, "grpc": grpc}
        return {name: section for name, section in sections.items() if section or name in {"credentials", "routes"}}

    # --- variables -----------------------------------------------------------------------------------------------

    def _first(self, names: Sequence[str]) -> str | None:
        return next((name for name in names if name in self._environ), None)

    def _value(self, path: Path, names: Sequence[str], parse: Callable[[str], object] = parse_base) -> str | None:
        """Return the value of the first variable that is set. It is a mistake if another one means something else."""
        if (first := self._first(names)) is None:
            return None
        self._report.names[path] = first
        for other in names:
            if _normal(self._environ.get(other, self._environ[first]), parse) != _normal(self._environ[first], parse):
                self._report.mistake(path, f"contradicts {other}", "unset the one that is wrong")
        return self._environ[first]

    def _warn_of_unknown(self) -> None:
        for name in sorted(self._environ):
            if name not in _KNOWN and _SUSPECT.fullmatch(name):
                self._report.names["environment", name] = name
                cure = "docs/configuration.md has the variables that are known; what they cannot say, a file can"
                self._report.warning(("environment", name), "is not known to the sidecar: it has no effect", cure)

    # --- credentials ---------------------------------------------------------------------------------------------

    def _kind(self, name: str) -> str | None:
        """Return the type of a credential, or None where no variable says who to be."""
        given = {kind: variable for kind in ("client_credentials", "basic") if (variable := self._given(name, kind))}
        if name == CLUSTER and (strategy := self._value(_STRATEGY.path, _STRATEGY.names)):
            if strategy.upper() not in STRATEGIES:
                wanted = f"set one of: {', '.join(STRATEGIES)}"
                self._report.mistake(_STRATEGY.path, f"{quote(strategy)} is not supported".lstrip(), wanted)
            return STRATEGIES.get(strategy.upper(), "none")
        if len(given) > 1:
            self._report.names[_STRATEGY.path], other = given.values()
            cure = f"unset one of them, or set {_STRATEGY.names[0]} to OAUTH or BASIC"
            self._report.mistake(_STRATEGY.path, f"contradicts {other}", cure)
        return next(iter(given), None)

    def _given(self, name: str, kind: str) -> str | None:
        """Return the first variable that is set of those that a credential of this type must have."""
        rows = _credential(name, kind).items()
        return self._first([each for key, row in rows if key not in _OPTIONAL for each in row.names])

    def _add_credential(self, name: str, kind: str) -> None:
        """Add a credential, also one of which only half is set: the other half is a mistake by its variable's name."""
        found = {"type": kind}
        rows, given = _credential(name, kind), self._given(name, kind)
        place = next((row.names.index(given) for row in rows.values() if given in row.names), 0)
        for key, row in rows.items():
            self._report.names[row.path] = row.names[0 if key in _OPTIONAL else place]
            if value := self._value(row.path, self._names(row)):
                found[key] = value
            elif key not in _OPTIONAL:
                self._report.mistake(row.path, "is missing", f"set it beside {given or _STRATEGY.names[0]}")
        if "token_url" in rows and "token_url" not in found and name == CLUSTER:
            self._refuse_discovery(rows["token_url"].path)
        self._credentials[name] = found

    def _names(self, row: Row) -> Sequence[str]:
        """Return a key's variables, without CAMUNDA_OAUTH_URL where only other clients need it."""
        own = [name for name in row.names if name != _OAUTH_URL]
        return own if self._credentials and self._first(own) else row.names

    def _refuse_discovery(self, path: Path) -> None:
        if variable := self._first(_DISCOVERY.names):
            self._report.names[path] = variable
            cure = f"set {_OAUTH_URL} to what the issuer's discovery document calls token_endpoint"
            self._report.mistake(path, "names an issuer, and not its token endpoint", cure)

    # --- routes --------------------------------------------------------------------------------------------------

    def _saas(self) -> dict[str, str]:
        """Return the cluster on Camunda SaaS, where both its region and its id are set."""
        rows = (_REGION, _CLUSTER_ID)
        found = {row.path[1]: value for row in rows if (value := self._value(row.path, row.names))}
        return found if len(found) == len(rows) else {}

    def _add_route(self, product: Product, saas: Mapping[str, str]) -> None:
        address, audience = _route(product.name)
        upstream = self._value(address.path, address.names)
        credential = _credential_of(product, self._credentials, has_address=upstream is not None)
        if credential is None or (upstream is None and product.of_cluster and not self._is_granted(product, saas)):
            return
        route = {"credential": credential}
        if upstream is not None:
            route["upstream"] = upstream
            self._compare(address.path, upstream, product, saas)
        if value := self._value(audience.path, audience.names):
            route["audience"] = value
        self._routes[product.name] = route

    def _grpc(self) -> dict[str, str]:
        """Return the section for gRPC, which is empty where its address is not given or gRPC cannot be served."""
        # One that says whether there is TLS goes before one that leaves it open.
        names = sorted(_GRPC.names, key=lambda name: "://" not in self._environ.get(name, ""))
        address = self._value(_GRPC.path, names, _host_and_port)
        if address is None or CLUSTER not in self._credentials or not self._is_in_scope("zeebe"):
            return {}
        if not has_grpc():
            self._report.warning(_GRPC.path, f"has no effect: gRPC {GRPC_MISSING}", GRPC_CURE)
            return {}
        if "://" not in address and any(self._environ.get(each, "").lower() == "true" for each in _GRPC_PLAIN.names):
            address = f"http://{address}"
        with suppress(BadValueError):
            upstream = parse_grpc(address)
            address = str(upstream)
            if is_loopback(upstream.host) and upstream.port == GRPC_PORT:
                what = f"is where the sidecar's own clients go: nothing is served at {GRPC_PORT}"
                self._report.warning(_GRPC.path, what, "give the gateway's address in a file, with another grpc.listen")
                return {}
        audience = self._value(("grpc", "audience"), _route("zeebe")[1].names)
        section = {"credential": CLUSTER, "upstream": address}
        return section if audience is None else {**section, "audience": audience}

    def _is_granted(self, product: Product, saas: Mapping[str, str]) -> bool:
        """Tell whether the cluster's id gives this API an address, and the client's scopes do not exclude it."""
        kind = self._credentials.get(CLUSTER, {}).get("type")
        return bool(saas) and kind == "client_credentials" and self._is_in_scope(product.name)

    def _is_in_scope(self, product: str) -> bool:
        scopes = {scope.strip().lower() for scope in self._environ.get(_SCOPES.listed, "").split(",")} & PRODUCTS.keys()
        return not scopes or product in scopes

    def _compare(self, path: Path, upstream: str, product: Product, saas: Mapping[str, str]) -> None:
        """Compare an address on Camunda SaaS with the cluster's region and id."""
        if not saas or not product.of_cluster:
            return
        with suppress(BadValueError):
            address = parse_base(upstream.rstrip("/").removesuffix("/v2"))
            if is_saas(address.host) and str(address) != product.saas_upstream.format(**saas):
                others = " and ".join(self._report.names[row.path] for row in (_REGION, _CLUSTER_ID))
                self._report.mistake(path, f"contradicts {others}", "unset what is wrong")


def _normal(value: str, parse: Callable[[str], object]) -> str:
    """Return an address without what may be left out, and any other value as it is."""
    with suppress(BadValueError):
        return str(parse(value.rstrip("/").removesuffix("/v2")))
    return value


def _host_and_port(address: str) -> tuple[str, int]:
    upstream = parse_grpc(address)
    return upstream.host, upstream.port


def _credential_of(product: Product, credentials: Mapping[str, object], *, has_address: bool) -> str | None:
    """Return the name of the credential that an API takes.

    Hub and Modeler take Console's client on SaaS (Camunda's own SDKs and guides do), Hub its own first. A cluster's
    client serves Modeler where there is no other and its address is given: self-managed, where one client may do all.
    """
    if product.of_cluster:
        candidates: tuple[str, ...] = (CLUSTER,)
    elif product.name == "hub":
        candidates = (HUB, CONSOLE)
    elif product.name == "modeler":
        candidates = (CONSOLE, CLUSTER) if has_address else (CONSOLE,)
    else:
        candidates = (CONSOLE,)
    return next((name for name in candidates if name in credentials), None)
