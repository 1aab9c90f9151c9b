"""The proxy that one would write first: aiohttp.web in front, an aiohttp client behind, on uvloop."""

import asyncio
import json
import ssl
import sys
from pathlib import Path

import uvloop
from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, TCPConnector, hdrs, web
from multidict import CIMultiDict
from yarl import URL

from bench.machine import metadata
from bench.peers.kind import HttpKind
from bench.processes import Command
from bench.site import BASE_PATH, HOST, Site
from bench.tools import Toolbox

_DROPPED = {"host", "authorization", "cookie", "set-cookie", "connection", "keep-alive", "transfer-encoding", "upgrade"}


class AiohttpProxy(HttpKind):
    name = "aiohttp"
    label = "aiohttp proxy"

    def find(self, tools: Toolbox) -> str | None:  # noqa: ARG002 (the Protocol's)
        return metadata.version("aiohttp")

    def command(self, site: Site, directory: Path, port: int, workers: int) -> Command:  # noqa: ARG002
        path = directory / "proxy.json"
        routes = {r.prefix: f"{'https' if r.tls else 'http'}://{r.authority}{BASE_PATH}" for r in site.routes}
        facts = {"port": port, "token": site.token, "ca_file": str(site.ca_file), "routes": routes}
        path.write_text(json.dumps(facts))
        return Command([sys.executable, "-m", "bench.peers.aiohttp_proxy", str(path)], {})


def _passed(headers: "CIMultiDict[str]") -> "CIMultiDict[str]":
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in _DROPPED)


async def _serve(facts: dict[str, object]) -> None:
    routes: dict[str, str] = facts["routes"]  # type: ignore[assignment]
    authorization = f"Bearer {facts['token']}"
    connector = TCPConnector(
        limit=0, keepalive_timeout=3600, ssl=ssl.create_default_context(cafile=str(facts["ca_file"]))
    )

    async def handle(request: web.Request) -> web.StreamResponse:
        _, name, rest = request.raw_path.split("/", 2)
        headers = _passed(request.headers)
        headers[hdrs.AUTHORIZATION] = authorization
        url = URL(f"{routes['/' + name]}/{rest}", encoded=True)
        data = request.content if request.can_read_body else None
        async with session.request(request.method, url, headers=headers, data=data, allow_redirects=False) as answer:
            response = web.StreamResponse(status=answer.status, reason=answer.reason, headers=_passed(answer.headers))
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
            await response.write_eof()
            return response

    async with ClientSession(
        connector=connector, auto_decompress=False, cookie_jar=DummyCookieJar(), timeout=ClientTimeout(total=None)
    ) as session:
        application = web.Application(client_max_size=1 << 40)
        application.router.add_route("*", "/{path:.*}", handle)
        runner = web.AppRunner(application, access_log=None, keepalive_timeout=3600)
        await runner.setup()
        await web.TCPSite(runner, HOST, int(str(facts["port"])), backlog=4096).start()
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_serve(json.loads(Path(sys.argv[1]).read_text())))
