"""Fakes for issuers over real sockets, gates that count, and credentials made short."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl

from sidecar.clock import SystemClock
from sidecar.config.settings import ClientCredentials, Tls
from sidecar.credentials import tls
from sidecar.credentials.client_credentials import ClientCredentialsSource, client_key
from sidecar.credentials.file_watching import Watched
from sidecar.credentials.token_request import Endpoint
from sidecar.secret import Secret, SecretSource

Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
GOOD = b'{"access_token":"good-token","token_type":"Bearer","expires_in":3600}'


class CountingGate:
    """A gate that lets everything pass at once, and remembers the order of what it saw."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    async def slot(self) -> None:
        self.seen.append("slot")

    def sent(self) -> None:
        self.seen.append("sent")

    async def postpone(self, seconds: float) -> None:
        self.seen.append(f"postponed {seconds:g}")


@dataclass
class Received:
    """One request as an issuer saw it."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode(), keep_blank_values=True, strict_parsing=True))


@dataclass
class FakeIssuer:
    """A server that behaves, request by request, as its script says; the last behaviour stays."""

    script: list[Behaviour]
    url: str = ""
    received: list[Received] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behaviour = self.script[min(len(self.received), len(self.script) - 1)]
        try:
            if not hasattr(behaviour, "speaks_first"):
                self.received.append(await read_request(reader))
            await behaviour(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()


async def read_request(reader: asyncio.StreamReader) -> Received:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    line, *fields = head.split("\r\n")[:-2]
    method, target, _ = line.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (item.partition(":") for item in fields)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Received(method, target, headers, body)


@contextlib.asynccontextmanager
async def issuer(*script: Behaviour, context: ssl.SSLContext | None = None) -> AsyncIterator[FakeIssuer]:
    fake = FakeIssuer(list(script))
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with contextlib.suppress(asyncio.CancelledError):
            await fake.serve(reader, writer)

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    fake.url = f"{'https' if context else 'http'}://localhost:{port}/oauth/token"
    try:
        yield fake
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


# --- behaviours: each fault by its name ---------------------------------------------------------------------------


def answers(
    body: bytes = GOOD, *, status: int = 200, content_type: str | None = "application/json", **headers: str
) -> Behaviour:
    """A whole answer. Header names are given with underscores."""
    lines = [f"HTTP/1.1 {status} Reason", f"Content-Length: {len(body)}", "Connection: close"]
    lines += [f"Content-Type: {content_type}"] if content_type else []
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    raw = "\r\n".join(lines).encode() + b"\r\n\r\n" + body
    return sends(raw)


def sends(raw: bytes) -> Behaviour:
    """These bytes, and then the end of the connection."""

    async def behave(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(raw)
        await writer.drain()

    return behave


def interrupts(raw: bytes) -> Behaviour:
    """Speaks before it is spoken to, as a server that hears no HTTP does."""
    behave = sends(raw)
    behave.speaks_first = True
    return behave


async def hangs(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Never answers; ends when the client does."""
    await reader.read()


def drips(raw: bytes, pace: float = 0.01) -> Behaviour:
    """One byte at a time, for ever: every read succeeds, the whole never does."""

    async def behave(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for octet in raw:
            writer.write(bytes([octet]))
            await writer.drain()
            await asyncio.sleep(pace)

    return behave


async def resets(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A real RST after the request."""
    raw = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


# --- credentials ---------------------------------------------------------------------------------------------------


def credential(url: str, **changes: object) -> ClientCredentials:
    settings: dict[str, object] = {
        "name": "cluster",
        "token_url": url,
        "client_id": "the-client",
        "client_secret": SecretSource(value=Secret("the secret/+=&é")),
    }
    return ClientCredentials(**(settings | changes))  # type: ignore[arg-type]


def source(
    settings: ClientCredentials, audience: str | None = "operate.camunda.io", *, timeout: float = 5.0
) -> ClientCredentialsSource:
    secure = settings.token_url.startswith("https:")
    context = None
    if secure:
        context = Watched("tls", tls.files(settings.tls), lambda: tls.client_context(settings.tls, time.time()))
    return ClientCredentialsSource(
        settings,
        audience,
        key=client_key(settings, SystemClock()),
        endpoint=Endpoint(settings.token_url, timeout, context, settings.proxy),
        clock=SystemClock(),
    )


def trusting(ca_file: Path, **more: object) -> Tls:
    return Tls(ca_file=ca_file, **more)  # type: ignore[arg-type]
