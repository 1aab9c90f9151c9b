"""URLs and addresses are taken apart once, and refused where they could be read in two ways."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Literal
from urllib.parse import SplitResult, unquote, urlsplit

from sidecar.config.report import BadValueError
from sidecar.config.values import Address, TcpAddress, UnixAddress, Upstream

_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_.])?")
_PATH = re.compile(r"(?:/(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})*)*")
_QUERY = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*")
_PORTS = {"http": 80, "https": 443}
_MAX_UNIX_PATH = 107
_LIKE = "write it like https://example.com/path"


def parse_base(text: str) -> Upstream:
    """Read an upstream's base URL, which has no user, no query, no fragment and no path that leaves its place."""
    upstream, parts = _parse(text)
    if parts.query or "?" in text:
        raise BadValueError("has a query", "leave out what begins with ?")
    return upstream


def parse_grpc(text: str) -> Upstream:
    """Parse a gRPC address in any client's form: https, grpcs or no scheme is TLS, http or grpc is not."""
    scheme, separator, rest = text.partition("://")
    scheme = {"grpc": "http", "grpcs": "https"}.get(scheme, scheme)
    upstream = parse_base(f"{scheme}://{rest}" if separator else f"https://{text}")
    if upstream.base_path:
        raise BadValueError("has a path", "leave it out: a gRPC method's name is the whole path")
    return upstream


def parse_endpoint(text: str, *, query: bool = True) -> str:
    """Check a token endpoint's URL, which may have a query (RFC 6749, 3.2), or a login's, which may not."""
    _, parts = _parse(text)
    if not query and "?" in text:
        raise BadValueError("has a query", "leave out what begins with ?; user and password are added to it")
    if not _QUERY.fullmatch(parts.query):
        raise BadValueError("has a character in its query that must be escaped", "write it as %XX")
    return text


def endpoint(url: str) -> Upstream:
    """Take apart a valid endpoint's URL. A query is left out."""
    return _parse(url)[0]


def origin(url: str) -> str:
    """Return scheme, host and port of an issuer, written in one way: what a budget belongs to."""
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")  # an absolute name of the DNS is the same service's
    host = f"[{host}]" if ":" in host else host
    is_default = parts.port in {None, _PORTS.get(parts.scheme)}
    return f"{parts.scheme}://{host}" if is_default else f"{parts.scheme}://{host}:{parts.port}"


def parse_origin(text: str) -> str:
    """Read an origin like `http://keycloak:18080`, and return it as `origin` does."""
    upstream, parts = _parse(text)
    if upstream.base_path or parts.query:
        raise BadValueError("is more than an origin", f"write {origin(text)}: the limit is the whole service's")
    return origin(text)


def _parse(text: str) -> tuple[Upstream, SplitResult]:
    if not text.isascii() or any(character <= " " or character == "\x7f" for character in text):
        raise BadValueError(
            "has a character that no URL may have", "write names in punycode and escape the rest as %XX"
        )
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise BadValueError("is not a valid URL", _LIKE) from None
    if parts.scheme not in _PORTS:
        raise BadValueError("is not an http or https URL", _LIKE)
    if "@" in parts.netloc:
        raise BadValueError("has a user or a password in it", "use a credential; a URL is shown in logs")
    if parts.fragment or "#" in text:
        raise BadValueError("has a fragment", "leave out what begins with #")
    if not _is_host(host, bracketed=parts.netloc.startswith("[")):
        raise BadValueError("has no valid host name", _LIKE)
    if port == 0 or parts.netloc.endswith(":"):
        raise BadValueError("has no valid port", "leave it out, or give one from 1 to 65535")
    scheme: Literal["http", "https"] = "https" if parts.scheme == "https" else "http"
    return Upstream(scheme, host, port or _PORTS[scheme], _base_path(parts.path)), parts


def _is_host(host: str, *, bracketed: bool) -> bool:
    if bracketed:
        return is_ipv6(host)
    return bool(_HOST.fullmatch(host)) and ".." not in host


def is_ipv6(text: str) -> bool:
    """Tell whether a text is an IPv6 address without a scope."""
    try:
        return bool(ipaddress.IPv6Address(text)) and "%" not in text
    except ValueError:
        return False


def _base_path(path: str) -> str:
    if not _PATH.fullmatch(path):
        raise BadValueError("has a character in its path that must be escaped", "write it as %XX")
    base = path.rstrip("/")
    if is_ambiguous(base):
        raise BadValueError("has a path with empty, . or .. segments", "write the path that is meant")
    return base


def is_ambiguous(path: str) -> bool:
    """Tell whether a server could read `path` as another one: dot or empty segments, backslashes, in any encoding."""
    while True:
        segments = [segment.split(";", 1)[0] for segment in path.split("/")[1:]]
        if "\\" in path or any(segment in {"", ".", ".."} for segment in segments):
            return True
        if "%" not in path or (decoded := unquote(path)) == path:
            return False
        path = decoded


def parse_listen(text: str) -> Address:
    """Read an address such as `127.0.0.1:8600`, `[::1]:8600`, `localhost:8600` or `unix:/run/proxy.sock`."""
    if text.startswith("unix:"):
        return UnixAddress(_unix_path(text.removeprefix("unix:").removeprefix("//")))
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if bracketed else host
    if not colon or not _is_host(host, bracketed=bracketed):
        raise BadValueError("is not an address to listen on", "write it like 127.0.0.1:8600 or unix:/run/name.sock")
    if not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:  # noqa: PLR2004 (the highest port)
        raise BadValueError("has no valid port", "give one from 1 to 65535, or 0 for any free one")
    return TcpAddress(host.lower(), int(port))


def parse_tcp(text: str) -> TcpAddress:
    """Parse `127.0.0.1:26500`: a host and a port."""
    address = parse_listen(text)
    if not isinstance(address, TcpAddress):
        raise BadValueError("is a Unix socket, where gRPC is not served", "write it like 127.0.0.1:26500")
    return address


def _unix_path(text: str) -> Path:
    if not text.startswith("/"):
        raise BadValueError("is not an absolute path of a socket", "write it like unix:/run/camunda-sidecar/proxy.sock")
    if len(text.encode()) > _MAX_UNIX_PATH:
        raise BadValueError(f"is longer than the {_MAX_UNIX_PATH} bytes that a socket's path may have", "shorten it")
    return Path(text)


def is_loopback(host: str) -> bool:
    """Tell whether a host name (RFC 6761) or an address can only be this machine.

    IPv4 in IPv6 and a scope (`fe80::1%eth0`) are understood; what is neither a name nor an address is not local.
    """
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback
