"""The stand-in's Camunda APIs: a few endpoints of each, with answers in the documented shape, behind a bearer token."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from sidecar.demo.issuer import Issuer

CLUSTER = "11111111-1111-1111-1111-111111111111"
KEY = 2251799813685249

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

AUDIENCES = {
    **{product: f"{product}.camunda.io" for product in ("operate", "optimize", "tasklist", "zeebe")},
    **dict.fromkeys(("console", "hub", "modeler"), "api.cloud.camunda.io"),
}
BASE_PATHS = {
    **{product: f"/{product}/{CLUSTER}" for product in ("operate", "optimize", "tasklist", "zeebe")},
    "console": "/console",
    "hub": "/hub",
    "modeler": "/modeler/api",
}
"""On SaaS each product has a host of its own, with the same base path."""


def _part(number: int, name: str) -> dict[str, str]:
    return {"uuid": f"11111111-0000-0000-0000-{number:012}", "name": name}


def _list(*items: dict[str, Any]) -> dict[str, Any]:
    return {"items": list(items), "total": len(items)}


def _found(*items: dict[str, Any]) -> dict[str, Any]:
    page = {"totalItems": len(items), "hasMoreTotalItems": False, "startCursor": None, "endCursor": None}
    return {"items": list(items), "page": page}


_PROCESS = {"bpmnProcessId": "invoice-approval", "tenantId": "<default>"}
_DEFINITION = _PROCESS | {"key": KEY, "name": "Invoice approval", "version": 1}
_INSTANCE = _PROCESS | {
    "key": KEY + 8,
    "processVersion": 1,
    "startDate": "2026-01-05T08:00:00.000+0000",
    "state": "ACTIVE",
    "incident": False,
    "processDefinitionKey": KEY,
}
_CLUSTER = {
    "uuid": CLUSTER,
    "name": "demo",
    "created": "2026-01-05T08:00:00.000Z",
    "planType": _part(1, "Starter"),
    "region": _part(2, "Belgium, Europe (bru-2)"),
    "generation": _part(3, "Camunda 8.9"),
    "channel": _part(4, "Stable"),
    "status": {"ready": "Healthy", "operateStatus": "Healthy", "optimizeStatus": "Healthy", "zeebeStatus": "Healthy"},
    "links": {},
}
_PARTITION = {"partitionId": 1, "role": "leader", "health": "healthy", "state": "active"}
_BROKER = {"nodeId": 0, "brokerId": "0", "host": "camunda", "port": 26501, "version": "8.9.0"}
_TOPOLOGY = {
    "brokers": [_BROKER | {"partitions": [_PARTITION]}],
    "clusterId": CLUSTER,
    "clusterSize": 1,
    "partitionsCount": 1,
    "replicationFactor": 1,
    "gatewayVersion": "8.9.0",
    "lastCompletedChangeId": "-1",
}
_PROJECT = {"id": _part(5, "")["uuid"], "name": "Invoices"}
_TASK = {"id": str(KEY + 16), "name": "Approve the invoice", "processName": "Invoice approval", "taskState": "CREATED"}
_INFO = {"version": "v2", "authorizedOrganization": CLUSTER, "createPermission": False, "readPermission": True}

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
    "tasklist": {("POST", "/v1/tasks/search"): [_TASK], ("GET", "/v1/tasks/{id}"): _TASK},
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
    """Serves all APIs and counts their answers."""

    def __init__(self, issuer: Issuer) -> None:
        self._issuer = issuer
        self.answers: Counter[tuple[str, int]] = Counter()
        """By product and status code."""

    def add_to(self, app: web.Application) -> None:
        """Mount every product below its base path."""
        for product, endpoints in ENDPOINTS.items():
            api = web.Application(middlewares=[self._guard(product)])
            for (method, path), answer in endpoints.items():
                api.router.add_route(method, path, _answering(answer))
            app.add_subapp(BASE_PATHS[product], api)

    def _guard(self, product: str) -> Any:
        @web.middleware
        async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
            response: web.StreamResponse
            refusal = self._issuer.refusal(request, AUDIENCES[product])
            if product == "optimize" and request.method == "GET" and request.path.endswith("/api/readyz"):
                # Public, and it refuses a request that brings credentials all the same.
                response = web.Response(status=400 if "Authorization" in request.headers else 200)
            elif refusal is not None:
                body = {"status": 401, "message": f"Unauthorized: {refusal}"}
                challenge = {"WWW-Authenticate": 'Bearer error="invalid_token"'}  # RFC 6750, 3
                response = web.json_response(body, status=401, headers=challenge)
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
