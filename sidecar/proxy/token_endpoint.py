"""The local token endpoint (RFC 6749, 4.4): the token that the sidecar has, for programs that insist on OAuth.

It is a path of the proxy's listener. A request for it is one that no route allows, and so costs other requests nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn, cast
from urllib.parse import unquote_plus

from sidecar.clock import Clock
from sidecar.config.settings import TOKEN_ENDPOINT, Client, ClientCredentials, Route, Settings
from sidecar.errors import (
    BodyTooLargeError,
    CredentialRejectedError,
    CrossSiteError,
    InvalidClientError,
    InvalidRequestError,
    InvalidScopeError,
    InvalidTargetError,
    MethodNotAllowedError,
    Problem,
    TokenUnavailableError,
)
from sidecar.proxy import problem, semantics, token_request, transport
from sidecar.proxy.authorizer import Authorizer, Issuer
from sidecar.proxy.clients import ANYBODY, Clients, basic
from sidecar.proxy.context import Client as Connection
from sidecar.proxy.context import Process
from sidecar.proxy.exchange import Exchange
from sidecar.proxy.framing import Pieces
from sidecar.proxy.pool import Pool
from sidecar.proxy.problem import Message
from sidecar.proxy.routing import CompiledRoute, Request
from sidecar.proxy.stages import DONE
from sidecar.telemetry.http import HttpStats

MOST_BYTES = 16 << 10
"""The longest body of a token request."""
_TOO_LARGE = f"A token request's body has at most {MOST_BYTES} bytes."
BODY_SECONDS = 10.0
"""The time in which a token request's body must arrive."""
_NO_AUTHORIZER = cast("Authorizer", None)  # no request is forwarded
_OK, _UNAVAILABLE = 200, 503
_REJECTED_RETRY_AFTER = 30.0
_NOT_STORED = {"Content-Type": "application/json", "Cache-Control": "no-store", "Pragma": "no-cache"}


@dataclass(frozen=True)
class _Target:
    """What there are tokens for: the audience of a route."""

    audience: str | None
    credential: ClientCredentials
    issuer: Issuer

    def is_named(self, audience: str | None, resource: str | None, scope: str | None) -> bool:
        """Whether a token request means this one; Entra ID's, which has no audience, is meant by its scope."""
        if audience is not None and audience != self.audience and not (self.audience is None and scope):
            return False
        return resource is None or resource in {self.audience, self.credential.resource}

    def has_scope(self, scope: str | None) -> bool:
        """Whether the issuer is asked for this scope; a client need not name it."""
        return scope is None or set(scope.split()) == set((self.credential.scope or "").split())


class Endpoint:
    """What token requests are judged by, under one configuration."""

    def __init__(
        self,
        settings: Settings,
        clients: Clients,
        authorizers: Mapping[str, Authorizer],
        stats: HttpStats,
        clock: Clock,
    ) -> None:
        endpoint = settings.token_endpoint
        assert endpoint is not None
        route = Route(name=TOKEN_ENDPOINT, prefix=endpoint.path, credential="", audience=None, allow=())
        counters = stats.route(TOKEN_ENDPOINT)
        self.route = CompiledRoute(route, _NO_AUTHORIZER, Pool(_no_upstream, counters, clock, 0.0), counters)
        """It allows nothing: a request that the guard lets in comes here as one that is refused."""
        self.stats = stats
        self._any_client = endpoint.allow_any_client
        self._clients = clients
        targets = (
            _Target(route.audience, credential, cast("Issuer", authorizers[route.name]))
            for route in settings.all_routes
            if isinstance(credential := settings.credentials[route.credential], ClientCredentials)
        )
        self._targets = {(target.credential.name, target.audience): target for target in targets}

    def takes(self, request: Request) -> bool:
        """Whether a request that is refused is one for this endpoint, which the guard has let in."""
        reason = request.refusal[0] if request.refusal is not None else ""
        return request.route is self.route and request.path == self.route.prefix and reason in {"allow", "client"}

    def client(self, head: bytes, fields: Mapping[str, str], subject: frozenset[str]) -> Client:
        """Return who asks: by its secret or, where it shows none, by its certificate (RFC 8705, 2).

        Raises:
            InvalidRequestError: it says so in two ways (RFC 6749, 2.3).
            InvalidClientError: it is nobody who may.
        """
        name, secret = fields.get("client_id", ""), fields.get("client_secret", "")
        try:
            authorization = basic(head, unquote_plus)
        except ValueError:
            text = "Authorization has to be one line of HTTP Basic, with a name and a secret."
            raise InvalidClientError(text) from None
        if authorization is not None:
            if secret or name not in {"", authorization[0]}:
                raise InvalidRequestError("The client has to say who it is either by HTTP Basic or in the body.")
            name, secret = authorization
        known = self._clients.by_secret(name, secret) if secret else self._clients.by_certificate(subject)
        if known is not None and name in {"", known.name}:
            return known
        if self._any_client and name not in self._clients:
            return Client(ANYBODY)
        raise InvalidClientError("The client is not one of `clients`, or its secret is another one.")

    def target(self, client: Client, fields: Mapping[str, str]) -> _Target:
        """Return what a client wants a token for.

        Raises:
            InvalidTargetError, InvalidScopeError: no route or more than one has it, or the client may not have it.
        """
        audience, scope = fields.get("audience"), fields.get("scope")
        found = [each for each in self._targets.values() if each.is_named(audience, fields.get("resource"), scope)]
        if not found:
            raise InvalidTargetError("No route has this audience; `camunda-sidecar check` lists the routes.")
        found = [each for each in found if self._clients.may_have(client.name, each.audience)]
        if not found:
            raise InvalidTargetError(
                f"Client {client.name} may not have this audience (clients.{client.name}.audiences)."
            )
        found = [each for each in found if each.has_scope(scope)]
        if not found:
            raise InvalidScopeError("No credential with this audience asks its issuer for this scope.")
        if len(found) > 1:  # two credentials for one audience: whose client_id it is decides
            found = [each for each in found if each.credential.client_id == fields.get("client_id")]
        if len(found) != 1:
            raise InvalidTargetError("More than one token fits: name the audience, or the credential's own client_id.")
        return found[0]


class TokenExchange(Exchange):
    """One token request, and its response."""

    def __init__(
        self, client: Connection, process: Process, request: Request, subject: frozenset[str], endpoint: Endpoint
    ) -> None:
        """`subject` is that of the certificate that the client has shown, if any."""
        super().__init__(client, process, request, process.monotonic())
        self._endpoint = endpoint
        self._subject = subject
        self._received: bytes | bytearray = b""
        self.client_name = ANYBODY

    def start(self, body: bytes, more: bool) -> None:
        """Wait for the body, or answer."""
        self._client.deadline = self._started + BODY_SECONDS
        if self.request.fields.length > MOST_BYTES:
            self.fail(BodyTooLargeError(_TOO_LARGE))
        elif not more:
            self.body([body], done=True)
        elif self.request.minor and semantics.field_values(self.request.received, b"expect"):
            self._client.send([b"HTTP/1.1 100 Continue\r\n\r\n"])

    def body(self, pieces: Pieces, done: bool) -> None:
        """Keep it until it is whole."""
        for piece in pieces:
            self._received = transport.appended(self._received, bytes(piece))
        if len(self._received) > MOST_BYTES:
            self.fail(BodyTooLargeError(_TOO_LARGE))
        elif done:
            self._run(self._answer())

    def holds_back(self) -> bool:
        """Never: a body is small."""
        return False

    def expired(self) -> None:
        """Tell a client that stopped in the middle of its body."""
        self._client.request_timed_out()

    async def _answer(self) -> None:
        try:
            token, seconds, scope = await self._issued()
        except Problem as error:
            self.fail(error)
            return
        if self.stage == DONE:
            return
        self._endpoint.stats.clients[self.client_name, "allowed"] += 1
        members = {"access_token": token, "token_type": "Bearer", "expires_in": seconds}
        body = json.dumps({**members, **({"scope": scope} if scope else {})}).encode()
        self._go("end_of_message")
        self._status = _OK
        self._client.respond(Message(_OK, _NOT_STORED, body), self.request, self._request_id())
        self._finish("sidecar", self._process.monotonic())

    async def _issued(self) -> tuple[str, int, str]:
        head, endpoint = self.request.received, self._endpoint
        if self.request.method.name != b"POST":
            raise MethodNotAllowedError("A token is asked for with POST.")
        if {b"origin", b"sec-fetch-site"} & self.request.fields.values.keys():
            raise CrossSiteError("No web page gets a token, whatever its origin is.")
        kinds = semantics.field_values(head, b"content-type")
        fields = token_request.parse(kinds[0] if len(kinds) == 1 else b"", bytes(self._received))
        client = endpoint.client(head, fields, self._subject)
        self.client_name = client.name
        try:
            return await endpoint.target(client, fields).issuer.issue()
        except CredentialRejectedError as error:  # the sidecar's credential, and not the client's
            raise TokenUnavailableError(error.detail, retry_after=error.retry_after or _REJECTED_RETRY_AFTER) from None

    def _message(self, error: Problem) -> Message:
        """Count a refusal, and return it in OAuth's form (RFC 6749, 5.2)."""
        self._endpoint.stats.clients[self.client_name, "refused"] += 1
        code = error.code if isinstance(error, InvalidRequestError) else "invalid_request"
        code = "temporarily_unavailable" if error.status == _UNAVAILABLE else code
        document = json.dumps({"error": code, "error_description": error.detail})
        fields = problem.fields(error) | _NOT_STORED
        if isinstance(error, MethodNotAllowedError):
            fields["Allow"] = "POST"
        if error.status == _UNAVAILABLE:
            fields.setdefault("Retry-After", "5")
        return Message(error.status, fields, document.encode())


async def _no_upstream() -> NoReturn:
    raise AssertionError
