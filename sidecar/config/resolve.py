"""What depends on other keys or on the environment is filled in, and what no key alone can tell is checked."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import TypeVar

from msgspec.structs import replace

from sidecar.config.clients import check_clients
from sidecar.config.files import Files
from sidecar.config.forward_proxy import proxy_for, variable_in_force
from sidecar.config.listeners import check_listeners
from sidecar.config.model import BY_PRODUCT, UNWRITTEN
from sidecar.config.products import (
    GRPC_CURE,
    GRPC_MISSING,
    PRODUCTS,
    SAAS_GRPC,
    SAAS_TOKEN_URL,
    Product,
    has_grpc,
    is_saas,
)
from sidecar.config.report import ENVIRONMENT, BadValueError, Path, Report, quote
from sidecar.config.settings import (
    GRPC,
    Basic,
    ClientCredentials,
    Credential,
    FileStore,
    Grpc,
    RedisStore,
    Route,
    SessionLogin,
    Settings,
    StaticToken,
    Tls,
    TokenStore,
    place_of,
)
from sidecar.config.urls import endpoint, is_loopback, origin, parse_base
from sidecar.config.values import NOWHERE, Upstream

RESPONSE_SECONDS = 60.0
"""The limit for a response's head where the route is no product."""
_OWN_FIELDS = {"grant_type", "client_id", "client_secret", "audience", "scope", "resource"} | {
    *("client_assertion", "client_assertion_type")
}
RouteOrGrpc = TypeVar("RouteOrGrpc", Route, Grpc)


def resolve(written: Settings, files: Files) -> Settings:
    """Return the complete settings.

    Mistakes and warnings go to the report of `files`; with mistakes the settings must not be used.
    """
    result = _Resolver(written, files).resolve()
    _check_issuers(result, files.report)
    check_listeners(result, files.report)
    check_clients(result, files.report)
    return result


class _Resolver:
    def __init__(self, written: Settings, files: Files) -> None:
        self._written = written
        self._files = files
        self._report = files.report

    def resolve(self) -> Settings:
        written, report = self._written, self._report
        if not written.routes and written.grpc is None and not report.is_wrong(("routes",)):
            report.mistake(("routes",), "has no route", "add one, such as operate: {credential: …}")
        credentials = {name: self._credential(credential) for name, credential in written.credentials.items()}
        routes = {name: self._route(route) for name, route in written.routes.items()}
        result = replace(
            written,
            source=report.source,
            credentials=credentials,
            routes=routes,
            grpc=None if written.grpc is None else self._grpc(written.grpc),
            token_store=_store(written.token_store, self._files),
        )
        self._check_prefixes(routes.values())
        self._check_use(result.all_routes)
        return result

    # --- credentials -------------------------------------------------------------------------------------------------

    def _credential(self, written: Credential) -> Credential:
        where = ("credentials", written.name)
        match written:
            case ClientCredentials():
                return self._client_credentials(written, where)
            case SessionLogin(login_url=url, tls=tls):
                self._warn_plain(endpoint(url), (*where, "login_url"), "the password")
                self._check_key(tls, where)
                return replace(written, proxy=self._proxy(endpoint(url)))
            case Basic(username=username) if ":" in username:
                cure = "HTTP Basic cannot carry such a name (RFC 7617)"
                self._report.mistake((*where, "username"), "has a colon in it", cure)
        return written

    def _client_credentials(self, written: ClientCredentials, where: Path) -> ClientCredentials:
        self._check_proof(written, where)
        self._check_key(written.tls, where)
        for field in written.extra:
            if field in _OWN_FIELDS:
                place = (*where, "extra", field)
                self._report.mistake(place, "is a field of its own", f"use the key {field} for it")
        token_url = self._token_url(written, where)
        if written.client_secret is not None:
            self._warn_plain(endpoint(token_url), (*where, "token_url"), "the client's secret")
        scope = written.scope or (f"{written.client_id}/.default" if written.entra else None)
        proxy = self._proxy(endpoint(token_url))
        return replace(written, token_url=token_url, identity=None, entra=None, scope=scope, proxy=proxy)

    def _token_url(self, written: ClientCredentials, where: Path) -> str:
        given = [key for key in ("token_url", "identity", "entra") if getattr(written, key)]
        for key in given[1:]:
            self._report.mistake((*where, key), f"is given besides {given[0]}", "each says where the issuer is")
        if written.token_url:
            return written.token_url
        if written.identity is not None:
            return f"{written.identity.url}/realms/{written.identity.realm}/protocol/openid-connect/token"
        if written.entra is not None:
            return f"https://login.microsoftonline.com/{written.entra.tenant_id}/oauth2/v2.0/token"
        return SAAS_TOKEN_URL

    def _check_proof(self, written: ClientCredentials, where: Path) -> None:
        """Refuse a client without what it authenticates itself by, and warn of what it does not need."""
        report, method = self._report, written.client_authentication
        needed = {"body": "client_secret", "basic": "client_secret", "private_key_jwt": "private_key"}.get(method)
        for key in ("client_secret", "private_key"):
            is_given = getattr(written, key) is not None
            if key == needed and not is_given and not report.is_wrong((*where, f"{key}_file")):
                missing = f"is missing for client_authentication: {method}"
                report.mistake((*where, key), missing, f"add {key} or {key}_file")
            if key != needed and is_given:
                report.warning((*where, key), f"is not used by client_authentication: {method}", "remove one of them")
        if method == "tls" and written.tls.client_certificate_file is None:
            report.mistake(
                (*where, "tls", "client_certificate_file"),
                "is missing for client_authentication: tls",
                "name the certificate, and its key in client_key_file",
            )

    # --- routes ------------------------------------------------------------------------------------------------------

    def _grpc(self, written: Grpc) -> Grpc:
        if not has_grpc():
            self._report.mistake((GRPC,), GRPC_MISSING, GRPC_CURE)
        if GRPC in self._written.routes:
            self._report.mistake(("routes", GRPC), "has the name of the section grpc", "give it another one")
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
        credential = self._credential_of(written, where)
        upstream = self._upstream(product, written, credential, where)
        audience = self._audience(product, written, credential, where)
        self._check_tls(written.tls, upstream, where)
        return replace(written, upstream=upstream, audience=audience, proxy=self._proxy(upstream))

    def _check_tls(self, written: Tls, upstream: Upstream, where: Path) -> None:
        self._check_key(written, where)
        if written != Tls() and upstream.scheme == "http":
            self._report.warning((*where, "tls"), "has no effect on a plain http upstream", "use https, or remove it")

    def _credential_of(self, written: Route | Grpc, where: Path) -> Credential | None:
        known = self._written.credentials
        credential = known.get(written.credential)
        if credential is None and not self._report.is_wrong(("credentials", written.credential)):
            cure = f"use one of: {', '.join(known)}" if known else "add it under credentials"
            name = quote(written.credential)
            self._report.mistake((*where, "credential"), f"{name} is not the name of a credential".lstrip(), cure)
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
            self._report.mistake(here, "is missing", f"add the API's base URL; products are: {', '.join(PRODUCTS)}")
            return NOWHERE
        if not isinstance(credential, ClientCredentials | None) or _is_self_managed(credential):
            cure = "this credential is not Camunda SaaS's, so give the API's base URL"
            self._report.mistake(here, "is missing", cure)
            return NOWHERE
        saas = self._written.saas
        if saas is None and product.of_cluster:
            if not self._report.is_wrong(("saas",)):
                cure = "add it, or saas: {region: …, cluster_id: …} at the top, which fills it in"
                self._report.mistake(here, "is missing", cure)
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
                self._report.warning((*where, "audience"), "has no effect with this type of credential", "remove it")
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
                self._report.mistake(
                    ("routes", route.name, "prefix"),
                    f"is {route.prefix}, which route {taken[route.prefix]} has already",
                    "give each route a prefix of its own",
                )
            taken.setdefault(route.prefix, route.name)

    def _check_use(self, routes: Iterable[Route]) -> None:
        used = {name: [route for route in routes if route.credential == name] for name in self._written.credentials}
        for name, users in used.items():
            if not users:
                self._report.warning(("credentials", name), "is used by no route", "remove it, or name it in a route")
            credential = self._written.credentials[name]
            if isinstance(credential, StaticToken | Basic):
                for route in users:
                    place = (*place_of(route), "upstream")
                    self._warn_plain(route.upstream, place, "a secret that does not expire")
            if isinstance(credential, ClientCredentials):
                self._check_issuer(name, credential, users)

    def _check_issuer(self, name: str, written: ClientCredentials, users: list[Route]) -> None:
        """Refuse a client that is not Camunda SaaS's and names no issuer: its secret would go to the SaaS login."""
        foreign = [route for route in users if not is_saas(route.upstream.host) and route.upstream != NOWHERE]
        if not foreign or written.token_url or written.identity or written.entra:
            return
        if self._report.source == ENVIRONMENT:
            say = self._report.mistake
        elif len(foreign) < len(users):
            return  # the route on Camunda SaaS beside it shows whose client this is
        else:
            # What listens on loopback may be anybody's: a tunnel, a test.
            is_local = all(is_loopback(route.upstream.host) for route in foreign)
            say = self._report.warning if is_local else self._report.mistake
        upstream = self._report.name((*place_of(foreign[0]), "upstream"))
        say(
            ("credentials", name, "token_url"),
            f"is not set, while {upstream} is not Camunda SaaS's: the secret would go to {SAAS_TOKEN_URL}",
            "set it to the token endpoint that this client belongs to",
        )

    # --- both ------------------------------------------------------------------------------------------------------

    def _proxy(self, url: Upstream) -> str | None:
        """Return the forward proxy towards `url`."""
        environ = self._files.environ
        try:
            return proxy_for(url, environ)
        except BadValueError as error:
            variable = variable_in_force(environ)
            self._report.set_by_variable(("environment", variable), variable)
            self._report.mistake(("environment", variable), error.message, error.cure)
            return None

    def _check_key(self, tls: Tls, where: Path) -> None:
        """Refuse a key without a certificate, which proves nothing."""
        if tls.client_key_file and not tls.client_certificate_file:
            place, cure = (*where, "tls", "client_key_file"), "name the certificate too"
            self._report.mistake(place, "is given without client_certificate_file", cure)

    def _warn_plain(self, upstream: Upstream, where: Path, what: str) -> None:
        if upstream.scheme == "http" and not is_loopback(upstream.host):
            self._report.warning(where, f"is plain http: {what} crosses the network unencrypted", "use https")


def _store(written: TokenStore, files: Files) -> TokenStore:
    if isinstance(written, RedisStore):
        missing = written.url is None and written.sentinel is None
        if missing and not files.report.is_wrong(("token_store",)):
            files.report.mistake(("token_store", "url"), "is missing", "write url or url_file, or sentinel")
    if not isinstance(written, FileStore):
        return written
    if written.group is not None and not files.knows_group(written.group):
        place = ("token_store", "group")
        files.report.warning(place, "is no group on this machine", "create it, or correct the name")
    directory = files.state_directory() if written.directory == UNWRITTEN else written.directory
    return FileStore(directory, written.group)


def issuer_of(credential: Credential) -> str | None:
    """Return the origin of a credential's issuer, or None where there is no issuer."""
    match credential:
        case ClientCredentials(token_url=url) | SessionLogin(login_url=url):
            return origin(url)
        case _:
            return None


def _check_issuers(result: Settings, report: Report) -> None:
    known = {issuer_of(credential) for credential in result.credentials.values()}
    for issuer in result.token_requests.issuers:
        if issuer not in known:
            report.warning(
                ("token_requests", "issuers", issuer), "is the issuer of no credential", "compare it with token_url"
            )


def _without_version(upstream: Upstream) -> Upstream:
    """Return the orchestration cluster's address without `/v2`, which every client appends to it."""
    return dataclasses.replace(upstream, base_path=upstream.base_path.removesuffix("/v2"))


def _is_self_managed(credential: Credential | None) -> bool:
    return isinstance(credential, ClientCredentials) and bool(credential.identity or credential.entra)
