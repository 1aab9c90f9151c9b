"""Who signed a server's certificate, asked of the server itself: an intercepting firewall has its own name there.

Only after a certificate was found untrusted, for the sentence that says so. The handshake is all: nothing is sent over
a connection that was not verified, and what is learnt decides nothing.
"""

from __future__ import annotations

import asyncio
import base64
import ssl
from typing import Final

from cryptography import x509
from cryptography.x509.oid import NameOID
from yarl import URL

from sidecar.credentials.token_response import printable

PATIENCE: Final = 3.0
"""Seconds for all of it; the explanation is worth no more."""


async def signed_by(url: str, proxy: str | None = None) -> str | None:
    """The name of who issued the certificate at an https URL, printable; None where it cannot be had."""
    try:
        async with asyncio.timeout(PATIENCE):
            certificate = await _certificate(URL(url), proxy)
    except (OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return None
    return printable(issuer_name(certificate), 200) or None


def issuer_name(certificate: bytes) -> str:
    """Organization and common name of a DER certificate's issuer."""
    name = x509.load_der_x509_certificate(certificate).issuer
    parts = [
        str(attribute.value)
        for kind in (NameOID.COMMON_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME, NameOID.ORGANIZATION_NAME)
        for attribute in name.get_attributes_for_oid(kind)
    ]
    return ", ".join(parts) or name.rfc4514_string()


async def _certificate(url: URL, proxy: str | None) -> bytes:
    host, port = url.host or "", url.port or 443
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if proxy is None:
        _, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=host)
    else:
        writer = await _tunnel(URL(proxy), f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
        await writer.start_tls(context, server_hostname=host)
    try:
        return bytes(writer.get_extra_info("ssl_object").getpeercert(binary_form=True) or b"")
    finally:
        writer.transport.abort()


async def _tunnel(proxy: URL, authority: str) -> asyncio.StreamWriter:
    secure = ssl.create_default_context() if proxy.scheme == "https" else None
    reader, writer = await asyncio.open_connection(proxy.host, proxy.port, ssl=secure)
    lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}"]
    if proxy.user is not None:
        pair = base64.b64encode(f"{proxy.user}:{proxy.password or ''}".encode()).decode()
        lines.append(f"Proxy-Authorization: Basic {pair}")
    writer.write("\r\n".join(lines).encode() + b"\r\n\r\n")
    answer = await reader.readuntil(b"\r\n\r\n")
    if answer.split(b" ", 2)[1:2] != [b"200"]:
        writer.transport.abort()
        raise ConnectionError("the forward proxy refused the tunnel")
    return writer
