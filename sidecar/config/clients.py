"""Checks of `clients`, and of the ways in that are for them: `listen_tls` and `token_endpoint`."""

from __future__ import annotations

from sidecar.config.report import Report
from sidecar.config.settings import TOKEN_ENDPOINT, Client, Settings, TcpAddress, TokenEndpoint, UnixAddress
from sidecar.config.urls import is_loopback


def check_clients(settings: Settings, report: Report) -> None:
    """Refuse clients that cannot come in, and an endpoint that is for nobody or for everybody."""
    subjects: dict[str, str] = {}
    for client in settings.clients.values():
        _check_client(client, settings, report)
        if client.certificate is not None:
            other = subjects.setdefault(client.certificate.subject, client.name)
            if other != client.name:
                where = ("clients", client.name, "certificate", "subject")
                report.mistake(where, f"is that of client {other}", "give each client a certificate of its own")
    if settings.token_endpoint is not None:
        _check_endpoint(settings.token_endpoint, settings, report)
    if settings.listen_tls is not None and isinstance(settings.listen, UnixAddress):
        report.mistake(("listen_tls",), "is no use on a Unix socket", "remove it, or listen on an address")
    if settings.clients and settings.is_remote and settings.listen_tls is None:
        report.warning(("clients",), "show their secrets over the network in plain text", "add listen_tls")
    for key, section in (("grpc", settings.grpc), ("authorize", settings.authorize)):
        listen = section.listen if section is not None else None
        if settings.clients_only and isinstance(listen, TcpAddress) and not is_loopback(listen.host):
            says = f"lets everybody in, while `clients` says who may: {key} knows no clients"
            report.mistake((key, "listen"), says, "listen on 127.0.0.1")


def _check_client(client: Client, settings: Settings, report: Report) -> None:
    where = ("clients", client.name)
    tls = settings.listen_tls
    if client.secret is None and client.certificate is None:
        if not report.is_wrong((*where, "secret_file")) and not report.is_wrong((*where, "certificate")):
            report.mistake(where, "has nothing to show", "add secret_file, or certificate: {subject: …}")
    elif client.certificate is not None and (tls is None or tls.client_ca_file is None):
        report.mistake((*where, "certificate"), "is never asked for", "add listen_tls with client_ca_file")
    audiences = {route.audience for route in settings.all_routes}
    if set(client.audiences or ()) - audiences:
        report.mistake((*where, "audiences"), "has one that is no route's audience", "add a route that has it")
    if client.audiences and settings.token_endpoint is None:
        report.warning((*where, "audiences"), "has no effect without token_endpoint", "add token_endpoint: {}")
    for key, routes in (("routes", client.routes or ()), ("allow", client.allow)):
        if set(routes) - settings.routes.keys():
            report.mistake((*where, key), "names a route that does not exist", "use names from routes")


def _check_endpoint(endpoint: TokenEndpoint, settings: Settings, report: Report) -> None:
    where = (TOKEN_ENDPOINT,)
    for route in settings.routes.values():
        if route.name == TOKEN_ENDPOINT:
            report.mistake(("routes", route.name), "has the name of the section token_endpoint", "give it another one")
        if route.prefix == endpoint.path:
            report.mistake((*where, "path"), f"is the prefix of route {route.name}", "give one of them another path")
    if endpoint.allow_any_client and settings.is_remote:
        cure = "list who may under clients, or listen on 127.0.0.1 or a Unix socket"
        report.mistake((*where, "allow_any_client"), "gives tokens to everybody who reaches `listen`", cure)
    if not endpoint.allow_any_client and not settings.clients:
        cure = "list who may under clients, or set allow_any_client: true on loopback"
        report.mistake(where, "gives a token to nobody", cure)
    if settings.is_remote and settings.listen_tls is None:
        report.warning(where, "sends tokens over the network in plain text", "add listen_tls, or listen on 127.0.0.1")
