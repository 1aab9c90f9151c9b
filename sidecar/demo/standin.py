"""An embedded Camunda SaaS in small: its login and a few endpoints of each API on one port, for the demo and for tests.

The login grants client credentials (RFC 6749, 4.4) at a limited rate, in the manner of Auth0 behind Camunda SaaS.
"""

from __future__ import annotations

import hmac
import math
import secrets
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from aiohttp import web
from aiohttp.typedefs import Handler
from joserfc import jwt
from joserfc.jwk import OctKey

from sidecar.clock import Clock, SystemClock
from sidecar.config.products import PRODUCTS

CLUSTER = "11111111-1111-1111-1111-111111111111"
KEY = 2251799813685249
LIFETIME = 3600
"""Seconds that a token lives."""
TOKEN_PATH = "/oauth/token"  # noqa: S105 (a path)
AUDIENCES = {name: product.audience for name, product in PRODUCTS.items()}
BASE_PATHS = {
    name: f"/{name}/{CLUSTER}" if product.of_cluster else f"/{name}" for name, product in PRODUCTS.items()
} | {"modeler": "/modeler/api"}
"""On SaaS each product has a host of its own, with the same base path."""

_DEFINITION = {"key": KEY, "name": "Invoice approval", "version": 1, "bpmnProcessId": "invoice-approval"}
_INSTANCE = {"key": KEY + 8, "processVersion": 1, "bpmnProcessId": "invoice-approval", "state": "ACTIVE"}
_TASK = {"id": str(KEY + 16), "name": "Approve the invoice", "taskState": "CREATED"}
_CLUSTER = {"uuid": CLUSTER, "name": "demo", "status": {"ready": "Healthy"}, "links": {}}
_BROKER = {"nodeId": 0, "brokerId": "0", "host": "camunda", "port": 26501, "version": "8.9.0", "partitions": []}
_TOPOLOGY = {
    "brokers": [_BROKER],
    "clusterId": CLUSTER,
    "clusterSize": 1,
    "partitionsCount": 1,
    "replicationFactor": 1,
    "gatewayVersion": "8.9.0",
    "lastCompletedChangeId": "-1",
}
_LICENSE = {"validLicense": True, "licenseType": "saas", "isCommercial": True, "expiresAt": None}
_PROJECT = {"id": "11111111-0000-0000-0000-000000000005", "name": "Invoices"}
_INFO = {"version": "v2", "authorizedOrganization": CLUSTER, "createPermission": False, "readPermission": True}


def _list(*items: dict[str, Any]) -> dict[str, Any]:
    return {"items": list(items), "total": len(items), "page": {"totalItems": len(items)}}


ENDPOINTS: dict[str, dict[str, Any]] = {
    "operate": {
        "POST /v1/process-definitions/search": _list(_DEFINITION),
        "GET /v1/process-definitions/{key}": _DEFINITION,
        "POST /v1/process-instances/search": _list(_INSTANCE),
        "GET /v1/process-instances/{key}": _INSTANCE,
        "POST /v1/incidents/search": _list(),
    },
    "optimize": {
        "GET /api/public/dashboard": [{"id": "invoice-dashboard"}],
        "GET /api/public/report": [{"id": "invoice-report"}],
        "POST /api/public/share/enable": None,
    },
    "tasklist": {"POST /v1/tasks/search": [_TASK], "GET /v1/tasks/{id}": _TASK},
    "zeebe": {"GET /v2/topology": _TOPOLOGY, "GET /v2/license": _LICENSE, "POST /v2/jobs/activation": {"jobs": []}},
    "console": {
        "GET /clusters": [_CLUSTER],
        "GET /clusters/{uuid}": _CLUSTER,
        "GET /members": [{"name": "Demo", "email": "demo@example.com", "roles": ["admin"]}],
    },
    "hub": {"GET /api/v2/info": _INFO, "POST /api/v2/projects/search": _list(_PROJECT)},
    "modeler": {"GET /v1/info": _INFO, "POST /v1/projects/search": _list(_PROJECT)},
}
"""What each API answers to a method and a path; None is a 204."""


@dataclass(frozen=True, slots=True)
class Client:
    """A client that may get tokens for some audiences, with a new random secret."""

    client_id: str
    audiences: frozenset[str]
    secret: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """A request that arrived at the login."""

    at: float
    """In seconds of the monotonic clock."""
    outcome: Literal["granted", "refused", "throttled"]
    audience: str = ""


class StandIn:
    """It grants tokens, and serves the APIs to whoever brings one.

    `cluster_client` may have tokens for Operate, Optimize, Tasklist and Zeebe, `organization_client` and `hub_client`
    for the organization's APIs.
    """

    def __init__(self, interval: float = 1.0, clock: Clock | None = None) -> None:
        """`interval` is the least time in seconds between two token requests, as Camunda SaaS has it."""
        organization = frozenset({AUDIENCES["console"]})
        self.cluster_client = Client("demo-cluster-client", frozenset(AUDIENCES.values()) - organization)
        self.organization_client = Client("demo-organization-client", organization)
        self.hub_client = Client("demo-hub-client", organization)
        self.url = ""
        """Scheme, host and port, once started."""
        self.token_requests: list[TokenRequest] = []
        """All of them, in the order in which they arrived."""
        self.answers: Counter[tuple[str, int]] = Counter()
        """The APIs' answers, by product and status code."""
        clients = (self.cluster_client, self.organization_client, self.hub_client)
        self._clients = {client.client_id: client for client in clients}
        self._interval = interval
        self._clock = clock or SystemClock()
        self._next_at = float("-inf")
        self._key = OctKey.generate_key(256)
        self._issued: dict[str, dict[str, Any]] = {}
        self._runner: web.AppRunner | None = None

    @property
    def token_url(self) -> str:
        """The URL of the token endpoint."""
        return self.url + TOKEN_PATH

    def upstream(self, product: str) -> str:
        """Return the base URL of a product."""
        return self.url + BASE_PATHS[product]

    def refused(self) -> int:
        """Return how many token requests got no token."""
        return sum(request.outcome != "granted" for request in self.token_requests)

    async def start(self, port: int = 0) -> None:
        """Listen; port 0 is any free one.

        Raises:
            OSError: the port is taken.
        """
        app = web.Application()
        app.router.add_post(TOKEN_PATH, self._token)
        for product, endpoints in ENDPOINTS.items():
            api = web.Application(middlewares=[self._guard(product)])
            for endpoint, answer in endpoints.items():
                method, path = endpoint.split()
                api.router.add_route(method, path, _answering(answer))
            app.add_subapp(BASE_PATHS[product], api)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", port).start()
        self.url = "http://{}:{}".format(*self._runner.addresses[0])

    async def close(self) -> None:
        """Stop listening and end every connection."""
        if self._runner is not None:
            await self._runner.cleanup()

    # --- the login ---------------------------------------------------------------------------------------------------

    async def _token(self, request: web.Request) -> web.Response:
        now = self._clock.monotonic()
        if now < self._next_at:
            self.token_requests.append(TokenRequest(now, "throttled"))
            headers = {"Retry-After": str(math.ceil(self._next_at - now))}
            return web.json_response({"error": "too_many_requests"}, status=429, headers=headers)
        self._next_at = now + self._interval
        fields = {name: str(value) for name, value in (await request.post()).items()}
        client, audience = self._clients.get(fields.get("client_id", "")), fields.get("audience", "")
        if fields.get("grant_type") != "client_credentials":
            status, error = 400, "unsupported_grant_type"
        elif client is None or not hmac.compare_digest(fields.get("client_secret", ""), client.secret):
            status, error = 401, "access_denied"
        elif audience not in client.audiences:
            status, error = 403, "access_denied"
        else:
            self.token_requests.append(TokenRequest(now, "granted", audience))
            answer = {"access_token": self._issue(client, audience), "expires_in": LIFETIME, "token_type": "Bearer"}
            return web.json_response(answer, headers={"Cache-Control": "no-store"})
        self.token_requests.append(TokenRequest(now, "refused"))
        return web.json_response({"error": error, "error_description": "Unauthorized"}, status=status)

    def _issue(self, client: Client, audience: str) -> str:
        """Return a JWT (RFC 7519), signed with a key that nobody else has."""
        now = int(self._clock.wall())
        claims = {"sub": f"{client.client_id}@clients", "aud": audience, "iat": now, "exp": now + LIFETIME}
        token = jwt.encode({"alg": "HS256"}, claims | {"jti": secrets.token_hex(16)}, self._key)
        self._issued[token] = claims
        return token

    # --- the APIs ----------------------------------------------------------------------------------------------------

    def _accepts(self, headers: Mapping[str, str], audience: str) -> bool:
        claims = self._issued.get(headers.get("Authorization", "").removeprefix("Bearer "))
        return claims is not None and claims["aud"] == audience and claims["exp"] > self._clock.wall()

    def _guard(self, product: str) -> Any:
        @web.middleware
        async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
            response: web.StreamResponse
            if product == "optimize" and request.path.endswith("/api/readyz"):
                # Public, and it refuses a request that brings credentials all the same.
                response = web.Response(status=400 if "Authorization" in request.headers else 200)
            elif not self._accepts(request.headers, AUDIENCES[product]):
                challenge = {"WWW-Authenticate": 'Bearer error="invalid_token"'}  # RFC 6750, 3
                response = web.json_response({"status": 401, "message": "Unauthorized"}, status=401, headers=challenge)
            else:
                try:
                    response = await handler(request)
                except web.HTTPException as error:
                    response = web.json_response({"status": error.status, "message": error.reason}, status=error.status)
            self.answers[product, response.status] += 1
            return response

        return guard


def _answering(answer: Any) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        await request.read()
        return web.Response(status=204) if answer is None else web.json_response(answer)

    return handler
