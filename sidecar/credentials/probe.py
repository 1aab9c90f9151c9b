"""Connecting to a server as far as TLS and no further, to say what is in the way: for `doctor`, and for one sentence.

The way is the one that requests take: the same context, the same forward proxy. No request is sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any, Final

from yarl import URL

from sidecar import dial
from sidecar.background import in_thread
from sidecar.credentials import connection_errors
from sidecar.credentials.connection_errors import Fault
from sidecar.credentials.untrusted import printable

PATIENCE: Final = 3.0
"""Seconds for finding out who signed a certificate; the explanation is worth no more."""


@dataclass(frozen=True, slots=True)
class Handshake:
    """A TLS handshake that was completed."""

    version: str
    """Such as `TLSv1.3`."""
    signed_by: str
    expires: datetime


async def resolve(host: str, port: int) -> list[str]:
    """The addresses of a name, each once, in the order in which they are tried.

    Raises:
        OSError: `socket.gaierror`, where there is none.
    """
    infos = await in_thread(partial(dial.look_up, host, port))
    return list(dict.fromkeys(str(info[4][0]) for info in infos))


async def connect(url: str, context: ssl.SSLContext | None, proxy: str | None = None) -> Handshake | None:
    """Connect to a URL's host, through the forward proxy where there is one; None: it is plain HTTP.

    Raises:
        OSError: refused, reset, not trusted, … (`connection_errors.explain` tells which).
    """
    place = URL(url)
    if context is None and proxy is not None:
        place, proxy = URL(proxy), None  # a plain request is sent to the proxy itself
    host, port = place.host or "", place.port or 443
    sock = await dial.open_socket(await in_thread(partial(dial.look_up, *dial.first_hop(host, port, proxy))))
    with dial.closed_on_error(sock):
        if proxy is not None:
            await dial.open_tunnel(sock, proxy, host, port)
        name = host if context is not None else None
        _, writer = await asyncio.open_connection(sock=sock, ssl=context, server_hostname=name)
    try:
        return _handshake(writer.get_extra_info("ssl_object")) if context is not None else None
    finally:
        writer.transport.abort()


async def explain(error: Exception, url: str, proxy: str | None) -> Fault:
    """What `connection_errors` says of `error`, and who signed the certificate where that is what is not trusted.

    An intercepting firewall has its own name there. It is asked over a connection that is not verified, so nothing is
    sent over it, and what is learnt decides nothing.
    """
    fault = connection_errors.explain(error, url, proxied=proxy is not None)
    if fault.is_untrusted:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with contextlib.suppress(OSError):
            async with asyncio.timeout(PATIENCE):
                if (handshake := await connect(url, context, proxy)) is not None:
                    return replace(fault, sentence=f"{fault.sentence} It is signed by: {handshake.signed_by}.")
    return fault


def _handshake(tls: Any) -> Handshake:
    """What is worth knowing of a handshake.

    Raises:
        OSError: the certificate cannot be read.
    """
    from cryptography import x509  # noqa: PLC0415 (costs whoever never asks)
    from cryptography.x509.oid import NameOID  # noqa: PLC0415

    kinds = (NameOID.COMMON_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME, NameOID.ORGANIZATION_NAME)
    try:
        certificate = x509.load_der_x509_certificate(tls.getpeercert(binary_form=True))
        name, expires = certificate.issuer, certificate.not_valid_after_utc
        parts = [str(attribute.value) for kind in kinds for attribute in name.get_attributes_for_oid(kind)]
        signed_by = printable(", ".join(parts) or name.rfc4514_string(), 200)
    except Exception as error:  # noqa: BLE001 (a library may raise anything over a certificate that it does not know)
        raise OSError(0, f"its certificate cannot be read ({type(error).__name__})") from None
    return Handshake(tls.version() or "", signed_by, expires)
