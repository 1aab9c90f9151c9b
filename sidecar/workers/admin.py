"""The first worker's admin listener, which answers for all of them."""

from __future__ import annotations

from typing import Any

import msgspec

from sidecar.admin import web
from sidecar.admin.server import AdminServer
from sidecar.telemetry.exposition import expose
from sidecar.workers.merge import Merged, merge
from sidecar.workers.merge_status import merge_status
from sidecar.workers.siblings import Siblings


class WholeAdminServer(AdminServer):
    """Ready when all are, and the numbers of all."""

    def __init__(self, siblings: Siblings, *given: Any, **more: Any) -> None:
        """`siblings`, then what an `AdminServer` is given."""
        super().__init__(*given, **more)
        self._siblings = siblings

    async def _readyz(self, request: web.BaseRequest) -> web.Response:
        if not self._readiness.ready:
            return await super()._readyz(request)
        reason = await self._siblings.missing()
        return web.Response(text="ok\n") if reason is None else web.Response(status=503, text=f"{reason}\n")

    async def _metrics(self, request: web.BaseRequest) -> web.Response:
        siblings = await self._siblings.metrics()
        whole = Merged(merge([self._registry.collect(), *siblings]))
        body, content_type = expose(whole, request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def _get_status(self, _request: web.BaseRequest) -> web.Response:
        status = merge_status(self._status(), await self._siblings.statuses())
        return web.Response(body=msgspec.json.encode(status), content_type="application/json")
