"""How routes and gRPC's section are filled in with the defaults of their products, and checked."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

from msgspec.structs import replace

from sidecar.config.grpc_extra import GRPC_CURE, GRPC_MISSING, has_grpc
from sidecar.config.model import BY_PRODUCT
from sidecar.config.products import PRODUCTS, SAAS_GRPC, SAAS_TOKEN_URL, Product, is_saas
from sidecar.config.report import ENVIRONMENT, Path, Report, quote
from sidecar.config.resolve_credentials import Credentials
from sidecar.config.settings import (
    GRPC,
    Basic,
    ClientCredentials,
    Credential,
    Grpc,
    Route,
    Settings,
    StaticToken,
    Tls,
    place_of,
)
from sidecar.config.urls import is_loopback, parse_base
from sidecar.config.values import NOWHERE, Upstream

RESPONSE_SECONDS = 60.0
"""The limit for a response's head where the route is no product."""

RouteOrGrpc = TypeVar("RouteOrGrpc", Route, Grpc)


@dataclass(frozen=True, slots=True)
class Routes:
    """It resolves one route after the other."""

    report: Report
    credentials: Credentials
    written: Settings

    def resolve(self) -> tuple[dict[str, Route], Grpc | None]:
        """Return all routes in the order in which they were written, and gRPC's section."""
        routes = {name: self._route(route) for name, route in self.written.routes.items()}
        grpc = None if self.written.grpc is None else self._grpc(self.written.grpc)
        self._check_prefixes(routes.values())
        self._check_use([*routes.values(), *([] if grpc is None else [grpc.route])])
        return routes, grpc

    def _grpc(self, written: Grpc) -> Grpc:
        if not has_grpc():
            self.report.mistake((GRPC,), GRPC_MISSING, GRPC_CURE)
        if GRPC in self.written.routes:
            self.report.mistake(("routes", GRPC), "has the name of the section grpc", "give it another one")
        return self._filled_in(written, dataclasses.replace(PRODUCTS["zeebe"], saas_upstream=SAAS_GRPC), (GRPC,))

    def _route(self, written: Route) -> Route:
        product = PRODUCTS.get(written.product or written.name)
        response = written.timeouts.response
        if response is None:
            response = product.response_timeout if product else RESPONSE_SECONDS
        route = replace(
            written,
            product=product.name if product else None,
            prefix=written.prefix or f"/{written.name}",
            timeouts=replace(written.timeouts, response=response),
        )
        if route.public is None:
            route = replace(route, public=product.public if product else ())
        return self._filled_in(route, product, ("routes", route.name))

    def _filled_in(self, written: RouteOrGrpc, product: Product | None, where: Path) -> RouteOrGrpc:
        credential = self._credential(written, where)
        upstream = self._upstream(product, written, credential, where)
        audience = self._audience(product, written, credential, where)
        self._check_tls(written.tls, upstream, where)
        return replace(written, upstream=upstream, audience=audience, proxy=self.credentials.proxy(upstream))

    def _check_tls(self, written: Tls, upstream: Upstream, where: Path) -> None:
        self.credentials.check_tls(written, (*where, "tls"))
        if written != Tls() and upstream.scheme == "http":
            self.report.warning((*where, "tls"), "has no effect on a plain http upstream", "use https, or remove it")

    def _credential(self, written: Route | Grpc, where: Path) -> Credential | None:
        known = self.written.credentials
        credential = known.get(written.credential)
        if credential is None and not self.report.is_wrong(("credentials", written.credential)):
            cure = f"use one of: {', '.join(known)}" if known else "add it under credentials"
            name = quote(written.credential)
            self.report.mistake((*where, "credential"), f"{name} is not the name of a credential".lstrip(), cure)
        return credential

    def _upstream(
        self,
        product: Product | None,
        written: Route | Grpc,
        credential: Credential | None,
        where: Path,
    ) -> Upstream:
        if written.upstream != NOWHERE:
            return _without_version(written.upstream) if product and product.name == "zeebe" else written.upstream
        here = (*where, "upstream")
        if product is None:
            self.report.mistake(here, "is missing", f"add the API's base URL; products are: {', '.join(PRODUCTS)}")
            return NOWHERE
        if not isinstance(credential, ClientCredentials | None) or _is_self_managed(credential):
            cure = "this credential is not Camunda SaaS's, so give the API's base URL"
            self.report.mistake(here, "is missing", cure)
            return NOWHERE
        saas = self.written.saas
        if saas is None and product.of_cluster:
            if not self.report.is_wrong(("saas",)):
                cure = "add it, or saas: {region: …, cluster_id: …} at the top, which fills it in"
                self.report.mistake(here, "is missing", cure)
            return NOWHERE
        region, cluster_id = (saas.region, saas.cluster_id) if saas else ("", "")
        return parse_base(product.saas_upstream.format(region=region, cluster_id=cluster_id))

    def _audience(
        self,
        product: Product | None,
        written: Route | Grpc,
        credential: Credential | None,
        where: Path,
    ) -> str | None:
        if credential is not None and not isinstance(credential, ClientCredentials):
            if written.audience not in {BY_PRODUCT, None}:
                self.report.warning((*where, "audience"), "has no effect with this type of credential", "remove it")
            return None
        if written.audience != BY_PRODUCT:
            return written.audience
        if product is None or credential is None or credential.entra:
            return None
        return product.identity_audience if credential.identity else product.audience

    def _check_prefixes(self, routes: Iterable[Route]) -> None:
        taken: dict[str, str] = {}
        for route in routes:
            if route.prefix in taken:
                self.report.mistake(
                    ("routes", route.name, "prefix"),
                    f"is {route.prefix}, which route {taken[route.prefix]} has already",
                    "give each route a prefix of its own",
                )
            taken.setdefault(route.prefix, route.name)

    def _check_use(self, routes: list[Route]) -> None:
        used = {name: [route for route in routes if route.credential == name] for name in self.written.credentials}
        for name, users in used.items():
            if not users:
                self.report.warning(("credentials", name), "is used by no route", "remove it, or name it in a route")
            credential = self.written.credentials[name]
            if isinstance(credential, StaticToken | Basic):
                for route in users:
                    self._warn_plain(route)
            if isinstance(credential, ClientCredentials):
                self._check_issuer(name, credential, users)

    def _check_issuer(self, name: str, written: ClientCredentials, users: list[Route]) -> None:
        """Refuse a client that is not Camunda SaaS's and names no issuer: its secret would go to the SaaS login."""
        foreign = [route for route in users if not is_saas(route.upstream.host) and route.upstream != NOWHERE]
        if not foreign or written.token_url or written.identity or written.entra:
            return
        if self.report.source == ENVIRONMENT:
            say = self.report.mistake
        elif len(foreign) < len(users):
            return  # the route on Camunda SaaS beside it shows whose client this is
        else:
            # What listens on loopback may be anybody's: a tunnel, a test.
            is_local = all(is_loopback(route.upstream.host) for route in foreign)
            say = self.report.warning if is_local else self.report.mistake
        upstream = self.report.name((*place_of(foreign[0]), "upstream"))
        say(
            ("credentials", name, "token_url"),
            f"is not set, while {upstream} is not Camunda SaaS's: the secret would go to {SAAS_TOKEN_URL}",
            "set it to the token endpoint that this client belongs to",
        )

    def _warn_plain(self, route: Route) -> None:
        if route.upstream.scheme == "http" and not is_loopback(route.upstream.host):
            self.report.warning(
                (*place_of(route), "upstream"),
                "is plain http: a secret that does not expire crosses the network unencrypted",
                "use https",
            )


def _without_version(upstream: Upstream) -> Upstream:
    """Return the orchestration cluster's address without `/v2`, which every client appends to it."""
    return dataclasses.replace(upstream, base_path=upstream.base_path.removesuffix("/v2"))


def _is_self_managed(credential: Credential | None) -> bool:
    return isinstance(credential, ClientCredentials) and bool(credential.identity or credential.entra)
