"""A real server for real clients to reach through the sidecar: aiohttp's, plain or over TLS."""

from __future__ import annotations

import contextlib
import hashlib
import ssl
from collections.abc import AsyncIterator

import trustme
from aiohttp import WSMsgType, web

PIECE = hashlib.sha256(b"piece").digest() * 512  # 16 KiB


def pattern(size: int) -> bytes:
    """So many bytes, always the same."""
    return (PIECE * (size // len(PIECE) + 1))[:size]


async def echo(request: web.Request) -> web.Response:
    """What the upstream saw."""
    digest, length = hashlib.sha256(), 0
    async for data in request.content.iter_any():
        digest.update(data)
        length += len(data)
    seen = {
        "method": request.method,
        "path": request.raw_path,
        "headers": {name.lower(): request.headers.getall(name) for name in request.headers},
        "length": length,
        "sha256": digest.hexdigest(),
    }
    return web.json_response(seen)


async def download(request: web.Request) -> web.StreamResponse:
    """`size` bytes, chunked or with a length."""
    size = int(request.match_info["size"])
    response = web.StreamResponse()
    if "length" in request.query:
        response.content_length = size
    await response.prepare(request)
    data = pattern(size)
    if request.method != "HEAD":
        for start in range(0, size, len(PIECE)):
            await response.write(data[start : start + len(PIECE)])
    await response.write_eof()
    return response


async def talk(request: web.Request) -> web.WebSocketResponse:
    """Echoes messages; closes when told to."""
    socket = web.WebSocketResponse(max_msg_size=1 << 24)
    await socket.prepare(request)
    await socket.send_str(request.headers["Authorization"])
    async for message in socket:
        if message.type is WSMsgType.TEXT and message.data == "close":
            await socket.close(code=4000, message=b"as told")
        elif message.type is WSMsgType.TEXT:
            await socket.send_str(message.data)
        elif message.type is WSMsgType.BINARY:
            await socket.send_bytes(message.data)
    return socket


async def events(request: web.Request) -> web.StreamResponse:
    """Server-sent events, each only after the client could see the one before."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for number in range(3):
        await response.write(b"data: %d\n\n" % number)
    await response.write_eof()
    return response


def application() -> web.Application:
    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/base/echo{tail:.*}", echo)
    app.router.add_route("*", "/base/download/{size}", download)
    app.router.add_get("/base/ws", talk)
    app.router.add_get("/base/events", events)
    return app


class Certificates:
    """An authority of our own: the server's context and the client's."""

    def __init__(self) -> None:
        authority = trustme.CA()
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost", "127.0.0.1").configure_cert(self.server)
        self.client = ssl.create_default_context()
        authority.configure_trust(self.client)


@contextlib.asynccontextmanager
async def serving(tls: ssl.SSLContext | None) -> AsyncIterator[str]:
    """The base URL of a running one."""
    runner = web.AppRunner(application(), access_log=None, handle_signals=False, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        port = runner.addresses[0][1]
        yield f"{'https' if tls else 'http'}://localhost:{port}/base"
    finally:
        await runner.cleanup()
