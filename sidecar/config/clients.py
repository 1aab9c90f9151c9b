"""Checks of `clients` and `token_endpoint`."""

from __future__ import annotations

from sidecar.config.report import Report
from sidecar.config.settings import TOKEN_ENDPOINT, Settings, TcpAddress, TokenEndpoint
from sidecar.config.urls import is_loopback


def check_clients(settings: Settings, report: Report) -> None:
    """Refuse clients that cannot come in, or may do nothing, and an endpoint that is for nobody or for everybody."""
    known = {route.audience for route in settings.all_routes}
    for name, client in settings.clients.items():
        where = ("clients", name)
        if client.secret is None and not report.is_wrong((*where, "secret_file")):
            report.mistake((*where, "secret"), "is missing", "add secret_file")
        for audience in client.audiences:
            if audience not in known:
                report.mistake((*where, "audiences"), "has one that is no route's audience", "add a route that has it")
        if not client.audiences:
            report.mistake(where, "may do nothing", "list its audiences")
    if settings.token_endpoint is not None:
        _check_endpoint(settings.token_endpoint, settings, report)
    elif settings.clients:
        report.warning(("clients",), "has no effect without token_endpoint", "add token_endpoint: {}")


def _check_endpoint(endpoint: TokenEndpoint, settings: Settings, report: Report) -> None:
    where = (TOKEN_ENDPOINT,)
    for route in settings.routes.values():
        if route.name == TOKEN_ENDPOINT:
            report.mistake(("routes", route.name), "has the name of the section token_endpoint", "give it another one")
        if route.prefix == endpoint.path:
            report.mistake((*where, "path"), f"is the prefix of route {route.name}", "give one of them another path")
    listen = settings.listen
    is_remote = isinstance(listen, TcpAddress) and not is_loopback(listen.host)
    if endpoint.allow_any_client and is_remote:
        cure = "list who may under clients, or listen on 127.0.0.1 or a Unix socket"
        report.mistake((*where, "allow_any_client"), "gives tokens to everybody who reaches `listen`", cure)
    if not endpoint.allow_any_client and not settings.clients:
        cure = "list who may under clients, or set allow_any_client: true on loopback"
        report.mistake(where, "gives a token to nobody", cure)
    if is_remote:
        report.warning(where, "sends tokens over the network in plain text", "listen on 127.0.0.1 or a Unix socket")
