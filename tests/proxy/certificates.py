"""Certificates for tests over TLS, made anew in each process."""

from __future__ import annotations

import ssl

import trustme

from sidecar.credentials.probe import explain

CA = trustme.CA()
OTHER_CA = trustme.CA()


def server_context(
    certificate: trustme.LeafCert | None = None,
    *,
    clients: trustme.CA | None = None,
    version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
) -> ssl.SSLContext:
    """A server's, with a certificate for localhost; `clients` asks for a client certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = version
    (certificate or CA.issue_cert("localhost")).configure_cert(context)
    if clients is not None:
        clients.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(ca: trustme.CA = CA) -> ssl.SSLContext:
    """The route's."""
    context = ssl.create_default_context()
    ca.configure_trust(context)
    return context


async def told(error: OSError, url: str, proxy: str | None) -> str:
    """As the service explains connection faults."""
    return (await explain(error, url, proxy)).sentence
