"""A raw client: it sends the bytes that it is told to, in the cuts that it is told to, and reads strictly."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self

from tests.proxy.strict import Message, NotStrictError, Reader

PATIENCE = 10.0
"""Seconds that anything may take before a test says that it hangs."""
RECEIVE_BUFFER = 256 << 10
"""Bytes that the kernel keeps for a peer of a test who does not read; unset it may grow to many megabytes."""


def whole(raw: bytes) -> list[bytes]:
    """All at once."""
    return [raw]


def single_bytes(raw: bytes) -> list[bytes]:
    """Byte by byte; of very long inputs only both ends are cut so fine."""
    if len(raw) <= 2048:
        return [raw[i : i + 1] for i in range(len(raw))]
    return [*single_bytes(raw[:512]), raw[512:-512], *single_bytes(raw[-512:])]


def random_cuts(raw: bytes, seed: str) -> list[bytes]:
    """A few pieces, the same for the same seed."""
    return list(_pieces(raw, random.Random(seed)))


def _pieces(raw: bytes, rng: random.Random) -> Iterator[bytes]:
    while raw:
        size = rng.choice((1, 2, 3, 7, 20, 100, max(1, len(raw) // 2)))
        yield raw[:size]
        raw = raw[size:]


async def breathe() -> None:
    """Let the loop look at its sockets, so that what was written arrives on its own."""
    for _ in range(3):
        await asyncio.sleep(0)


class RawClient(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self.reader = Reader(requests=False)
        self.raw = bytearray()
        self.error: NotStrictError | None = None
        self.eof = False
        self.reset = False
        self.changed = asyncio.Event()
        self.lost = False
        self._taken = 0
        self.drained = asyncio.Event()
        self.drained.set()

    @classmethod
    async def open(cls, host: str, port: int) -> Self:
        _, client = await asyncio.get_running_loop().create_connection(cls, host, port)
        return client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)

    def data_received(self, data: bytes) -> None:
        self.raw += data
        if self.error is None:
            try:
                self.reader.feed(data)
            except NotStrictError as error:
                self.error = error
        self.changed.set()

    def eof_received(self) -> bool:
        self.eof = True
        if self.error is None:
            try:
                self.reader.end()
            except NotStrictError as error:
                self.error = error
        self.changed.set()
        return True

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True
        self.reset = isinstance(error, ConnectionResetError)
        self.drained.set()
        self.changed.set()

    def pause_writing(self) -> None:
        self.drained.clear()

    def resume_writing(self) -> None:
        self.drained.set()

    async def send(self, pieces: Iterable[bytes]) -> None:
        """Each piece on its own; stops where the other side has ended."""
        for piece in pieces:
            if self.lost or self.transport.is_closing():
                return
            self.transport.write(piece)
            await breathe()
            await self.drained.wait()

    def finish(self) -> None:
        """FIN; still reading."""
        if not self.lost:
            self.transport.write_eof()

    def break_off(self) -> None:
        """A real RST."""
        sock = self.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    @property
    def ended(self) -> bool:
        return self.eof or self.lost

    async def response(self) -> Message | None:
        """The next message, informational ones included; None when the connection ended before it."""
        while True:
            if self._taken < len(self.reader.done):
                self._taken += 1
                return self.reader.done[self._taken - 1]
            if self.error is not None:
                raise self.error
            if self.ended:
                return None
            await self._change()

    async def final(self) -> Message | None:
        """The next message that is not informational."""
        while (message := await self.response()) is not None:
            if message.status >= 200:
                return message
        return None

    async def closed(self) -> None:
        """Wait for the other side's end."""
        while not self.ended:
            await self._change()

    async def received(self, count: int) -> bytes:
        """Wait for so many raw bytes, or the end."""
        while len(self.raw) < count and not self.ended:
            await self._change()
        return bytes(self.raw)

    async def _change(self) -> None:
        self.changed.clear()
        async with asyncio.timeout(PATIENCE):
            await self.changed.wait()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.lost:
            self.transport.abort()
        while not self.lost:
            await self._change()
