"""Checks of the sidecar's own listeners: who can reach them, and that no upstream is one of them."""

from __future__ import annotations

import ipaddress
import socket

from sidecar.config.report import Path, Report
from sidecar.config.settings import (
    AUTHORIZE,
    Address,
    ClientCredentials,
    SessionLogin,
    Settings,
    TcpAddress,
    Upstream,
    place_of,
)
from sidecar.config.urls import endpoint, is_loopback


def check_listeners(settings: Settings, report: Report) -> None:
    """Refuse a remote listener that nobody asked for, two listeners on one address, and loops."""
    taken: dict[Address, str] = {}
    for key, address in _listeners(settings).items():
        if address in taken and not (isinstance(address, TcpAddress) and address.port == 0):
            same = f"is the same address as {taken[address]}"
            report.mistake(tuple(key.split(".")), same, "give each a port of its own")
        taken.setdefault(address, key)
        if key != "admin.listen" and isinstance(address, TcpAddress) and not is_loopback(address.host):
            _check_remote(key, settings, report)
    for route in settings.all_routes:
        if route.name == AUTHORIZE and settings.authorize is not None:
            report.mistake(("routes", AUTHORIZE), "has the name of the section authorize", "give it another one")
        _check_loop(route.upstream, (*place_of(route), "upstream"), settings, report)
    for name, credential in settings.credentials.items():
        match credential:
            case ClientCredentials(token_url=url):
                _check_loop(endpoint(url), ("credentials", name, "token_url"), settings, report)
            case SessionLogin(login_url=url):
                _check_loop(endpoint(url), ("credentials", name, "login_url"), settings, report)
            case _:
                pass


def _listeners(settings: Settings) -> dict[str, Address]:
    listeners: dict[str, Address] = {"listen": settings.listen, "admin.listen": settings.admin.listen}
    if settings.authorize is not None:
        listeners["authorize.listen"] = settings.authorize.listen
    return listeners if settings.grpc is None else {**listeners, "grpc.listen": settings.grpc.listen}


def _check_remote(key: str, settings: Settings, report: Report) -> None:
    where = tuple(key.split("."))
    if not settings.guard.allow_remote:
        report.mistake(
            where,
            "is an address that other machines reach",
            "listen on 127.0.0.1, or set guard: {allow_remote: true} or CAMUNDA_SIDECAR_ALLOW_REMOTE=true, and know"
            " that whoever comes acts with your rights",
        )
        return
    has_clients = key == "listen" and (settings.clients_only or _asks_for_certificates(settings))
    if settings.guard.require_header is None and not has_clients:
        report.warning(
            where,
            "is an address that other machines reach: whoever can connect acts with these credentials",
            "add listen_tls and clients, or restrict it by a network policy and set guard.require_header",
        )
    if not settings.guard.hosts and key == "listen":
        report.warning(
            ("guard", "hosts"), "is empty: remote clients get 421", "list the names by which clients call the sidecar"
        )


def _asks_for_certificates(settings: Settings) -> bool:
    return settings.listen_tls is not None and settings.listen_tls.client_ca_file is not None


def _check_loop(upstream: Upstream, where: Path, settings: Settings, report: Report) -> None:
    for key, address in _listeners(settings).items():
        if reaches(upstream, address):
            report.mistake(where, f"is the sidecar's own {key}", "give the address of the real service")


def reaches(upstream: Upstream, address: Address) -> bool:
    """Tell whether a connection to `upstream` surely ends at `address` on this machine. No name is looked up."""
    if not isinstance(address, TcpAddress) or upstream.port != address.port:
        return False
    if upstream.host == address.host:
        return True
    is_local = is_loopback(upstream.host) or _is_unspecified(upstream.host)
    if _is_unspecified(address.host):
        return is_local or upstream.host == socket.gethostname().lower()
    return is_local and is_loopback(address.host)


def _is_unspecified(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False
