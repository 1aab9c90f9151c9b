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
from typing import Final

import aiohttp
from aiohttp.http_exceptions import BadHttpMessage, LineTooLong
from yarl import URL

MAX_FIELDS: Final = 1000
"""Header fields of a response."""
_REFUSED_TUNNEL: Final = re.compile(r"refused CONNECT with (\d{3})$", re.ASCII)
_EXPIRED: Final = frozenset({9, 10})
"""OpenSSL's X509_V_ERR_CERT_NOT_YET_VALID and _HAS_EXPIRED."""
_HOSTNAME: Final = frozenset({62, 64})
"""X509_V_ERR_HOSTNAME_MISMATCH and _IP_ADDRESS_MISMATCH. Every other code is a matter of trust."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One failure."""

    sentence: str
    transient: bool
    """Whether the next attempt may succeed without anybody's doing."""
    is_untrusted: bool = False
    """Whether the server's certificate has no signature that is trusted."""


def explain(error: BaseException, url: str, *, proxied: bool = False) -> Fault:
    """What `error` says about connecting to `url`, of which only scheme, host and port are told."""
    try:
        where = str(URL(url).origin())
    except ValueError:
        where = "the address"
    for cause in _causes(error):
        fault = _lasting(cause, where) or _transient(cause, where, where + " or its proxy" * proxied)
        if fault is not None:
            return fault
    return Fault(f"{where} could not be asked: {type(error).__name__}.", transient=True)


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


def _lasting(error: BaseException, where: str) -> Fault | None:
    """What somebody has to change something about."""
    match error:
        case ssl.SSLCertVerificationError(verify_code=code, verify_message=said):
            its = f"{where}: its certificate is"
            if code in _HOSTNAME:
                return Fault(f"{its} for another name ({said}). Check the URL.", False)
            if code in _EXPIRED:
                return Fault(f"{its} not valid now ({said}). Check this machine's clock.", False)
            cure = (
                "If a firewall intercepts TLS here, or the server has a private CA, put that CA's certificate into"
                " tls.ca_file."
            )
            return Fault(f"{its} not trusted ({said}). {cure}", False, is_untrusted=True)
        case ssl.SSLError(reason="WRONG_VERSION_NUMBER"):
            return Fault(f"{where} does not speak TLS on this port: http:// instead of https://?", False)
        case ssl.SSLError(reason=str(reason)) if re.search("ALERT.*CERTIFICATE|ALERT.*UNKNOWN_CA", reason):
            cure = "Check tls.client_certificate_file."
            return Fault(f"{where} does not accept the client certificate ({reason}). {cure}", False)
    status = _proxy_status(error)
    if status is not None:
        cure = "check the credentials in HTTPS_PROXY" if status == 407 else "ask who runs it to allow this host"  # noqa: PLR2004
        return Fault(f"{where}: the forward proxy answered {status} to CONNECT; {cure}.", status >= 500)  # noqa: PLR2004
    return None


def _transient(error: BaseException, where: str, peer: str) -> Fault | None:
    """What may pass; `peer` is who may have caused it."""
    match error:
        case ssl.SSLError():
            sentence = f"{where}: TLS failed ({error.reason or 'no reason given'})."
        case socket.gaierror():
            sentence = f"{peer}: the name cannot be resolved ({error.strerror}). Check name and DNS."
        case OSError(errno=errno.ECONNREFUSED) | ConnectionRefusedError():
            sentence = f"{peer} refuses connections: nothing listens there. Check host and port."
        case TimeoutError():
            sentence = f"{peer} did not answer in time. Check the network and firewalls."
        case ConnectionError() | aiohttp.ServerDisconnectedError() | aiohttp.ClientPayloadError():
            sentence = f"{peer} closed the connection before its answer was complete."
        case LineTooLong(args=(_, limit, *_)):
            sentence = head_too_large(where, f"{limit} bytes in one line")
        case BadHttpMessage(message=said) if "Too many headers" in said:
            sentence = head_too_large(where, f"{MAX_FIELDS} header fields")
        case aiohttp.ClientResponseError():
            sentence = f"{where} did not answer in valid HTTP."
        case OSError(strerror=str(reason)):
            sentence = f"{peer} cannot be reached: {reason}."
        case _:
            return None
    return Fault(sentence, transient=True)


def _proxy_status(error: BaseException) -> int | None:
    """The status with which a forward proxy refused a tunnel: aiohttp's error, or the text of our own client's."""
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return error.status
    match = _REFUSED_TUNNEL.search(str(error)) if type(error) is ConnectionError else None
    return int(match[1]) if match else None
