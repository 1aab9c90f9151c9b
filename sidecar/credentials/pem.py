"""Keys and certificates in PEM (RFC 7468), read as OpenSSL reads them: whatever stands around a block does not count.

Whatever `cryptography` raises over a file becomes one sentence.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from sidecar.errors import SecretUnavailableError
from sidecar.secret import read_text

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes


def blocks(text: str, label: str) -> list[str]:
    """The blocks whose label ends with `label`, such as `PRIVATE KEY`, from BEGIN to END; an open one is left out."""
    found: list[str] = []
    lines: list[str] = []
    end = None
    for line in text.split("\n"):
        line = line.rstrip()  # noqa: PLW2901 (white space at a line's end does not count)
        if line.startswith("-----BEGIN ") and line.endswith(f"{label}-----"):
            lines, end = [], line.replace("BEGIN", "END", 1)
        lines.append(line)
        if line == end:
            found.append("\n".join(lines) + "\n")
            end = None
    return found


def private_key(text: str, password: str | None, name: str) -> PrivateKeyTypes:
    """The first private key of a text; `name` begins the sentence about what is wrong, such as `The private key`.

    Raises:
        SecretUnavailableError: there is none, it is of a kind that is not known, or its password is missing or wrong.
    """
    cure = "its password is wrong, or it is no PEM private key" if password else "it is no PEM private key"
    with _readable(name, cure):
        block = "".join(blocks(text, "PRIVATE KEY")[:1]).encode()
        try:
            return load_pem_private_key(block, password.encode() if password else None)
        except TypeError:
            if password is None:
                raise SecretUnavailableError(f"{name} is encrypted: give its password too.") from None
            # A password for a key that has none does no harm, and makes changing over possible.
            return load_pem_private_key(block, None)


def without_password(text: str, password: str | None) -> bytes:
    """The first private key of a text in PEM that anybody can read (PKCS #8).

    Raises:
        SecretUnavailableError: as `private_key` does.
    """
    key = private_key(text, password, "The private key")
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def certificate(file: Path, key: PrivateKeyTypes, now: float) -> x509.Certificate:
    """The first certificate of a file, which is the client's own.

    Raises:
        SecretUnavailableError: there is none, it is another key's, or it is not valid at `now` (seconds of the wall
            clock).
    """
    with _readable(f"The certificate {file}", "it is no certificate in PEM"):
        made = x509.load_pem_x509_certificate("".join(blocks(read_text(file), "CERTIFICATE")[:1]).encode())
        begin, end = made.not_valid_before_utc, made.not_valid_after_utc
        is_of_key = made.public_key() == key.public_key()
    moment = datetime.fromtimestamp(now, UTC)
    if moment > end:
        raise SecretUnavailableError(f"The certificate {file} expired on {end:%Y-%m-%d %H:%M} UTC: renew it.")
    if moment < begin:
        raise SecretUnavailableError(
            f"The certificate {file} is not valid before {begin:%Y-%m-%d %H:%M} UTC: check this machine's clock."
        )
    if not is_of_key:
        raise SecretUnavailableError(f"The certificate {file} does not belong to the private key.")
    return made


@contextlib.contextmanager
def _readable(name: str, cure: str) -> Iterator[None]:
    try:
        yield
    except SecretUnavailableError:
        raise
    except UnsupportedAlgorithm:
        raise SecretUnavailableError(
            f"{name} has a curve, an algorithm or an encryption that is not supported: use RSA, EC on P-256, P-384 or"
            " P-521, or Ed25519."
        ) from None
    except Exception:  # noqa: BLE001 (a library may raise anything over a file that it does not understand)
        raise SecretUnavailableError(f"{name} cannot be read: {cure}.") from None
