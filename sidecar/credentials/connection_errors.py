"""Why a connection failed: the exceptions of `ssl`, `socket`, asyncio and aiohttp in one sentence with its cure.

Pure. Issuers, logins, `doctor` and the data plane's upstream connections all say it in the same words.
"""

from __future__ import annotations

import errno
import re
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
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
"""Header fields of a response."""
_REFUSED_TUNNEL: Final = re.compile(r"refused CONNECT with (\d{3})$", re.ASCII)
_EXPIRED: Final = frozenset({9, 10})
"""OpenSSL's X509_V_ERR_CERT_NOT_YET_VALID and _HAS_EXPIRED."""
_HOSTNAME: Final = frozenset({62, 64})
"""X509_V_ERR_HOSTNAME_MISMATCH and _IP_ADDRESS_MISMATCH. Every other code is a matter of trust."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One failure. `transient`: the next attempt may succeed without anybody's doing."""

    kind: Kind
    sentence: str
    transient: bool


def explain(error: BaseException, url: str, *, proxied: bool = False) -> Fault:
    """What `error` says about connecting to `url`, of which only scheme, host and port are told."""
    try:
        where = str(URL(url).origin())
    except ValueError:
        where = "the address"
    for cause in _causes(error):
        fault = _tls(cause, where) or _network(cause, where, " or its proxy" if proxied else "")
        if fault is not None:
            return fault
    return Fault("other", f"{where} could not be asked: {type(error).__name__}.", transient=True)


def head_too_large(where: str, limit: str) -> str:
    """A sentence about a response whose head has more than `limit`."""
    return f"{where} sent more than {limit} in its answer's head (limits.header_bytes)."


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and its causes, the first cause first: aiohttp wraps what ssl and socket raise."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        inner = getattr(cause, "certificate_error", None) or getattr(cause, "os_error", None)
        cause = inner if isinstance(inner, BaseException) else cause.__cause__
    return reversed(chain)


def _tls(error: BaseException, where: str) -> Fault | None:
    match error:
        case ssl.SSLCertVerificationError(verify_code=code, verify_message=said):
            start = f"{where}: its certificate is"
            if code in _HOSTNAME:
                return Fault("hostname", f"{start} for another name ({said}). Check the URL.", False)
            if code in _EXPIRED:
                return Fault("expired", f"{start} not valid now ({said}). Check this machine's clock.", False)
            cure = (
                "If a firewall intercepts TLS here, or the server has a private CA, put that CA's certificate into"
                " tls.ca_file."
            )
            return Fault("untrusted", f"{start} not trusted ({said}). {cure}", False)
        case ssl.SSLError(reason="WRONG_VERSION_NUMBER"):
            return Fault("tls", f"{where} does not speak TLS on this port: http:// instead of https://?", False)
        case ssl.SSLError():
            reason = error.reason or "no reason given"
            if "ALERT" in reason and ("CERTIFICATE" in reason or "UNKNOWN_CA" in reason):
                cure = "Check tls.client_certificate_file."
                sentence = f"{where} does not accept the client certificate ({reason}). {cure}"
                return Fault("client_certificate", sentence, False)
            return Fault("tls", f"{where}: TLS failed ({reason}).", True)
    return None


def _network(error: BaseException, where: str, proxy: str) -> Fault | None:
    status = _proxy_status(error)
    if status is not None:
        cure = "check the credentials in HTTPS_PROXY" if status == 407 else "ask who runs it to allow this host"  # noqa: PLR2004
        sentence = f"{where}: the forward proxy answered {status} to CONNECT; {cure}."
        return Fault("proxy", sentence, status >= 500)  # noqa: PLR2004
    match error:
        case socket.gaierror():
            sentence = f"{where}{proxy}: the name cannot be resolved ({error.strerror}). Check name and DNS."
            return Fault("dns", sentence, True)
        case OSError(errno=errno.ECONNREFUSED) | ConnectionRefusedError():
            sentence = f"{where}{proxy} refuses connections: nothing listens there. Check host and port."
            return Fault("refused", sentence, True)
        case TimeoutError():
            return Fault("timeout", f"{where}{proxy} did not answer in time. Check the network and firewalls.", True)
        case ConnectionError() | aiohttp.ServerDisconnectedError() | aiohttp.ClientPayloadError():
            return Fault("reset", f"{where}{proxy} closed the connection before its answer was complete.", True)
        case LineTooLong(args=(_, limit, *_)):
            return Fault("protocol", head_too_large(where, f"{limit} bytes in one line"), True)
        case BadHttpMessage(message=said) if "Too many headers" in said:
            return Fault("protocol", head_too_large(where, f"{MAX_FIELDS} header fields"), True)
        case aiohttp.ClientResponseError():
            return Fault("protocol", f"{where} did not answer in valid HTTP.", True)
        case OSError(strerror=str(reason)):
            return Fault("other", f"{where}{proxy} cannot be reached: {reason}.", True)
    return None


def _proxy_status(error: BaseException) -> int | None:
    """The status with which a forward proxy refused a tunnel: aiohttp's error, or the text of our own client's."""
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return error.status
    match = _REFUSED_TUNNEL.search(str(error)) if type(error) is ConnectionError else None
    return int(match[1]) if match else None
