"""A configuration from nothing but the environment variables that Camunda's own documentation tells people to set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sidecar.config.products import PRODUCTS, Product
from sidecar.config.report import Path

CLUSTER, CONSOLE, HUB = "cluster", "console", "hub"


@dataclass(frozen=True, slots=True)
class ClientVariables:
    """The variables that hold one client, the first pair of which an id is set wins, and its issuer's."""

    pairs: tuple[tuple[str, str], ...]
    token_url: tuple[str, ...]


CLIENTS: dict[str, ClientVariables] = {
    CLUSTER: ClientVariables(
        (("ZEEBE_CLIENT_ID", "ZEEBE_CLIENT_SECRET"), ("CAMUNDA_CLIENT_ID", "CAMUNDA_CLIENT_SECRET")),
        ("ZEEBE_AUTHORIZATION_SERVER_URL", "CAMUNDA_OAUTH_URL"),
    ),
    CONSOLE: ClientVariables((("CAMUNDA_CONSOLE_CLIENT_ID", "CAMUNDA_CONSOLE_CLIENT_SECRET"),), ("CAMUNDA_OAUTH_URL",)),
    HUB: ClientVariables((("CAMUNDA_HUB_CLIENT_ID", "CAMUNDA_HUB_CLIENT_SECRET"),), ("CAMUNDA_OAUTH_URL",)),
}


@dataclass(slots=True)
class FromEnvironment:
    """The raw configuration, and which variable each of its values came from."""

    raw: dict[str, dict[str, dict[str, object]]] = field(default_factory=lambda: {"credentials": {}, "routes": {}})
    names: dict[Path, str] = field(default_factory=dict)


def from_environment(environ: Mapping[str, str]) -> FromEnvironment:
    """A route for each product that has both a base URL and a credential."""
    result = FromEnvironment()
    for name, variables in CLIENTS.items():
        _add_credential(result, name, variables, environ)
    for product in PRODUCTS.values():
        _add_route(result, product, environ)
    return result


def _first(environ: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    return next((name for name in names if environ.get(name)), None)


def _add_credential(result: FromEnvironment, name: str, variables: ClientVariables, environ: Mapping[str, str]) -> None:
    """A client of which only half is set is added too: what is missing is then reported by its variable's name."""
    pair = next((pair for pair in variables.pairs if environ.get(pair[0])), None)
    pair = pair or next((pair for pair in variables.pairs if environ.get(pair[1])), None)
    if pair is None:
        return
    sources = {"client_id": pair[0], "client_secret": pair[1], "token_url": _first(environ, variables.token_url)}
    credential: dict[str, object] = {"type": "client_credentials"}
    for key, variable in sources.items():
        if variable:
            result.names["credentials", name, key] = variable
            if environ.get(variable):
                credential[key] = environ[variable]
    result.raw["credentials"][name] = credential


def _add_route(result: FromEnvironment, product: Product, environ: Mapping[str, str]) -> None:
    base_url = _first(environ, product.base_url_variables)
    credential = _credential_of(product, result.raw["credentials"], has_base_url=base_url is not None)
    if credential is None or (base_url is None and product.of_cluster):
        return
    route: dict[str, object] = {"credential": credential}
    for key, variable in (("upstream", base_url), ("audience", _first(environ, product.audience_variables))):
        if variable:
            route[key] = environ[variable]
            result.names["routes", product.name, key] = variable
    result.raw["routes"][product.name] = route


def _credential_of(product: Product, credentials: Mapping[str, object], *, has_base_url: bool) -> str | None:
    """Which client an API takes.

    Hub and Modeler take Console's client on SaaS (Camunda's own SDKs and guides do), Hub its own first. A cluster's
    client serves Modeler where there is no other and its address is given: self-managed, where one client may do all.
    """
    if product.of_cluster:
        candidates: tuple[str, ...] = (CLUSTER,)
    elif product.name == "hub":
        candidates = (HUB, CONSOLE)
    elif product.name == "modeler":
        candidates = (CONSOLE, CLUSTER) if has_base_url else (CONSOLE,)
    else:
        candidates = (CONSOLE,)
    return next((name for name in candidates if name in credentials), None)
