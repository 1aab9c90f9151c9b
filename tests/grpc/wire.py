"""HTTP/2 frames on the wire (RFC 9113, 4.1), as far as tests look at them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY = 0, 1, 3, 4, 6, 7
END_STREAM = ACK = 1


def frame(kind: int, payload: bytes = b"", flags: int = 0) -> bytes:
    """A frame of stream 0."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + bytes(4) + payload


def frames(data: bytes) -> list[tuple[int, int]]:
    """Kind and flags of each complete frame; a client's preface is skipped."""
    data = data.removeprefix(PREFACE)
    found = []
    while len(data) >= 9 and len(data) >= (end := 9 + int.from_bytes(data[:3], "big")):
        found.append((data[3], data[4]))
        data = data[end:]
    return found


class Relay:
    """Passes bytes between a client and a server, remembers what the client sent, and can break everything."""

    def __init__(self, port: int) -> None:
        """`port` is the server's."""
        self.url = ""
        self.sent = b""
        self._port = port
        self._writers: set[asyncio.StreamWriter] = set()

    def break_all(self) -> None:
        """Reset every connection."""
        for writer in self._writers:
            writer.transport.abort()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers |= {writer, back}

        async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter, *, remember: bool) -> None:
            with contextlib.suppress(OSError):
                while data := await source.read(65536):
                    self.sent += data if remember else b""
                    target.write(data)
            target.close()

        await asyncio.gather(copy(reader, back, remember=True), copy(there, writer, remember=False))


@asynccontextmanager
async def recording(port: int) -> AsyncIterator[Relay]:
    """A relay to a server on `port`."""
    relay = Relay(port)
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        await relay.connected(reader, writer)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    relay.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield relay
    finally:
        server.close()
        relay.break_all()
        await asyncio.gather(*tasks)
