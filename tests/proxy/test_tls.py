"""TLS to the upstream: verified, with SNI, and with every kind of end told apart."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import socket
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
import trustme

from sidecar.errors import SecretUnavailableError
from sidecar.proxy.transport import WRITE_HIGH_WATER
from tests.proxy.certificates import CA, OTHER_CA, client_context, server_context, told
from tests.proxy.client import RawClient
from tests.proxy.lab import Lab, echo, in_turn, lab, never, request, required, response, says, until, websocket
from tests.proxy.origin import Answer, Connection, Origin
from tests.proxy.strict import Message
from tests.proxy.support import settings
from tests.proxy.test_flow import BOUND, SIZE, digest, noise, stuck, upload, watched

T = TypeVar("T")


def tls_lab(
    answer: Answer = echo, *, server: ssl.SSLContext | None = None, context: ssl.SSLContext | None = None, **more: Any
) -> contextlib.AbstractAsyncContextManager[Lab]:
    """A lab whose upstream speaks TLS."""
    origin = Origin(answer, tls=server or server_context())
    return lab(origin=origin, contexts={"app": context or client_context()}, explain=told, **more)


# --- verified --------------------------------------------------------------------------------------------------------


async def test_a_request_over_tls() -> None:
    """Kept alive and reused like any other; Host is the upstream's name."""
    async with tls_lab() as it:
        assert (await it.ask(request(b"POST", body=b"hello"))).body == b"/x hello"
        assert (await it.ask(request())).status == 200
        assert len(it.origin.connections) == 1
        assert it.origin.requests[0].value(b"host") == b"localhost:%d" % it.origin.port


async def test_the_name_is_sent() -> None:
    """SNI is the upstream's name, whatever the client's Host is."""
    names: list[str | None] = []
    server = server_context()
    server.sni_callback = lambda _tls, name, _context: names.append(name)
    async with tls_lab(server=server) as it:
        await it.ask(request())
        assert names == ["localhost"]


def expired() -> trustme.LeafCert:
    yesterday = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
    return CA.issue_cert("localhost", not_after=yesterday)


@pytest.mark.parametrize(
    ("server", "context", "word"),
    [
        (lambda: server_context(OTHER_CA.issue_cert("localhost")), client_context, "certificate"),
        (lambda: server_context(CA.issue_cert("other.example")), client_context, "certificate"),
        (lambda: server_context(expired()), client_context, "certificate"),
        (server_context, lambda: client_context(OTHER_CA), "certificate"),
    ],
    ids=["unknown-issuer", "another-name", "expired", "trusts-another"],
)
async def test_certificates_that_are_not_trusted(
    server: Callable[[], ssl.SSLContext], context: Callable[[], ssl.SSLContext], word: str
) -> None:
    """502 with a detail that says what is wrong; not a byte of the request, nor the token, was sent."""
    async with tls_lab(server=server(), context=context()) as it:
        answer = await it.ask(request())
        assert (answer.status, answer.value(b"sidecar-error")) == (502, b"upstream_unreachable")
        assert word in answer.body.decode().lower()
        assert b"token-1" not in answer.body
        assert all(not connection.raw for connection in it.origin.connections)
        assert it.stats.retries == {}


async def test_an_upstream_that_speaks_no_tls() -> None:
    """The same, without an attempt in plain text."""

    async def plain(connection: Connection) -> None:
        await until(lambda: connection.raw)
        await connection.send(response(b"400 Bad Request"))
        connection.finish()

    async with bare(plain) as it:
        answer = await it.ask(request())
        assert (answer.status, answer.value(b"sidecar-error")) == (502, b"upstream_unreachable")
        assert b"token-1" not in b"".join(bytes(connection.raw) for connection in it.origin.connections)


async def test_client_certificate(tmp_path: Path) -> None:
    """Shown where the upstream asks for it; without it there is no answer."""
    context = client_context()
    CA.issue_cert("client.example").configure_cert(context)
    async with tls_lab(server=server_context(clients=CA), context=context) as it:
        assert (await it.ask(request())).status == 200
    async with tls_lab(server=server_context(clients=CA)) as it:
        assert (await it.ask(request())).status == 502


async def test_a_context_may_change_while_running() -> None:
    """A renewed CA file is followed by the next connection, without a reload."""
    contexts = {"app": client_context(OTHER_CA)}
    async with lab(origin=Origin(echo, tls=server_context()), contexts=contexts, explain=told) as it:
        assert (await it.ask(request())).status == 502
        CA.configure_trust(contexts["app"])
        assert (await it.ask(request())).status == 200


# --- flow ------------------------------------------------------------------------------------------------------------

TLS_BUFFERS = 512 << 10
"""What the event loops' TLS layers may hold on top."""


async def test_a_slow_reader_over_tls() -> None:
    """The upstream is stopped, and every byte arrives."""
    body = noise(SIZE)
    sent = 0

    async def answer(connection: Connection, message: Message) -> None:
        nonlocal sent
        await connection.send(response(b"200 OK", b"Content-Length: %d" % SIZE, body=None))
        for start in range(0, SIZE, 100_000):
            await connection.send(body[start : start + 100_000])
            sent += 100_000

    async with tls_lab(answer) as it, await it.client() as client, watched(it) as most:
        client.transport.pause_reading()
        await client.send([request()])
        await until(lambda: most.to_clients)
        await stuck(most)
        assert sent < SIZE
        client.transport.resume_reading()
        assert digest(required(await client.final()).body) == digest(body)
        assert most.to_clients <= BOUND


async def test_a_slow_upstream_over_tls() -> None:
    """The client is stopped, and every byte arrives."""
    body = noise(SIZE)

    async def thanks(connection: Connection, message: Message) -> None:
        await connection.send(response(b"200 OK", body=digest(message.body).encode()))

    async with tls_lab(thanks) as it, await it.client() as client, watched(it) as most:
        pieces = upload("length", body)
        await client.send(pieces[:2])
        await until(lambda: it.origin.connections and it.origin.connections[0].raw)
        it.origin.connections[0].transport.pause_reading()
        sending = asyncio.ensure_future(client.send(pieces[2:]))
        await until(lambda: most.to_upstreams)
        await stuck(most)
        assert not sending.done()
        it.origin.connections[0].transport.resume_reading()
        await sending
        assert required(await client.final()).body == digest(body).encode()
        assert most.to_upstreams <= BOUND + TLS_BUFFERS


async def test_websocket_over_tls() -> None:
    """The tunnel ends at the sidecar; its bytes go on encrypted."""
    async with tls_lab(websocket) as it, await it.client() as client:
        await client.send([request(b"GET", b"/app/ws", b"Connection: Upgrade", b"Upgrade: websocket")])
        assert required(await client.response()).status == 101
        connection = it.origin.connections[0]
        await client.send([b"ping"])
        await until(lambda: connection.raw.endswith(b"ping"))
        await connection.send(b"pong")
        await until(lambda: client.raw.endswith(b"pong"))
        client.finish()
        await client.closed()
        await it.origin.idle()


# --- ends ------------------------------------------------------------------------------------------------------------


class BareTls:
    """A TLS server over raw bytes, so that the test decides how it ends: with close_notify, with FIN alone, by RST."""

    def __init__(self, connection: Connection, context: ssl.SSLContext | None = None) -> None:
        self.connection = connection
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = (context or server_context()).wrap_bio(self._in, self._out, server_side=True)
        self._taken = 0

    @property
    def session_reused(self) -> bool:
        return bool(self._tls.session_reused)

    async def _do(self, call: Callable[[], T], *, flush: bool = True) -> T:
        while True:
            try:
                result = call()
            except ssl.SSLWantReadError:
                self._flush()
                await until(lambda: len(self.connection.raw) > self._taken or self.connection.lost.done())
                if len(self.connection.raw) == self._taken:
                    raise ConnectionError("lost") from None
                self._in.write(bytes(self.connection.raw[self._taken :]))
                self._taken = len(self.connection.raw)
            else:
                if flush:
                    self._flush()
                return result

    def _flush(self) -> None:
        if self._out.pending:
            self.connection.transport.write(self._out.read())

    async def handshake(self, *, then_close: bool = False) -> None:
        """Its last flight may have the goodbye in the same packet."""
        await self._do(self._tls.do_handshake, flush=False)
        if then_close:
            self.close_notify()
        self._flush()

    async def request(self) -> bytes:
        """The handshake, and a whole head."""
        await self.handshake()
        raw = b""
        while b"\r\n\r\n" not in raw:
            raw += await self._do(lambda: self._tls.read(65536))
        return raw

    async def send(self, data: bytes) -> None:
        await self._do(lambda: self._tls.write(data))

    def close_notify(self) -> None:
        with contextlib.suppress(ssl.SSLWantReadError):
            self._tls.unwrap()
        self._flush()


def ends(answer: bytes, how: str) -> Callable[[Connection], Awaitable[None]]:
    """An origin that answers so and ends its connection so."""

    async def greet(connection: Connection) -> None:
        tls = BareTls(connection)
        await tls.request()
        await tls.send(answer)
        if how == "close_notify":
            tls.close_notify()
        if how == "reset":
            await until(lambda: not connection.transport.get_write_buffer_size())
            connection.reset()
        else:
            connection.finish()

    return greet


def bare(greet: Callable[[Connection], Awaitable[None]], **changes: Any) -> contextlib.AbstractAsyncContextManager[Lab]:
    return lab(
        greet=greet,
        upstream=lambda origin: f"https://localhost:{origin.port}",
        contexts={"app": client_context()},
        explain=told,
        route_changes=changes,
    )


async def whole_or_reset(it: Lab) -> tuple[bytes | None, bool]:
    """The body where it came whole, and whether the client was reset."""
    async with await it.client() as client:
        await client.send([request()])
        await until(lambda: client.reader.done or client.lost)
        return (client.reader.done[0].body if client.reader.done else None), client.reset


TO_THE_END = response(b"200 OK", body=None) + b"hello"
WITH_LENGTH = response(b"200 OK", b"Connection: close", body=b"hello")


async def test_close_notify_is_an_end() -> None:
    """A body to the end of the connection is whole when TLS says so."""
    async with bare(ends(TO_THE_END, "close_notify")) as it:
        assert await whole_or_reset(it) == (b"hello", False)


@pytest.mark.parametrize("how", ["fin", "reset"])
async def test_a_bare_end_is_none(how: str) -> None:
    """Without close_notify anybody on the way may have cut it (RFC 8446, 6.1): the client is reset."""
    async with bare(ends(TO_THE_END, how)) as it:
        assert await whole_or_reset(it) == (None, True)


@pytest.mark.parametrize("how", ["close_notify", "fin"])
async def test_a_length_needs_no_end(how: str) -> None:
    """A body that has its length is whole, however the connection ends behind it."""
    async with bare(ends(WITH_LENGTH, how)) as it:
        assert await whole_or_reset(it) == (b"hello", False)


@pytest.mark.parametrize("how", ["close_notify", "fin"])
async def test_nothing_is_lost_when_the_end_comes_early(how: str) -> None:
    """A slow client gets every byte of an answer whose sender closed long ago, close_notify or not."""
    body = noise(2 << 20)
    answer = response(b"200 OK", b"Connection: close", body=body)
    async with bare(ends(answer, how)) as it, await it.client() as client:
        await until(lambda: it.server.connections)
        (downstream,) = it.server.connections
        downstream.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        client.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.transport.pause_reading()
        await client.send([request()])
        await until(lambda: it.origin.connections)
        await it.origin.connections[0].lost
        for _ in range(100):
            await asyncio.sleep(0)
        assert downstream.unsent() > WRITE_HIGH_WATER, "the end comes while nobody reads"
        client.transport.resume_reading()
        assert digest(required(await client.final()).body) == digest(body)


@pytest.mark.parametrize("how", ["close_notify", "fin", "reset"])
async def test_a_truncated_answer(how: str) -> None:
    """Shorter than its length: a reset, whoever ended it and how."""
    async with bare(ends(WITH_LENGTH[:-2], how)) as it:
        assert await whole_or_reset(it) == (None, True)


@pytest.mark.parametrize("how", ["close_notify", "fin", "reset"])
async def test_an_end_without_an_answer(how: str) -> None:
    """502."""
    async with bare(ends(b"", how)) as it:
        answer = await it.ask(request())
        assert (answer.status, answer.value(b"sidecar-error")) == (502, b"upstream_protocol_error")


async def test_a_reset_in_the_handshake() -> None:
    """502, and nothing hangs."""

    async def greet(connection: Connection) -> None:
        await until(lambda: connection.raw)
        connection.reset()

    async with bare(greet) as it:
        answer = await it.ask(request())
        assert (answer.status, answer.value(b"sidecar-error")) == (502, b"upstream_unreachable")


async def test_a_server_that_leaves_with_the_handshake() -> None:
    """Its goodbye comes in the packet that makes the connection: found closed before anything is sent, 502."""

    async def greet(connection: Connection) -> None:
        tls = BareTls(connection, server_context(version=ssl.TLSVersion.TLSv1_2))
        await tls.handshake(then_close=True)
        connection.finish()

    async with bare(greet) as it:
        answer = await it.ask(request())
        assert (answer.status, answer.value(b"sidecar-error")) == (502, b"upstream_unreachable")
        await it.origin.idle()


async def test_a_context_that_cannot_be_made() -> None:
    """A client key that is gone: 502 that names the file, and no dialling without end."""

    def broken() -> ssl.SSLContext:
        raise SecretUnavailableError("The secret file /run/key cannot be read: No such file or directory.")

    async with tls_lab() as it:
        it.server.configure(settings(it.server.table.routes[0].settings), {"app": it.authorizer}, {"app": broken})
        it.pools.append(it.pool)
        answer = await it.ask(request())
        assert (answer.status, answer.value(b"sidecar-error")) == (502, b"upstream_unreachable")
        assert b"/run/key" in answer.body
        assert it.origin.connections == []


async def test_a_connection_that_ended_while_idle() -> None:
    """Seen, and not used again."""
    async with tls_lab(echo) as it:
        await it.ask(request())
        await until(lambda: it.idle == 1)
        it.origin.connections[0].finish()
        await until(lambda: it.idle == 0)
        assert (await it.ask(request(b"POST", body=b"x"))).status == 200


async def test_a_reused_connection_dies_over_tls() -> None:
    """Retried once, as without TLS."""

    async def hang_up(connection: Connection, message: Message) -> None:
        connection.finish()

    async with tls_lab(in_turn(echo, hang_up, echo)) as it:
        await it.ask(request())
        assert (await it.ask(request())).status == 200
        assert len(it.origin.connections) == 2


async def test_the_client_goes_over_tls() -> None:
    """The upstream's connection ends, TLS or not."""
    async with tls_lab(never) as it:
        async with await it.client() as client:
            await client.send([request()])
            await until(lambda: it.origin.requests)
            client.break_off()
        await it.origin.idle()


async def test_bytes_behind_an_answer_over_tls() -> None:
    """Refused, in the same record or in the next."""
    async with tls_lab(says(response(b"200 OK", body=b"hello") + b"more")) as it:
        assert (await it.ask(request())).status == 502


async def test_many_at_once_over_tls() -> None:
    """A hundred clients share what the pool opens."""

    async def one(client: RawClient, n: int) -> None:
        await client.send([request(b"POST", b"/app/%d" % n, body=noise(n * 100))])
        answer = required(await client.final())
        assert answer.body == b"/%d " % n + noise(n * 100)

    async with tls_lab() as it, contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(await it.client()) for _ in range(100)]
        await asyncio.gather(*(one(client, n) for n, client in enumerate(clients)))
        assert len(it.origin.connections) <= 100
