"""A recording origin: it reads strictly, keeps every byte that it received, and answers as the test says."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from tests.proxy.client import PATIENCE, RECEIVE_BUFFER
from tests.proxy.strict import Message, NotStrictError, Reader

OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"


def _bound(host: str, port: int) -> socket.socket:
    """Has the port, and does not listen yet."""
    bound = socket.socket(proto=socket.IPPROTO_TCP)  # else asyncio does not know that there is a Nagle to switch off
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    bound.bind((host, port))
    return bound


class Connection(asyncio.Protocol):
    """One connection that the origin accepted."""

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self.raw = bytearray()
        self.reader = Reader(requests=True)
        self.error: NotStrictError | None = None
        self.eof = False
        self.lost = asyncio.get_running_loop().create_future()
        self.arrived = asyncio.Event()
        """Set whenever bytes, a FIN or a loss arrive."""
        self._answering: asyncio.Task[None] | None = None
        self._queue: asyncio.Queue[Message] = asyncio.Queue()
        self._continued = False
        self._drained = asyncio.Event()
        self._drained.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.origin.connections.append(self)
        if self.origin.greet is not None:
            self._answering = asyncio.ensure_future(self.origin.greet(self))
        else:
            self._answering = asyncio.ensure_future(self._answer())

    def data_received(self, data: bytes) -> None:
        self.raw += data
        self.arrived.set()
        if self.error is not None or self.origin.greet is not None:
            return
        before = len(self.reader.done)
        try:
            self.reader.feed(data)
        except NotStrictError as error:
            self.error = error
            self.origin.errors.append(error)
        for message in self.reader.done[before:]:
            self.origin.requests.append(message)
            self._queue.put_nowait(message)
            self._continued = False
        self._expect()

    def _expect(self) -> None:
        """100-continue, as any server does it (RFC 9110, 10.1.1)."""
        current = self.reader.current
        if current is None or self._continued or not self.origin.continues:
            return
        if any(value.lower() == b"100-continue" for value in current.values(b"expect")):
            self._continued = True
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    async def _answer(self) -> None:
        while True:
            message = await self._queue.get()
            await self.origin.answer(self, message)

    def eof_received(self) -> bool:
        self.eof = True
        self.arrived.set()
        if self.reader.current is not None:
            self.origin.truncated += 1
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self.arrived.set()
        self._drained.set()
        if not self.lost.done():
            self.lost.set_result(error)
        if self._answering is not None and self._answering is not asyncio.current_task():
            self._answering.cancel()
        self.origin.open_connections -= 1
        self.origin.changed.set()

    def pause_writing(self) -> None:
        self._drained.clear()

    def resume_writing(self) -> None:
        self._drained.set()

    # --- what an answer may do ---

    async def send(self, data: bytes) -> None:
        """Write and wait until the transport has room."""
        if not self.transport.is_closing():
            self.transport.write(data)
        await self._drained.wait()

    async def drip(self, pieces: list[bytes]) -> None:
        """Each piece in a write of its own, the loop running in between."""
        for piece in pieces:
            await self.send(piece)
            for _ in range(4):
                await asyncio.sleep(0)

    async def received(self, count: int) -> bytes:
        """Wait until `count` raw bytes have come."""
        while len(self.raw) < count:
            if self.lost.done():
                raise ConnectionError(f"lost after {len(self.raw)} of {count} bytes")
            self.arrived.clear()
            await self.arrived.wait()
        return bytes(self.raw[:count])

    def finish(self) -> None:
        """FIN; over TLS close_notify first, as decent servers do."""
        self.transport.close()

    def reset(self) -> None:
        """A real RST."""
        sock = self.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()


Answer = Callable[[Connection, Message], Awaitable[None]]


async def answer_ok(connection: Connection, request: Message) -> None:
    """200 with a length."""
    await connection.send(OK[:-2] if request.method == b"HEAD" else OK)


class Origin:
    """Listens on a free port of a loopback address.

    `answer` is awaited for each complete request, in order; `greet`, where set, owns the connection from its start
    (for servers that speak first, hang, or answer half a request) and nothing is parsed.
    """

    def __init__(
        self,
        answer: Answer = answer_ok,
        *,
        greet: Callable[[Connection], Awaitable[None]] | None = None,
        tls: ssl.SSLContext | None = None,
        continues: bool = True,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.answer = answer
        self.greet = greet
        self.tls = tls
        self.continues = continues
        self.host = host
        self.port = port
        self._kept: socket.socket | None = None
        self.requests: list[Message] = []
        self.errors: list[NotStrictError] = []
        self.connections: list[Connection] = []
        self.truncated = 0
        self.open_connections = 0
        self.changed = asyncio.Event()
        """Set whenever a connection is lost; waiters clear it."""

    @property
    def authority(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{'localhost' if self.tls else '127.0.0.1'}:{self.port}"

    def _accept(self) -> Connection:
        self.open_connections += 1
        return Connection(self)

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        bound = self._kept or _bound(self.host, self.port)
        self._kept = None
        self.port = bound.getsockname()[1]
        self._server = await loop.create_server(self._accept, sock=bound, ssl=self.tls)

    async def stop(self) -> None:
        """Refuse connections; the port stays ours, or another test's client may have it when we start again."""
        self._server.close()
        for connection in self.connections:
            if not connection.lost.done():
                connection.transport.abort()
        # Some may still come in meanwhile.
        for connection in self.connections:
            if not connection.lost.done():
                connection.transport.abort()
            await connection.lost
        await asyncio.sleep(0)
        self._kept = self._kept or _bound(self.host, self.port)

    async def idle(self) -> None:
        """Wait until no connection is left."""
        async with asyncio.timeout(PATIENCE):
            while self.open_connections:
                self.changed.clear()
                await self.changed.wait()

    def forget(self) -> None:
        """Start a new page of the record; open connections stay."""
        self.requests.clear()
        self.errors.clear()
        self.truncated = 0
        self.connections = [connection for connection in self.connections if not connection.lost.done()]

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
        if self._kept is not None:
            self._kept.close()
