"""Signed assertions of a client's identity (RFC 7523, 2.2), as Microsoft Entra ID and Keycloak want them."""

from __future__ import annotations

import base64
import hashlib
import secrets
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from joserfc import jwt
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import ECKey, OKPKey, RSAKey

from sidecar.credentials import pem
from sidecar.errors import SecretUnavailableError

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

LIFETIME: Final = 300
"""Seconds; Entra ID takes at most ten minutes."""

ALGORITHMS: Final = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "ES256K", "EdDSA", "Ed25519"}
)
"""Those with a private key: neither `none` nor what signs with a shared secret."""

_CURVES: Final = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512", "secp256k1": "ES256K"}
Key = RSAKey | ECKey | OKPKey


@dataclass(frozen=True, slots=True)
class Signer:
    """A key that is ready to sign, and the header that goes before its signature."""

    key: Key = field(repr=False)
    algorithm: str
    header: dict[str, str]

    def sign(self, *, client_id: str, audience: str, now: float) -> str:
        """A new assertion, for one attempt: its `jti` is never used again."""
        claims = {
            "iss": client_id,
            "sub": client_id,
            "aud": audience,
            "jti": secrets.token_urlsafe(24),
            "iat": int(now),
            "nbf": int(now),
            "exp": int(now) + LIFETIME,
        }
        header = {"alg": self.algorithm, **self.header}
        with warnings.catch_warnings():
            # RFC 9864 renames EdDSA to Ed25519; issuers that know only the old name are many.
            warnings.simplefilter("ignore", SecurityWarning)
            return jwt.encode(header, claims, self.key, algorithms=[self.algorithm])


def signer(
    text: str,
    *,
    password: str | None = None,
    algorithm: str | None = None,
    certificate_file: Path | None = None,
    key_id: str | None = None,
    now: float,
) -> Signer:
    """A signer from a key in PEM; the certificate's thumbprints (RFC 7515, 4.1.7 and 4.1.8) go into its header.

    The certificate must be valid at `now`, in seconds of the wall clock.

    Raises:
        SecretUnavailableError: key, password, algorithm and certificate do not fit each other.
    """
    private = pem.private_key(text, password, "The private key")
    key, default = _jwk(private)
    chosen = algorithm or default
    header = {"kid": key_id} if key_id else {}
    if certificate_file is not None:
        header |= _thumbprints(pem.certificate(certificate_file, private, now))
    made = Signer(key, chosen, header)
    if chosen not in ALGORITHMS or not _works(made):
        raise SecretUnavailableError(f"The private key cannot sign with {chosen}: its own kind's is {default}.")
    return made


def _works(signer: Signer) -> bool:
    try:
        signer.sign(client_id="", audience="", now=0)
    except (JoseError, ValueError):
        return False
    return True


def _jwk(key: PrivateKeyTypes) -> tuple[Key, str]:
    """The key, and the algorithm that is usual for its kind."""
    match key:
        case rsa.RSAPrivateKey():
            return RSAKey.import_key(key), "RS256"
        case ec.EllipticCurvePrivateKey() if key.curve.name in _CURVES:
            return ECKey.import_key(key), _CURVES[key.curve.name]
        case ed25519.Ed25519PrivateKey() | ed448.Ed448PrivateKey():
            return OKPKey.import_key(key), "EdDSA"
        case _:
            raise SecretUnavailableError("The private key is of a kind that cannot sign: use RSA, EC or Ed25519.")


def _thumbprints(certificate: x509.Certificate) -> dict[str, str]:
    der = certificate.public_bytes(Encoding.DER)
    return {
        "x5t": _base64url(hashlib.sha1(der, usedforsecurity=False).digest()),
        "x5t#S256": _base64url(hashlib.sha256(der).digest()),
    }


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
