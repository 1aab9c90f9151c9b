"""Reaching a server as far as TLS and no further, to say what is in the way: for `doctor`, and for one sentence.

The way is the one that requests take: the same context, the same forward proxy. No request is sent.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from yarl import URL

from sidecar import dial
from sidecar.background import in_thread
from sidecar.credentials import connection_errors
from sidecar.credentials.connection_errors import Fault
from sidecar.credentials.untrusted import printable

if TYPE_CHECKING:
    from cryptography import x509

PATIENCE: Final = 3.0
"""Seconds for finding out who signed a certificate; the explanation is worth no more."""


@dataclass(frozen=True, slots=True)
class Reached:
    """A handshake that was completed."""

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


async def reach(url: str, context: ssl.SSLContext | None, proxy: str | None = None) -> Reached | None:
    """Connect to a URL's host, through the proxy where there is one, and shake hands; None: it is plain HTTP.

    Raises:
        OSError: refused, reset, not trusted, … (`connection_errors.explain` tells which).
    """
    place = URL(url)
    if context is None and proxy is not None:
        place, proxy = URL(proxy), None  # a plain request is sent to the proxy itself
    writer = await _connect(place, context, proxy)
    try:
        return _reached(writer.get_extra_info("ssl_object")) if context is not None else None
    finally:
        writer.transport.abort()


async def signed_by(url: str, proxy: str | None = None) -> str | None:
    """The name of who issued the certificate at an https URL, printable; None where it cannot be had.

    Asked only after a certificate was found untrusted: an intercepting firewall has its own name there. Nothing is sent
    over this connection, which is not verified, and what is learnt decides nothing.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        async with asyncio.timeout(PATIENCE):
            reached = await reach(url, context, proxy)
    except (OSError, ValueError):
        return None
    return reached.signed_by if reached is not None else None


async def explain(error: Exception, url: str, proxy: str | None) -> Fault:
    """What `connection_errors` says of `error`, and who signed the certificate where that is what is not trusted."""
    fault = connection_errors.explain(error, url, proxied=proxy is not None)
    signer = await signed_by(url, proxy) if fault.kind == "untrusted" else None
    return replace(fault, sentence=f"{fault.sentence} It is signed by: {signer}.") if signer else fault


def _reached(tls: Any) -> Reached:
    from cryptography import x509  # noqa: PLC0415 (costs whoever never asks)

    certificate = x509.load_der_x509_certificate(tls.getpeercert(binary_form=True))
    return Reached(
        version=tls.version() or "",
        signed_by=printable(issuer_name(certificate.issuer), 200),
        expires=certificate.not_valid_after_utc.astimezone(UTC),
    )


def issuer_name(name: x509.Name) -> str:
    """Common name, unit and organization, as far as they are there."""
    from cryptography.x509.oid import NameOID  # noqa: PLC0415 (see above)

    parts = [
        str(attribute.value)
        for kind in (NameOID.COMMON_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME, NameOID.ORGANIZATION_NAME)
        for attribute in name.get_attributes_for_oid(kind)
    ]
    return ", ".join(parts) or name.rfc4514_string()


async def _connect(place: URL, context: ssl.SSLContext | None, proxy: str | None) -> asyncio.StreamWriter:
    host, port = place.host or "", place.port or 443
    first = dial.first_hop(host, port, proxy)
    sock = await dial.open_socket(await in_thread(partial(dial.look_up, *first)))
    with dial.closed_on_error(sock):
        if proxy is not None:
            await dial.open_tunnel(sock, proxy, host, port)
        server_hostname = host if context is not None else None
        _, writer = await asyncio.open_connection(sock=sock, ssl=context, server_hostname=server_hostname)
    return writer
