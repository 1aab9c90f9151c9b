"""The floor: bytes passed on by asyncio Protocols on uvloop, one upstream connection a client; nothing is read.

No proxy in this language can cost less. It attaches nothing, so its clients send the origin's path and the token.
"""

import asyncio
import json
import ssl
import sys
from pathlib import Path
from typing import Any

import uvloop

from bench.machine import metadata
from bench.peers.kind import Target, blind_target
from bench.processes import Command
from bench.site import HOST, NAME, Route, Site
from bench.tools import Toolbox


class Relay:
    name = "relay"
    label = "bare uvloop relay"

    def find(self, tools: Toolbox) -> str | None:  # noqa: ARG002 (the Protocol's)
        return f"uvloop {metadata.version('uvloop')}"

    def command(self, site: Site, directory: Path, port: int, workers: int) -> Command:  # noqa: ARG002
        path = directory / "relay.json"
        pairs = [(port + index, route.port, route.tls) for index, route in enumerate(site.routes)]
        path.write_text(json.dumps({"ca_file": str(site.ca_file), "pairs": pairs}))
        return Command([sys.executable, "-m", "bench.peers.relay", str(path)], {})

    def target(self, site: Site, port: int, route: Route) -> Target:
        return blind_target(site, port + site.routes.index(route))


class _End(asyncio.Protocol):
    """One end of a pair."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.other: _End | None = None
        self.early: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        other = self.other
        if other is None:
            self.early.append(data)
        else:
            other.transport.write(data)

    def pause_writing(self) -> None:
        if self.other is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None:
            self.other.transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 (the Protocol's)
        if self.other is not None:
            self.other.transport.close()


class _Client(_End):
    """The client's end: it opens the other one."""

    def __init__(self, port: int, context: ssl.SSLContext | None) -> None:
        super().__init__()
        self._port = port
        self._context = context
        self._opening: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._opening = asyncio.ensure_future(self._open())

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        name = NAME if self._context else None
        _, upstream = await loop.create_connection(_End, HOST, self._port, ssl=self._context, server_hostname=name)
        upstream.other = self
        self.other = upstream
        for data in self.early:
            upstream.transport.write(data)
        self.early.clear()


async def _serve(facts: dict[str, Any]) -> None:
    loop = asyncio.get_running_loop()
    context = ssl.create_default_context(cafile=facts["ca_file"])
    for listen, port, tls in facts["pairs"]:
        factory = lambda port=port, tls=tls: _Client(port, context if tls else None)  # noqa: E731
        await loop.create_server(factory, HOST, listen, backlog=4096)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_serve(json.loads(Path(sys.argv[1]).read_text())))
