"""TLS as a client: contexts from files, for issuers, logins and upstreams alike, and what can be wrong with the files.

TLS 1.2 is the least; a CA bundle of one's own replaces the system's roots, as curl's `--cacert` does.
"""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from sidecar.clock import Clock
from sidecar.config.settings import Tls
from sidecar.credentials.secret_line import read_line
from sidecar.credentials.watched import Watched
from sidecar.errors import SecretUnavailableError

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes


def client_context(tls: Tls, now: float) -> ssl.SSLContext:
    """A context that verifies the server, and shows the client's certificate where there is one. Reads files.

    `now` is the wall clock's, in seconds: a client's certificate must be valid then.

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
        _load_client_certificate(context, tls, tls.client_certificate_file, now)
    return context


class Contexts:
    """The contexts of one configuration; all that need nothing of their own are one, for the system's roots are many.

    Loading them takes about 20 ms and 1 MB each time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._usual: ssl.SSLContext | None = None

    def watched(self, name: str, tls: Tls) -> Watched[ssl.SSLContext]:
        """The context in force, made again when one of its files changes; `name` is the setting's path."""
        return Watched(name, tls_files(tls), lambda: self._load(tls))

    def _load(self, tls: Tls) -> ssl.SSLContext:
        if tls != Tls():
            return client_context(tls, self._clock.wall())
        if self._usual is None:
            self._usual = client_context(tls, self._clock.wall())
        return self._usual


def tls_files(tls: Tls) -> tuple[Path | None, ...]:
    """The files that a context is made from."""
    password = tls.client_key_password.file if tls.client_key_password is not None else None
    return (tls.ca_file, tls.client_certificate_file, tls.client_key_file, password)


def _load_authorities(context: ssl.SSLContext, file: Path) -> None:
    try:
        context.load_verify_locations(cafile=file)
    except ssl.SSLError:
        raise SecretUnavailableError(f"The CA file {file} holds no certificates in PEM.") from None
    except OSError as error:
        raise SecretUnavailableError(f"The CA file {file} cannot be read: {error.strerror}.") from None


def _load_client_certificate(context: ssl.SSLContext, tls: Tls, file: Path, now: float) -> None:
    password = read_line(tls.client_key_password).reveal() if tls.client_key_password is not None else None
    key_file = tls.client_key_file or file
    certificate = load_certificate(file, now)
    if _public_key(key_file, password) != certificate.public_key():
        raise SecretUnavailableError(f"The certificate {file} does not belong to the private key {key_file}.")
    try:
        # With no password, OpenSSL would ask for one on the terminal.
        context.load_cert_chain(file, key_file, password=password or "")
    except (ssl.SSLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or type(error).__name__
        raise SecretUnavailableError(f"The certificate {file} cannot be used with {key_file}: {reason}.") from None


def load_certificate(file: Path, now: float) -> x509.Certificate:
    """The first certificate of a PEM file, which is the client's own.

    Raises:
        SecretUnavailableError: there is none, or it is not valid at `now`.
    """
    from cryptography import x509  # noqa: PLC0415 (costs who has no certificate of their own)

    try:
        certificate = x509.load_pem_x509_certificate(read_pem(file, "The certificate").encode())
    except ValueError:
        raise SecretUnavailableError(f"The certificate {file} is no certificate in PEM.") from None
    _check_validity(certificate, file, now)
    return certificate


def _check_validity(certificate: x509.Certificate, file: Path, now: float) -> None:
    moment = datetime.fromtimestamp(now, UTC)
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if moment > end:
        raise SecretUnavailableError(f"The certificate {file} expired on {end:%Y-%m-%d %H:%M} UTC: renew it.")
    if moment < begin:
        raise SecretUnavailableError(
            f"The certificate {file} is not valid before {begin:%Y-%m-%d %H:%M} UTC: check this machine's clock."
        )


def _public_key(file: Path, password: str | None) -> PublicKeyTypes:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415 (see above)

    pem = read_pem(file, "The private key").encode()
    try:
        return load_pem_private_key(pem, password.encode() if password else None).public_key()
    except TypeError:
        if password is None:
            raise SecretUnavailableError(
                f"The private key {file} is encrypted: give its password (client_key_password_file)."
            ) from None
        return load_pem_private_key(pem, None).public_key()
    except ValueError:
        cure = "its password is wrong, or it is no PEM private key" if password else "it is no PEM private key"
        raise SecretUnavailableError(f"The private key {file} cannot be read: {cure}.") from None


def read_pem(file: Path, what: str) -> str:
    """A PEM file's text.

    Raises:
        SecretUnavailableError: it cannot be read, or is no text.
    """
    try:
        return file.read_bytes().decode("ascii", errors="strict")
    except OSError as error:
        raise SecretUnavailableError(f"{what} {file} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise SecretUnavailableError(f"{what} {file} is not PEM text (DER, or UTF-16?): convert it to PEM.") from None
