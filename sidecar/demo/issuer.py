"""The stand-in's OAuth issuer: client credentials (RFC 6749, 4.4), in the manner of Auth0 behind Camunda SaaS."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import math
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import unquote_plus

from aiohttp import web

from sidecar.clock import Clock
from sidecar.demo.ratelimit import Limit, RateLimiter

Outcome = Literal["granted", "refused", "throttled", "blocked"]
FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True)
class Client:
    """A client that may get tokens for some audiences, with a new random secret."""

    client_id: str
    audiences: frozenset[str]
    secret: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """A request that arrived at the token endpoint."""

    at: float
    """In seconds of the monotonic clock."""
    outcome: Outcome
    audience: str = ""


class OAuthError(Exception):
    """An error response of the token endpoint (RFC 6749, 5.2)."""

    def __init__(self, status: int, error: str, description: str) -> None:
        super().__init__(description)
        self.status = status
        self.body = {"error": error, "error_description": description}


class Issuer:
    """Limits the rate of requests, grants tokens, and tells whether a token is valid."""

    def __init__(
        self, clients: tuple[Client, ...], clock: Clock, limit: Limit, lifetime: int, extra: Mapping[str, Any]
    ) -> None:
        """`lifetime` in seconds; `extra` are more fields of each answer, such as `refresh_expires_in`."""
        self._clients = {client.client_id: client for client in clients}
        self._clock = clock
        self._limiter = RateLimiter(limit)
        self._lifetime = lifetime
        self._extra = dict(extra)
        self._key = secrets.token_bytes(32)
        self._issued: dict[str, dict[str, Any]] = {}
        self.requests: list[TokenRequest] = []
        """All requests, in the order in which they arrived."""

    def count(self, outcome: Outcome | None = None) -> int:
        """Return how many requests arrived, or how many of them had this outcome."""
        return sum(outcome in (None, request.outcome) for request in self.requests)

    async def token(self, request: web.Request) -> web.Response:
        """Answer POST /oauth/token."""
        now = self._clock.monotonic()
        verdict, wait = self._limiter.admit(request.remote or "unix", now)
        if verdict != "allowed":
            self.requests.append(TokenRequest(now, verdict))
            body = {"error": "too_many_requests", "error_description": "Global limit has been reached"}
            headers = {"Retry-After": str(math.ceil(wait))}
            return web.json_response(body, status=429, headers=headers)
        try:
            fields = await _fields(request)
            answer = self._grant(fields)
        except OAuthError as error:
            self.requests.append(TokenRequest(now, "refused"))
            return web.json_response(error.body, status=error.status)
        self.requests.append(TokenRequest(now, "granted", fields["audience"]))
        return web.json_response(answer, headers={"Cache-Control": "no-store"})

    def refusal(self, request: web.Request, audience: str) -> str | None:
        """Return why an API refuses the Authorization of `request`, or None if it does not."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            return "no bearer token"
        claims = self._issued.get(token.strip())
        if claims is None:
            return "the token is unknown"
        if claims["exp"] <= self._clock.wall():
            return "the token has expired"
        return None if claims["aud"] == audience else "the token is for another audience"

    def revoke_all(self) -> None:
        """Forget every token: the APIs answer 401 to each from now on."""
        self._issued.clear()

    def _grant(self, fields: Mapping[str, str]) -> dict[str, Any]:
        if fields.get("grant_type") != "client_credentials":
            raise OAuthError(400, "unsupported_grant_type", "Only client_credentials is supported here")
        client = self._clients.get(fields.get("client_id", ""))
        given = fields.get("client_secret", "")
        if client is None or not hmac.compare_digest(given.encode(), client.secret.encode()):
            raise OAuthError(401, "access_denied", "Unauthorized")
        audience = fields.get("audience", "")
        if audience not in client.audiences:
            raise OAuthError(403, "access_denied", f"Client is not authorized to access {audience!r}")
        answer = {"access_token": self._issue(client, audience), "expires_in": self._lifetime, "token_type": "Bearer"}
        return answer | ({"scope": fields["scope"]} if "scope" in fields else {}) | self._extra

    def _issue(self, client: Client, audience: str) -> str:
        """Return a JWT, signed with HS256 (RFC 7515, 7518, 7519) and a key that nobody else has."""
        now = int(self._clock.wall())
        claims = {
            "iss": "http://stand-in/",
            "sub": f"{client.client_id}@clients",
            "aud": audience,
            "iat": now,
            "exp": now + self._lifetime,
            "azp": client.client_id,
            "gty": "client-credentials",
            "jti": secrets.token_hex(16),
        }
        header = {"alg": "HS256", "typ": "JWT", "kid": "stand-in"}
        signed = ".".join(_base64url(json.dumps(part, separators=(",", ":")).encode()) for part in (header, claims))
        token = f"{signed}.{_base64url(hmac.digest(self._key, signed.encode(), hashlib.sha256))}"
        self._issued[token] = claims
        return token


async def _fields(request: web.Request) -> Mapping[str, str]:
    """Return the fields of a form or a JSON body; HTTP Basic, where it is there, names the client instead."""
    if request.content_type == FORM:
        fields = {name: str(value) for name, value in (await request.post()).items()}
    elif request.content_type == "application/json":
        try:
            fields = {str(name): str(value) for name, value in json.loads(await request.text()).items()}
        except (ValueError, AttributeError):
            raise OAuthError(400, "invalid_request", "The body is not a JSON object") from None
    else:
        raise OAuthError(400, "invalid_request", f"Content-Type must be {FORM} or application/json")
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return fields
    try:
        client_id, _, secret = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise OAuthError(401, "invalid_client", "The Authorization header is malformed") from None
    # RFC 6749, 2.3.1: both are form-encoded first.
    return fields | {"client_id": unquote_plus(client_id), "client_secret": unquote_plus(secret)}


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
