"""JWTs as the stand-in issues them: HS256 (RFC 7515, 7518) by a key that nobody else has."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from typing import Any


class TokenSigner:
    """Signs tokens and knows its own: one that differs in a single character is not among them."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._issued: dict[str, dict[str, Any]] = {}

    def sign(self, claims: dict[str, Any]) -> str:
        """The token that says `claims` (RFC 7519)."""
        signed = f"{_encode({'alg': 'HS256', 'typ': 'JWT', 'kid': 'stand-in'})}.{_encode(claims)}"
        token = f"{signed}.{self._signature(signed)}"
        self._issued[token] = claims
        return token

    def claims(self, token: str) -> dict[str, Any] | None:
        """What the token says, or None where this signer did not issue it. Expiry and audience are yours to check.

        >>> signer = TokenSigner()
        >>> signer.claims(signer.sign({"aud": "operate.camunda.io"}))
        {'aud': 'operate.camunda.io'}
        """
        return self._issued.get(token)

    def revoke_all(self) -> None:
        """Forget every token: the APIs answer 401 to each from now on."""
        self._issued.clear()

    def _signature(self, signed: str) -> str:
        return _base64url(hmac.digest(self._key, signed.encode(), hashlib.sha256))


def _encode(value: dict[str, Any]) -> str:
    return _base64url(json.dumps(value, separators=(",", ":")).encode())


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
