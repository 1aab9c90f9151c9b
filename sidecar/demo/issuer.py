"""The stand-in's OAuth issuer: client credentials (RFC 6749, 4.4), in the manner of Auth0 behind Camunda SaaS."""

from __future__ import annotations

import base64
import binascii
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
from sidecar.demo.signing import TokenSigner

Outcome = Literal["granted", "refused", "throttled", "blocked"]
FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True)
class Client:
    """Who may ask for tokens, and for which audiences. The secret is made up anew for each."""

    client_id: str
    audiences: frozenset[str]
    secret: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """One request that arrived at the token endpoint."""

    at: float
    """By the monotonic clock."""
    source: str
    client_id: str
    audience: str
    outcome: Outcome


class OAuthError(Exception):
    """RFC 6749, 5.2."""

    def __init__(self, status: int, error: str, description: str) -> None:
        super().__init__(description)
        self.status = status
        self.body = {"error": error, "error_description": description}


class Issuer:
    """Counts every request first, then reads it."""

    def __init__(
        self,
        clients: tuple[Client, ...],
        signer: TokenSigner,
        clock: Clock,
        *,
        limit: Limit,
        lifetime: int,
        extra: Mapping[str, Any],
    ) -> None:
        """`lifetime` in seconds; `extra` are more fields of each answer, such as `refresh_expires_in`."""
        self._clients = {client.client_id: client for client in clients}
        self._signer = signer
        self._clock = clock
        self._limiter = RateLimiter(limit)
        self._lifetime = lifetime
        self._extra = dict(extra)
        self.requests: list[TokenRequest] = []
        """Everything that arrived, in order."""

    def count(self, outcome: Outcome | None = None) -> int:
        """How many requests arrived, or ended so."""
        return sum(outcome in (None, request.outcome) for request in self.requests)

    async def token(self, request: web.Request) -> web.Response:
        """POST /oauth/token."""
        now, source = self._clock.monotonic(), request.remote or "unix"
        verdict = self._limiter.admit(source, now)
        if verdict.kind != "allowed":
            self.requests.append(TokenRequest(now, source, "", "", verdict.kind))
            body = {"error": "too_many_requests", "error_description": "Global limit has been reached"}
            headers = {"Retry-After": str(math.ceil(verdict.retry_after))}
            return web.json_response(body, status=429, headers=headers)
        fields: Mapping[str, str] = {}
        try:
            fields = await _fields(request)
            answer = self._grant(fields)
        except OAuthError as error:
            self._note(now, source, fields, "refused")
            return web.json_response(error.body, status=error.status)
        self._note(now, source, fields, "granted")
        return web.json_response(answer, headers={"Cache-Control": "no-store"})

    def _note(self, now: float, source: str, fields: Mapping[str, str], outcome: Outcome) -> None:
        client, audience = fields.get("client_id", ""), fields.get("audience", "")
        self.requests.append(TokenRequest(now, source, client, audience, outcome))

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
        answer = {
            "access_token": self._sign(client, audience),
            "expires_in": self._lifetime,
            "token_type": "Bearer",
            **({"scope": fields["scope"]} if "scope" in fields else {}),
        }
        return answer | self._extra

    def _sign(self, client: Client, audience: str) -> str:
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
        return self._signer.sign(claims)


async def _fields(request: web.Request) -> Mapping[str, str]:
    """The request's fields from its form or JSON body, the client from HTTP Basic where it came so."""
    if request.content_type == FORM:
        fields = {name: str(value) for name, value in (await request.post()).items()}
    elif request.content_type == "application/json":
        fields = _json_fields(await request.text())
    else:
        raise OAuthError(400, "invalid_request", f"Content-Type must be {FORM} or application/json")
    return fields | _basic(request.headers.get("Authorization", ""))


def _json_fields(text: str) -> dict[str, str]:
    try:
        parsed = json.loads(text)
    except ValueError:
        raise OAuthError(400, "invalid_request", "The body is not JSON") from None
    if not isinstance(parsed, dict):
        raise OAuthError(400, "invalid_request", "The body is not a JSON object")
    return {str(name): str(value) for name, value in parsed.items()}


def _basic(header: str) -> dict[str, str]:
    scheme, _, value = header.partition(" ")
    if scheme.lower() != "basic":
        return {}
    try:
        client_id, _, secret = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise OAuthError(401, "invalid_client", "The Authorization header is malformed") from None
    return {"client_id": unquote_plus(client_id), "client_secret": unquote_plus(secret)}  # RFC 6749, 2.3.1
