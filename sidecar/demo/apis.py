"""The stand-in's Camunda APIs: a few endpoints of each, with answers in the documented shape, behind a bearer token."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from sidecar.clock import Clock
from sidecar.demo.signing import TokenSigner

CLUSTER = "11111111-1111-1111-1111-111111111111"
KEY = 2251799813685249

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

AUDIENCES = {
    "operate": "operate.camunda.io",
    "optimize": "optimize.camunda.io",
    "tasklist": "tasklist.camunda.io",
    "zeebe": "zeebe.camunda.io",
    "console": "api.cloud.camunda.io",
    "hub": "api.cloud.camunda.io",
    "modeler": "api.cloud.camunda.io",
}
BASE_PATHS = {
    **{product: f"/{product}/{CLUSTER}" for product in ("operate", "optimize", "tasklist", "zeebe")},
    **{product: f"/{product}" for product in ("console", "hub")},
    "modeler": "/modeler/api",
}
"""On SaaS these are hosts of their own; their base paths are like here."""

_DEFINITION = {
    "key": KEY,
    "name": "Invoice approval",
    "version": 1,
    "bpmnProcessId": "invoice-approval",
    "tenantId": "<default>",
}
_INSTANCE = {
    "key": KEY + 8,
    "processVersion": 1,
    "bpmnProcessId": "invoice-approval",
    "startDate": "2026-01-05T08:00:00.000+0000",
    "state": "ACTIVE",
    "incident": False,
    "processDefinitionKey": KEY,
    "tenantId": "<default>",
}
_CLUSTER = {
    "uuid": CLUSTER,
    "name": "demo",
    "created": "2026-01-05T08:00:00.000Z",
    "planType": {"uuid": "11111111-0000-0000-0000-000000000001", "name": "Starter"},
    "region": {"uuid": "11111111-0000-0000-0000-000000000002", "name": "Belgium, Europe (bru-2)"},
    "generation": {"uuid": "11111111-0000-0000-0000-000000000003", "name": "Camunda 8.9"},
    "channel": {"uuid": "11111111-0000-0000-0000-000000000004", "name": "Stable"},
    "status": {"ready": "Healthy", "operateStatus": "Healthy", "optimizeStatus": "Healthy", "zeebeStatus": "Healthy"},
    "links": {},
}
_TOPOLOGY = {
    "brokers": [
        {
            "nodeId": 0,
            "brokerId": "0",
            "host": "camunda",
            "port": 26501,
            "partitions": [{"partitionId": 1, "role": "leader", "health": "healthy", "state": "active"}],
            "version": "8.9.0",
        }
    ],
    "clusterId": CLUSTER,
    "clusterSize": 1,
    "partitionsCount": 1,
    "replicationFactor": 1,
    "gatewayVersion": "8.9.0",
    "lastCompletedChangeId": "-1",
}
_PAGE = {"totalItems": 1, "hasMoreTotalItems": False, "startCursor": None, "endCursor": None}
_PROJECT = {"id": "11111111-0000-0000-0000-000000000005", "name": "Invoices"}
_TASK = {"id": str(KEY + 16), "name": "Approve the invoice", "processName": "Invoice approval", "taskState": "CREATED"}
_INFO = {"version": "v2", "authorizedOrganization": CLUSTER, "createPermission": False, "readPermission": True}


def _list(*items: dict[str, Any]) -> dict[str, Any]:
    return {"items": list(items), "total": len(items)}


def _found(*items: dict[str, Any]) -> dict[str, Any]:
    return {"items": list(items), "page": _PAGE | {"totalItems": len(items)}}


ENDPOINTS: dict[str, dict[tuple[str, str], Any]] = {
    "operate": {
        ("POST", "/v1/process-definitions/search"): _list(_DEFINITION),
        ("GET", "/v1/process-definitions/{key}"): _DEFINITION,
        ("POST", "/v1/process-instances/search"): _list(_INSTANCE),
        ("GET", "/v1/process-instances/{key}"): _INSTANCE,
        ("POST", "/v1/incidents/search"): _list(),
    },
    "optimize": {
        ("GET", "/api/public/dashboard"): [{"id": "invoice-dashboard"}],
        ("GET", "/api/public/report"): [{"id": "invoice-report"}],
        ("GET", "/api/public/export/report/{id}/result/json"): {"numberOfRecordsInResponse": 0, "data": []},
        ("POST", "/api/public/share/enable"): None,
    },
    "tasklist": {
        ("POST", "/v1/tasks/search"): [_TASK],
        ("GET", "/v1/tasks/{id}"): _TASK,
    },
    "zeebe": {
        ("GET", "/v2/topology"): _TOPOLOGY,
        ("GET", "/v2/status"): None,
        ("GET", "/v2/license"): {"validLicense": True, "licenseType": "saas", "isCommercial": True, "expiresAt": None},
        ("POST", "/v2/process-definitions/search"): _found(),
        ("POST", "/v2/process-instances/search"): _found(),
        ("POST", "/v2/user-tasks/search"): _found(),
        ("POST", "/v2/jobs/activation"): {"jobs": []},
    },
    "console": {
        ("GET", "/clusters"): [_CLUSTER],
        ("GET", "/clusters/parameters"): {"channels": [], "clusterPlanTypes": [], "regions": []},
        ("GET", "/clusters/{uuid}"): _CLUSTER,
        ("GET", "/clusters/{uuid}/clients"): [],
        ("GET", "/members"): [{"name": "Demo", "email": "demo@example.com", "roles": ["admin"]}],
    },
    "hub": {
        ("GET", "/api/v2/info"): _INFO,
        ("POST", "/api/v2/projects/search"): _found(_PROJECT),
        ("POST", "/api/v2/files/search"): _found(),
    },
    "modeler": {
        ("GET", "/v1/info"): _INFO,
        ("POST", "/v1/projects/search"): _list(_PROJECT),
        ("POST", "/v1/files/search"): _list(),
    },
}


class Apis:
    """Serves them all; counts what was served and what was not."""

    def __init__(self, signer: TokenSigner, clock: Clock) -> None:
        self._signer = signer
        self._clock = clock
        self.answers: Counter[tuple[str, int]] = Counter()
        """By product and status code."""

    def add_to(self, app: web.Application) -> None:
        """Mount every product below its base path."""
        for product, endpoints in ENDPOINTS.items():
            api = web.Application(middlewares=[self._counted(product), self._authorized(AUDIENCES[product])])
            for (method, path), answer in endpoints.items():
                api.router.add_route(method, path, _answering(answer))
            if product == "optimize":
                api.router.add_get("/api/readyz", _readyz)
            app.add_subapp(BASE_PATHS[product], api)

    def _counted(self, product: str) -> Any:
        @web.middleware
        async def count(request: web.Request, handler: Handler) -> web.StreamResponse:
            try:
                response = await handler(request)
            except web.HTTPException as error:
                response = web.json_response({"status": error.status, "message": error.reason}, status=error.status)
            self.answers[product, response.status] += 1
            return response

        return count

    def _authorized(self, audience: str) -> Any:
        @web.middleware
        async def authorize(request: web.Request, handler: Handler) -> web.StreamResponse:
            if request.match_info.handler is _readyz:
                return await handler(request)
            refusal = self._refusal(request.headers.get("Authorization", ""), audience)
            return await handler(request) if refusal is None else _unauthorized(refusal)

        return authorize

    def _refusal(self, header: str, audience: str) -> str | None:
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer" or not token:
            return "no bearer token"
        claims = self._signer.claims(token.strip())
        if claims is None:
            return "the token is unknown"
        if claims["exp"] <= self._clock.wall():
            return "the token has expired"
        return None if claims["aud"] == audience else "the token is for another audience"


async def _readyz(request: web.Request) -> web.StreamResponse:
    """Optimize's readiness: public, and it refuses a request that brings credentials all the same."""
    return web.Response(status=400 if "Authorization" in request.headers else 200)


def _answering(answer: Any) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        await request.read()
        return web.Response(status=204) if answer is None else web.json_response(answer)

    return handler


def _unauthorized(reason: str) -> web.Response:
    """RFC 6750, 3."""
    return web.json_response(
        {"status": 401, "message": f"Unauthorized: {reason}"},
        status=401,
        headers={"WWW-Authenticate": 'Bearer error="invalid_token"'},
    )
