"""TLS: contexts from files, for issuers, logins and upstreams alike, and what can be wrong with the files.

TLS 1.2 is the lowest version. A configured CA bundle replaces the system's roots, as curl's `--cacert` does.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from sidecar.config.files import MAX_FILE_BYTES
from sidecar.config.settings import ListenTls, Tls
from sidecar.errors import SecretUnavailableError
from sidecar.secret import read_file, read_text

PemFiles = tuple[bytes | None, bytes | None, bytes | None]
"""Authorities (None: those that come with whoever connects), client key and client certificates."""
NO_PEM_FILES: PemFiles = (None, None, None)


def client_context(tls: Tls, now: float) -> ssl.SSLContext:
    """A context that verifies the server, and shows the client's certificate where one is configured. Reads files.

    A client's certificate must be valid at `now`, in seconds of the wall clock.

    Raises:
        SecretUnavailableError: a file is missing, is not what it should be, or does not fit the others.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # A handshake in the middle of a connection (TLS 1.2) would blur who was verified, and when.
    context.options |= ssl.OP_NO_RENEGOTIATION
    if tls.ca_file is None:
        context.load_default_certs()
    else:
        _load_authorities(context, tls.ca_file)
    if tls.client_certificate_file is not None:
        _load_certificate(context, tls, tls.client_certificate_file, now)
    return context


def server_context(settings: ListenTls, now: float) -> ssl.SSLContext:
    """A context for the proxy's listener, which verifies clients where authorities for them are configured.

    Raises:
        SecretUnavailableError: as `client_context` does.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Every connection shows its certificate: none is resumed by a ticket.
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET
    context.num_tickets = 0
    context.set_alpn_protocols(["http/1.1"])
    own = Tls(client_certificate_file=settings.certificate_file, client_key_file=settings.key_file)
    _load_certificate(context, own, settings.certificate_file, now)
    if settings.client_ca_file is not None:
        _load_authorities(context, settings.client_ca_file)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def files(tls: Tls) -> tuple[Path | None, ...]:
    """The files that a context is made from; None for one that is not configured."""
    password = tls.client_key_password.file if tls.client_key_password is not None else None
    return (tls.ca_file, tls.client_certificate_file, tls.client_key_file, password)


def pem_files(tls: Tls, now: float) -> PemFiles:
    """What `client_context` is made from, in PEM: authorities, client key without a password, client certificates.

    Raises:
        SecretUnavailableError: as `client_context` does.
    """
    client_context(tls, now)
    key = certificate = None
    if tls.client_certificate_file is not None:
        from sidecar.credentials import pem  # noqa: PLC0415 (costs who has no certificate of their own)

        certificate = read_text(tls.client_certificate_file).encode()
        password = tls.client_key_password.read().reveal() if tls.client_key_password is not None else None
        key = pem.without_password(read_text(tls.client_key_file or tls.client_certificate_file), password)
    authorities = tls.ca_file or _system_authorities()
    return (None if authorities is None else read_file(authorities, MAX_FILE_BYTES)), key, certificate


def _system_authorities() -> Path | None:
    """The system's roots in one file, where there is one."""
    found = ssl.get_default_verify_paths()
    candidates = (found.cafile, *(f"{directory}/ca-certificates.crt" for directory in [found.capath] if directory))
    return next((Path(each) for each in candidates if each and Path(each).is_file()), None)


def _load_authorities(context: ssl.SSLContext, file: Path) -> None:
    read_file(file, MAX_FILE_BYTES)  # OpenSSL would wait for a pipe's other end
    try:
        context.load_verify_locations(cafile=file)
    except (ssl.SSLError, OSError):
        raise SecretUnavailableError(f"The CA file {file} holds no certificates in PEM.") from None


def _load_certificate(context: ssl.SSLContext, tls: Tls, file: Path, now: float) -> None:
    from sidecar.credentials import pem  # noqa: PLC0415 (costs who has no certificate of their own)

    password = tls.client_key_password.read().reveal() if tls.client_key_password is not None else None
    key_file = tls.client_key_file or file
    key = pem.private_key(read_text(key_file), password, f"The private key {key_file}")
    pem.certificate(file, key, now)
    try:
        # With no password, OpenSSL would ask for one on the terminal.
        context.load_cert_chain(file, key_file, password=password or "")
    except (ssl.SSLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or type(error).__name__
        raise SecretUnavailableError(f"The certificate {file} cannot be used with {key_file}: {reason}.") from None
