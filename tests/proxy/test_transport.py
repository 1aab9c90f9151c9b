"""Where event loops differ: what is written, paused and reset in every state of a connection, on both of them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme

from sidecar.proxy import transport
from tests.proxy.lab import until


class End(asyncio.Protocol):
    """One end of a connection."""

    def __init__(self) -> None:
        self.data = b""
        self.eofs = 0
        self.made = False
        self.lost = False
        self.error: Exception | None = None

    def connection_made(self, made: asyncio.BaseTransport) -> None:
        self.transport = made
        self.made = True

    def data_received(self, data: bytes) -> None:
        self.data += data

    def eof_received(self) -> bool:
        self.eofs += 1
        return True

    def connection_lost(self, error: Exception | None) -> None:
        self.lost, self.error = True, error


@contextlib.asynccontextmanager
async def pair(
    *, path: Path | None = None, tls: tuple[ssl.SSLContext, ssl.SSLContext] | None = None
) -> AsyncIterator[tuple[End, End]]:
    """Our end and the peer's."""
    loop = asyncio.get_running_loop()
    ours, peers = End(), End()
    server_tls, client_tls = tls or (None, None)
    if path is not None:
        server = await loop.create_unix_server(lambda: ours, str(path))
        await loop.create_unix_connection(lambda: peers, str(path))
    else:
        server = await loop.create_server(lambda: ours, "127.0.0.1", 0, ssl=server_tls)
        host, port = server.sockets[0].getsockname()
        name = "localhost" if client_tls else None
        await loop.create_connection(lambda: peers, host, port, ssl=client_tls, server_hostname=name)
    await until(lambda: ours.made)
    try:
        yield ours, peers
    finally:
        server.close()
        for end in (ours, peers):
            if not end.lost:
                end.transport.abort()
        await until(lambda: ours.lost and peers.lost)


async def test_writing_arrives() -> None:
    """One buffer, and several at once."""
    async with pair() as (ours, peers):
        assert transport.write(ours.transport, b"one ")
        assert transport.writelines(ours.transport, [b"two ", memoryview(b"three")])
        await until(lambda: peers.data == b"one two three")


async def test_writing_after_the_end_is_no_error() -> None:
    """A write to a closed transport, which uvloop raises on, is answered with no."""
    async with pair() as (ours, peers):
        ours.transport.close()
        assert not transport.write(ours.transport, b"late")
        assert not transport.writelines(ours.transport, [b"late"])
        assert not transport.write_eof(ours.transport)
        transport.pause(ours.transport)
        transport.resume(ours.transport)
        transport.reset(ours.transport)
        await until(lambda: ours.lost and (peers.eofs or peers.lost))
        assert peers.data == b""
        assert not transport.write(ours.transport, b"later")
        transport.reset(ours.transport)


async def test_half_close() -> None:
    """The peer sees the end, and can still send."""
    async with pair() as (ours, peers):
        transport.write(ours.transport, b"last")
        assert transport.write_eof(ours.transport)
        await until(lambda: peers.eofs)
        assert peers.data == b"last"
        peers.transport.write(b"answer")
        await until(lambda: ours.data == b"answer")


async def test_half_close_behind_a_reset_is_no_error() -> None:
    """The peer may be gone while nobody has noticed."""
    async with pair() as (ours, peers):
        transport.reset(peers.transport)
        await until(lambda: peers.lost)
        transport.write_eof(ours.transport)
        await until(lambda: ours.lost)


async def test_tls_cannot_half_close() -> None:
    """It says so, and the connection goes on."""
    ca = trustme.CA()
    server_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("localhost").configure_cert(server_tls)
    client_tls = ssl.create_default_context()
    ca.configure_trust(client_tls)
    async with pair(tls=(server_tls, client_tls)) as (ours, peers):
        assert not transport.write_eof(ours.transport)
        assert transport.write(ours.transport, b"still here")
        await until(lambda: peers.data == b"still here")


async def test_reset_is_a_reset() -> None:
    """The peer gets an error, never an end that makes a body look whole, whatever was sent before."""
    async with pair() as (ours, peers):
        transport.write(ours.transport, b"a part of the body")
        await until(lambda: peers.data)
        transport.reset(ours.transport)
        await until(lambda: peers.lost)
        assert isinstance(peers.error, ConnectionResetError)
        assert peers.eofs == 0


async def test_reset_with_bytes_on_the_way() -> None:
    """Also while the peer does not read and the buffers are full."""
    async with pair() as (ours, peers):
        peers.transport.pause_reading()
        ours.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        transport.write(ours.transport, b"x" * 10_000_000)
        transport.reset(ours.transport)
        await until(lambda: ours.lost)
        peers.transport.resume_reading()
        await until(lambda: peers.lost)
        assert isinstance(peers.error, ConnectionResetError)
        assert peers.eofs == 0


async def test_reset_of_a_unix_socket(tmp_path: Path) -> None:
    """There is no RST there; it ends at once all the same."""
    async with pair(path=tmp_path / "socket") as (ours, peers):
        transport.reset(ours.transport)
        await until(lambda: ours.lost and peers.eofs)


@pytest.mark.parametrize("times", [1, 2])
async def test_pause_and_resume_may_be_repeated(times: int) -> None:
    """Whoever finds a reason to stop says so, without asking who said it before."""
    async with pair() as (ours, peers):
        for _ in range(times):
            transport.pause(ours.transport)
        peers.transport.write(b"data")
        for _ in range(20):
            await asyncio.sleep(0)
        assert ours.data == b""
        for _ in range(times):
            transport.resume(ours.transport)
        await until(lambda: ours.data == b"data")
