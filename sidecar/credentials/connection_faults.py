"""Why a connection failed, told apart and in one sentence with its cure.

Pure: an exception in, a `Fault` out. It knows the exceptions of `ssl`, `socket`, asyncio and aiohttp, so issuer, login,
`doctor` and the data plane's upstream connections all say it in the same words.
"""

from __future__ import annotations

import errno
import re
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, Literal

import aiohttp
from aiohttp.http_exceptions import BadHttpMessage, LineTooLong
from yarl import URL

Kind = Literal[
    "untrusted",
    "hostname",
    "expired",
    "client_certificate",
    "tls",
    "dns",
    "refused",
    "reset",
    "timeout",
    "proxy",
    "protocol",
    "other",
]

MAX_FIELDS: Final = 1000
"""Header fields of an answer; a browser would not take more either."""
_REFUSED_TUNNEL: Final = re.compile(r"refused CONNECT with (\d{3})$", re.ASCII)
_EXPIRED: Final = frozenset({9, 10})
"""OpenSSL's X509_V_ERR_CERT_NOT_YET_VALID and _HAS_EXPIRED."""
_HOSTNAME: Final = frozenset({62, 64})
"""X509_V_ERR_HOSTNAME_MISMATCH and _IP_ADDRESS_MISMATCH. Every other code is a matter of trust."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One failure. `transient`: the next attempt may do better by itself."""

    kind: Kind
    sentence: str
    transient: bool


def explain(error: BaseException, url: str, *, proxied: bool = False) -> Fault:
    """What `error` says about connecting to `url` (of which only scheme, host and port are told)."""
    where = _origin(url)
    for cause in _causes(error):
        fault = _certificate(cause, where) or _tls(cause, where) or _network(cause, where, proxied=proxied)
        if fault is not None:
            return fault
    return Fault("other", f"{where} could not be asked: {type(error).__name__}.", transient=True)


def _origin(url: str) -> str:
    try:
        return str(URL(url).origin())
    except ValueError:
        return "the address"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error's roots first: aiohttp wraps what ssl and socket raise."""
    chain: list[BaseException] = []
    seen: BaseException | None = error
    while seen is not None and seen not in chain:
        chain.append(seen)
        inner = getattr(seen, "certificate_error", None) or getattr(seen, "os_error", None)
        seen = inner if isinstance(inner, BaseException) else seen.__cause__
    return reversed(chain)


def _certificate(error: BaseException, where: str) -> Fault | None:
    if not isinstance(error, ssl.SSLCertVerificationError):
        return None
    code, said = error.verify_code, error.verify_message
    if code in _HOSTNAME:
        return Fault("hostname", f"{where}: its certificate is for another name ({said}). Check the URL.", False)
    if code in _EXPIRED:
        return Fault(
            "expired", f"{where}: its certificate is not valid now ({said}). Check this machine's clock.", False
        )
    return Fault(
        "untrusted",
        f"{where}: its certificate is not trusted ({said}). If a firewall intercepts TLS here, or the server has a"
        " private CA, put that CA's certificate into tls.ca_file.",
        False,
    )


def _tls(error: BaseException, where: str) -> Fault | None:
    if not isinstance(error, ssl.SSLError):
        return None
    reason = error.reason or ""
    if "ALERT" in reason and ("CERTIFICATE" in reason or "UNKNOWN_CA" in reason):
        return Fault(
            "client_certificate",
            f"{where} does not accept the client certificate ({reason}). Check tls.client_certificate_file.",
            False,
        )
    if reason == "WRONG_VERSION_NUMBER":
        return Fault("tls", f"{where} does not speak TLS on this port: http:// instead of https://?", False)
    return Fault("tls", f"{where}: TLS failed ({reason or 'no reason given'}).", True)


def _network(error: BaseException, where: str, *, proxied: bool) -> Fault | None:
    proxy = " or its proxy" if proxied else ""
    status = _proxy_status(error)
    if status is not None:
        denied = status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED
        cure = "check the credentials in HTTPS_PROXY" if denied else "ask who runs it to allow this host"
        sentence = f"{where}: the forward proxy answered {status} to CONNECT; {cure}."
        return Fault("proxy", sentence, status >= HTTPStatus.INTERNAL_SERVER_ERROR)
    if isinstance(error, socket.gaierror):
        return Fault(
            "dns", f"{where}{proxy}: the name cannot be resolved ({error.strerror}). Check name and DNS.", True
        )
    if isinstance(error, ConnectionRefusedError) or getattr(error, "errno", None) == errno.ECONNREFUSED:
        return Fault(
            "refused", f"{where}{proxy} refuses connections: nothing listens there. Check host and port.", True
        )
    if isinstance(error, TimeoutError):
        return Fault("timeout", f"{where}{proxy} did not answer in time. Check the network and firewalls.", True)
    if isinstance(error, ConnectionError | aiohttp.ServerDisconnectedError | aiohttp.ClientPayloadError):
        return Fault("reset", f"{where}{proxy} closed the connection before its answer was complete.", True)
    if isinstance(error, LineTooLong):
        return Fault("protocol", head_too_large(where, f"{error.args[1]} bytes in one line"), True)
    if isinstance(error, BadHttpMessage) and "Too many headers" in error.message:
        return Fault("protocol", head_too_large(where, f"{MAX_FIELDS} header fields"), True)
    if isinstance(error, aiohttp.ClientResponseError):
        return Fault("protocol", f"{where} did not answer in valid HTTP.", True)
    if isinstance(error, OSError) and error.strerror:
        return Fault("other", f"{where}{proxy} cannot be reached: {error.strerror}.", True)
    return None


def head_too_large(where: str, limit: str) -> str:
    """A sentence about an answer whose head has more than `limit`."""
    return f"{where} sent an answer with more than {limit} in its head (limits.header_bytes)."


def _proxy_status(error: BaseException) -> int | None:
    """The status with which a forward proxy refused a tunnel: aiohttp's error, or the text of our own connectors."""
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return error.status
    match = _REFUSED_TUNNEL.search(str(error)) if type(error) is ConnectionError else None
    return int(match[1]) if match else None
