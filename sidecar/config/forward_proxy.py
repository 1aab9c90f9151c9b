"""`HTTPS_PROXY` and `NO_PROXY` have the meaning that curl and Go give them.

Only https goes through a proxy, by CONNECT, so that the proxy sees neither token nor secret; plain http to it would
show it both, and a plain-http upstream is a neighbour anyway. Lower-case names win over upper-case ones.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from sidecar.config.report import BadValueError
from sidecar.config.urls import is_loopback
from sidecar.config.values import Upstream

PROXY_VARIABLES = ("https_proxy", "HTTPS_PROXY")


def proxy_for(upstream: Upstream, environ: Mapping[str, str]) -> str | None:
    """Return the forward proxy's URL for an upstream or an issuer, or None where the connection is direct.

    Raises:
        BadValueError: the variable's value is no proxy's URL.
    """
    proxy = environ.get(variable_in_force(environ), "").strip()
    no_proxy = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    if not proxy or upstream.scheme != "https" or is_exempt(upstream, no_proxy):
        return None
    return _parse_proxy(proxy)


def variable_in_force(environ: Mapping[str, str]) -> str:
    """Return the name of the variable that holds the proxy."""
    return next((name for name in PROXY_VARIABLES if environ.get(name)), PROXY_VARIABLES[-1])


def _parse_proxy(text: str) -> str:
    text = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(text)
        valid = bool(parts.hostname) and parts.port != 0 and re.fullmatch(r"[!-~]+", text)
    except ValueError:
        valid = False
    if not valid:
        raise BadValueError("is not a proxy's URL", "write it like http://proxy:3128")
    if parts.scheme != "http":
        cure = "write http://, which is how the proxy is spoken to; what goes through it is encrypted all the same"
        raise BadValueError("is not an http proxy's URL", cure)
    if parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise BadValueError("has more than a host and a port", "write it like http://proxy:3128")
    return text.rstrip("/")


def is_exempt(upstream: Upstream, no_proxy: str) -> bool:
    """Tell whether `no_proxy` covers it: names, suffixes, addresses, networks, each with or without a port, or *."""
    return is_loopback(upstream.host) or any(
        _covers(entry.strip().lower(), upstream.host, upstream.port) for entry in re.split(r"[,\s]+", no_proxy)
    )


def _covers(entry: str, host: str, port: int) -> bool:
    if not entry or entry == "*":
        return bool(entry)
    name, entry_port = _split_port(entry)
    if entry_port is not None and entry_port != port:
        return False
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(name, strict=False)
    except ValueError:  # the host is a name, or the entry is
        suffix = name.removeprefix("*").strip(".")
        return bool(suffix) and f".{host.rstrip('.')}".endswith(f".{suffix}") and not _is_address(host)


def _split_port(entry: str) -> tuple[str, int | None]:
    match = re.fullmatch(r"(?:\[(?P<six>[^\]]*)\]|(?P<name>[^:]*))(?::(?P<port>[0-9]{1,5}))?", entry)
    if match is None:  # an IPv6 address without brackets
        return entry, None
    return match["six"] or match["name"] or "", int(match["port"]) if match["port"] else None


def _is_address(host: str) -> bool:
    try:
        return bool(ipaddress.ip_address(host))
    except ValueError:
        return False
