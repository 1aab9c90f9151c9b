"""The helper's listener over real sockets, with credentials of the test's choice."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from sidecar.authorize import AuthorizeServer
from sidecar.clock import SystemClock
from sidecar.config.model import Authorize
from sidecar.config.settings import Address, TcpAddress, UnixAddress
from sidecar.listener import listening
from sidecar.telemetry.http import HttpStats
from tests.proxy.support import FakeAuthorizer, settings


@dataclass
class Running:
    """A listener under test, and a client."""

    address: Address
    stats: HttpStats
    session: aiohttp.ClientSession

    async def ask(self, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
        """Status, fields and body of an answer; an underscore in a header's name is a hyphen."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        port = f":{self.address.port}" if isinstance(self.address, TcpAddress) else ""
        async with self.session.request(method, f"http://localhost{port}{path}", headers=given) as answer:
            return answer.status, {name.lower(): value for name, value in answer.headers.items()}, await answer.read()

    def counted(self) -> dict[tuple[str, int, str], int]:
        """Finished requests by method, status and source."""
        return dict(self.stats.route("authorize").requests)


@asynccontextmanager
async def serving(
    authorizers: dict[str, FakeAuthorizer], listen: Address | None = None, **changes: Any
) -> AsyncIterator[Running]:
    """The helper for these routes; `changes` are settings."""
    with listening("authorize.listen", listen or TcpAddress("127.0.0.1", 0)) as [listener]:
        stats = HttpStats()
        server = AuthorizeServer(listener, 16, stats, SystemClock())
        server.configure(settings(authorize=Authorize(listener.address), **changes), authorizers)
        await server.start()
        where = listener.address
        connector = aiohttp.UnixConnector(str(where.path)) if isinstance(where, UnixAddress) else None
        try:
            async with aiohttp.ClientSession(connector=connector) as session:
                yield Running(where, stats, session)
        finally:
            await server.close()
