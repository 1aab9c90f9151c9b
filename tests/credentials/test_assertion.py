"""Signed assertions: what RFC 7523 and Entra ID want in them, for every kind of key."""

from __future__ import annotations

import base64
import hashlib
import time
import warnings
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, x25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc import jwt
from joserfc.errors import SecurityWarning
from joserfc.jwk import ECKey, OKPKey, RSAKey

from sidecar.credentials import assertion
from sidecar.errors import SecretUnavailableError
from tests.credentials import pki

NOW = 1_760_000_000.0
RSA = pki.new_key("rsa")


def pem(key: object) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("key", "wanted", "algorithm", "verifier"),
    [
        (RSA, None, "RS256", RSAKey),
        (RSA, "PS256", "PS256", RSAKey),
        (ec.generate_private_key(ec.SECP256R1()), None, "ES256", ECKey),
        (ec.generate_private_key(ec.SECP384R1()), None, "ES384", ECKey),
        (ec.generate_private_key(ec.SECP521R1()), None, "ES512", ECKey),
        (ed25519.Ed25519PrivateKey.generate(), None, "EdDSA", OKPKey),
    ],
)
def test_an_assertion_verifies_and_says_who_and_when(
    key: object, wanted: str | None, algorithm: str, verifier: type[RSAKey | ECKey | OKPKey]
) -> None:
    """RFC 7523, 3: iss and sub are the client, aud the issuer; it lives for minutes; signed as the key allows."""
    made = assertion.signer(pem(key), algorithm=wanted, key_id="key-1", now=NOW)
    signed = made.sign(client_id="client", audience="https://issuer", now=NOW)
    public = verifier.import_key(key.public_key())  # type: ignore[attr-defined]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SecurityWarning)
        token = jwt.decode(signed, public, algorithms=[algorithm])
    claims = dict(token.claims)
    assert len(claims.pop("jti")) >= 16
    assert claims == {
        "iss": "client",
        "sub": "client",
        "aud": "https://issuer",
        "iat": 1_760_000_000,
        "nbf": 1_760_000_000,
        "exp": 1_760_000_300,
    }
    assert token.header == {"alg": algorithm, "typ": "JWT", "kid": "key-1"}


def test_no_two_assertions_are_the_same() -> None:
    """An issuer that remembers `jti` refuses the second use; a retry therefore signs anew."""
    made = assertion.signer(pem(RSA), now=NOW)
    public = RSAKey.import_key(RSA.public_key())
    signed = [made.sign(client_id="c", audience="a", now=NOW) for _ in range(50)]
    assert len({jwt.decode(one, public).claims["jti"] for one in signed}) == 50


def test_the_certificates_thumbprints_are_in_the_header(tmp_path: Path) -> None:
    """Entra ID finds the registered certificate by x5t (SHA-1) or x5t#S256."""
    made = pki.certificate(RSA)
    file = pki.write(tmp_path / "cert.pem", pki.pem(made))
    header = assertion.signer(pem(RSA), certificate_file=file, now=_now()).header
    der = made.public_bytes(Encoding.DER)
    assert header == {"x5t": encoded(hashlib.sha1(der)), "x5t#S256": encoded(hashlib.sha256(der))}


def encoded(digest: object) -> str:
    return base64.urlsafe_b64encode(digest.digest()).rstrip(b"=").decode()  # type: ignore[attr-defined]


def _now() -> float:
    return time.time()


@pytest.mark.parametrize(
    ("content", "password", "algorithm", "said"),
    [
        (pki.key_pem(RSA, "right").decode(), None, None, "encrypted: give its password"),
        (pki.key_pem(RSA, "right").decode(), "wrong", None, "password is wrong"),
        ("not a key", None, None, "no PEM private key"),
        (pem(RSA)[:200], None, None, "no PEM private key"),
        (pem(RSA), None, "ES256", "cannot sign with ES256"),
        (pem(RSA), None, "none", "cannot sign with none"),
        (pem(RSA), None, "HS256", "cannot sign with HS256"),
        (pem(x25519.X25519PrivateKey.generate()), None, None, "use RSA, EC or Ed25519"),
        (pem(dsa.generate_private_key(1024)), None, None, "use RSA, EC or Ed25519"),
    ],
)
def test_a_key_that_cannot_sign_is_said(content: str, password: str | None, algorithm: str | None, said: str) -> None:
    """One sentence with the cure, and never a prompt for a password on a terminal."""
    with pytest.raises(SecretUnavailableError, match=said) as caught:
        assertion.signer(content, password=password, algorithm=algorithm, now=NOW)
    assert "right" not in caught.value.detail


def test_passwords_open_keys_and_do_no_harm_to_open_ones() -> None:
    """An encrypted key with its password works; so does one that lost its encryption before its password."""
    for content in (pki.key_pem(RSA, "right").decode(), pem(RSA)):
        assert assertion.signer(content, password="right", now=NOW).algorithm == "RS256"


@pytest.mark.parametrize(
    ("days", "other_key", "said"),
    [((-2, -1), False, "expired on"), ((1, 2), False, "not valid before"), ((-1, 1), True, "does not belong")],
)
def test_a_certificate_that_does_not_fit_is_said(
    tmp_path: Path, days: tuple[int, int], other_key: bool, said: str
) -> None:
    """Expired, early, or another key's: the issuer's refusal would not say which."""
    made = pki.certificate(pki.new_key("ec") if other_key else RSA, begins=days[0], ends=days[1])
    file = pki.write(tmp_path / "cert.pem", pki.pem(made))
    with pytest.raises(SecretUnavailableError, match=said):
        assertion.signer(pem(RSA), certificate_file=file, now=_now())


def test_a_signer_shows_nothing_of_its_key() -> None:
    """`repr` ends up in tracebacks."""
    assert "PRIVATE" not in repr(assertion.signer(pem(RSA), now=NOW))
    assert "key=" not in repr(assertion.signer(pem(RSA), now=NOW))
