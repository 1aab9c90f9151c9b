"""Back-pressure: whoever is slow slows the other side down, and memory stays within a stated bound."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from sidecar.config.settings import Limits
from sidecar.proxy.transport import WRITE_HIGH_WATER
from tests.proxy.client import RawClient
from tests.proxy.lab import Lab, echo, head_of, in_turn, lab, request, required, response, says, token, until, websocket
from tests.proxy.origin import Connection
from tests.proxy.strict import Message
from tests.proxy.support import FakeAuthorizer

ONE_READ = 256 << 10
BOUND = WRITE_HIGH_WATER + ONE_READ
"""Bytes that a client and its exchange may hold in each direction, however large the body is."""
SIZE = 16 << 20


def noise(size: int) -> bytes:
    """Bytes that do not repeat, the same each time."""
    return random.Random(size).randbytes(size)


def digest(data: bytes | bytearray) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass
class Most:
    """The most that was held at the end of any turn of the loop."""

    to_clients: int = 0
    to_upstreams: int = 0
    turns: int = 0


@contextlib.asynccontextmanager
async def watched(it: Lab) -> AsyncIterator[Most]:
    """Look at every buffer in every turn of the loop."""
    most = Most()

    async def watch() -> None:
        while True:
            most.turns += 1
            for downstream in it.server.connections:
                most.to_clients = max(most.to_clients, downstream.unsent())
                most.to_upstreams = max(most.to_upstreams, downstream.held())
            await asyncio.sleep(0)

    watching = asyncio.ensure_future(watch())
    try:
        yield most
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching


async def stuck(most: Most) -> None:
    """Nothing has moved for a while: as many turns as it takes for every buffer to fill."""
    before, quiet = (-1, -1), 0
    while quiet < 300:
        await asyncio.sleep(0)
        now = (most.to_clients, most.to_upstreams)
        quiet = quiet + 1 if now == before else 0
        before = now


def large(framing: str, body: bytes, *, close: bool = False) -> list[bytes]:
    """An answer in one of the three framings, in pieces of 100 kB."""
    pieces = [body[i : i + 100_000] for i in range(0, len(body), 100_000)]
    if framing == "length":
        return [response(b"200 OK", body=None)[:-2] + b"Content-Length: %d\r\n\r\n" % len(body), *pieces]
    if framing == "chunked":
        coded = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces]
        return [response(b"200 OK", b"Transfer-Encoding: chunked", body=None), *coded, b"0\r\n\r\n"]
    return [response(b"200 OK", body=None), *pieces]


# --- downloads -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
async def test_a_slow_reader(framing: str) -> None:
    """A client that does not read stops the upstream; every byte arrives when it reads again."""
    body = noise(SIZE)
    sent = 0

    async def answer(connection: Connection, message: Message) -> None:
        nonlocal sent
        for piece in large(framing, body):
            await connection.send(piece)
            sent += len(piece)
        if framing == "close":
            connection.finish()

    async with lab(answer) as it, await it.client() as client, watched(it) as most:
        client.transport.pause_reading()
        await client.send([request()])
        await until(lambda: most.to_clients)
        await stuck(most)
        assert sent < SIZE, "the upstream has been stopped"
        client.transport.resume_reading()
        answer_seen = required(await client.final())
        assert digest(answer_seen.body) == digest(body)
        assert 0 < most.to_clients <= BOUND


async def test_a_reader_in_fits_and_starts() -> None:
    """Stopped and started hundreds of times, nothing is lost or doubled."""
    body = noise(SIZE)

    async def answer(connection: Connection, message: Message) -> None:
        for piece in large("chunked", body):
            await connection.send(piece)

    async with lab(answer) as it, await it.client() as client, watched(it) as most:
        await client.send([request()])
        for turn in range(400):
            (client.transport.pause_reading if turn % 2 else client.transport.resume_reading)()
            for _ in range(5):
                await asyncio.sleep(0)
        client.transport.resume_reading()
        assert digest(required(await client.final()).body) == digest(body)
        assert most.to_clients <= BOUND


async def test_pipelined_answers_that_nobody_reads() -> None:
    """The next request waits until its answer has room; no pile of whole answers grows."""
    body = noise(60_000)
    async with lab(says(response(b"200 OK", body=body))) as it, await it.client() as client, watched(it) as most:
        client.transport.pause_reading()
        await client.send([request() * 200])
        await until(lambda: most.to_clients)
        await stuck(most)
        assert most.to_clients <= BOUND
        assert len(it.origin.requests) < 200
        client.transport.resume_reading()
        for _ in range(200):
            assert digest(required(await client.final()).body) == digest(body)


async def test_a_stopped_connection_does_not_go_back_to_the_pool() -> None:
    """The last read of an answer may stop the upstream's reading; the next client's answer must not hang of it."""
    body = noise(60_000)
    async with lab(says(response(b"200 OK", body=body))) as it, await it.client() as slow:
        slow.transport.pause_reading()
        await slow.send([request() * 200])
        await until(lambda: any(downstream.unsent() > WRITE_HIGH_WATER for downstream in it.server.connections))
        await until(lambda: it.idle == 1)
        answer = await it.ask(request())
        assert digest(answer.body) == digest(body)
        slow.break_off()


async def test_the_reader_goes_while_it_is_waited_for() -> None:
    """A full buffer hides nobody's end."""
    async with lab(says(*large("length", noise(SIZE)))) as it:
        async with await it.client() as client, watched(it) as most:
            client.transport.pause_reading()
            await client.send([request()])
            await until(lambda: most.to_clients)
            await stuck(most)
            client.break_off()
        await until(it.settled)


async def test_the_upstream_goes_while_the_reader_is_waited_for() -> None:
    """The rest is lost, and the client is told by a reset; it never looks whole."""

    async def answer(connection: Connection, message: Message) -> None:
        await connection.send(response(b"200 OK", body=None)[:-2] + b"Content-Length: %d\r\n\r\n" % SIZE)
        sending = asyncio.ensure_future(connection.send(noise(SIZE)))
        await gate.wait()
        connection.reset()
        await sending

    gate = asyncio.Event()
    async with lab(answer) as it, await it.client() as client, watched(it) as most:
        client.transport.pause_reading()
        await client.send([request()])
        await until(lambda: most.to_clients)
        await stuck(most)
        gate.set()
        await it.origin.idle()
        client.transport.resume_reading()
        await until(lambda: client.lost)
        assert client.reset
        assert not client.reader.done


async def test_server_sent_events_are_not_delayed() -> None:
    """Each event is with the client before the next one exists."""
    events = [b"data: %d\n\n" % n for n in range(20)]

    async def answer(connection: Connection, message: Message) -> None:
        await connection.send(response(b"200 OK", b"Content-Type: text/event-stream", body=None))
        for n, event in enumerate(events):
            await connection.send(event)
            await until(lambda n=n: client.raw.count(b"data: ") == n + 1)
        connection.finish()

    async with lab(answer) as it, await it.client() as client:
        await client.send([request()])
        assert required(await client.final()).body == b"".join(events)


# --- uploads ---------------------------------------------------------------------------------------------------------


def upload(framing: str, body: bytes) -> list[bytes]:
    """A POST in one of the two framings, in pieces of 100 kB."""
    pieces = [body[i : i + 100_000] for i in range(0, len(body), 100_000)]
    if framing == "length":
        return [request(b"POST", b"/app/x", b"Content-Length: %d" % len(body)), *pieces]
    coded = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces]
    return [request(b"POST", b"/app/x", b"Transfer-Encoding: chunked"), *coded, b"0\r\n\r\n"]


async def thanks(connection: Connection, message: Message) -> None:
    """200 with the digest of what came."""
    await connection.send(response(b"200 OK", body=digest(message.body).encode()))


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_a_slow_upstream(framing: str) -> None:
    """An upstream that does not read stops the client; every byte arrives when it reads again."""
    body = noise(SIZE)
    async with lab(thanks) as it, await it.client() as client, watched(it) as most:
        pieces = upload(framing, body)
        await client.send(pieces[:2])
        await until(lambda: it.origin.connections)
        it.origin.connections[0].transport.pause_reading()
        sending = asyncio.ensure_future(client.send(pieces[2:]))
        await until(lambda: most.to_upstreams)
        await stuck(most)
        assert not sending.done(), "the client has been stopped"
        (downstream,) = it.server.connections
        assert not downstream.transport.is_reading()
        it.origin.connections[0].transport.resume_reading()
        await sending
        assert required(await client.final()).body == digest(body).encode()
        assert most.to_upstreams <= BOUND


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_an_upload_waits_for_its_credential(framing: str) -> None:
    """No more of it is taken than can be replayed, and one read."""
    body = noise(SIZE)
    gate = asyncio.Event()
    authorizer = FakeAuthorizer(ready=False, gate=gate)
    async with lab(thanks, authorizer=authorizer) as it, await it.client() as client, watched(it) as most:
        sending = asyncio.ensure_future(client.send(upload(framing, body)))
        await until(lambda: most.to_upstreams)
        await stuck(most)
        assert not sending.done()
        assert most.to_upstreams <= it.server.replay_bytes + ONE_READ
        gate.set()
        await sending
        assert required(await client.final()).body == digest(body).encode()
        assert most.to_upstreams <= BOUND + it.server.replay_bytes


async def test_crumbs_do_not_pile_up() -> None:
    """A body in chunks of one byte costs no more memory than its bytes, however long it waits."""
    gate = asyncio.Event()
    crumbs = b"1\r\nx\r\n" * 200_000 + b"0\r\n\r\n"
    authorizer = FakeAuthorizer(ready=False, gate=gate)
    async with lab(thanks, authorizer=authorizer) as it, await it.client() as client:
        raw = request(b"POST", b"/app/x", b"Transfer-Encoding: chunked") + crumbs
        sending = asyncio.ensure_future(client.send([raw]))
        await until(lambda: any(not downstream.transport.is_reading() for downstream in it.server.connections))
        (downstream,) = it.server.connections
        assert downstream.held() <= it.server.replay_bytes + ONE_READ
        gate.set()
        await sending
        assert required(await client.final()).body == digest(b"x" * 200_000).encode()


async def test_a_refused_upload_goes_on_over_another_connection() -> None:
    """The upstream that refused was full; the next one is not, and gets the whole body."""
    body = noise(SIZE)

    async def first_refuses(connection: Connection) -> None:
        if len(connection.origin.connections) == 1:
            connection.transport.pause_reading()
            await until(it.upload_is_stopped)
            await connection.send(response(b"401 Unauthorized"))
            await connection.lost
            return
        raw = await head_of(connection)
        await connection.received(raw.index(b"\r\n\r\n") + 4 + len(body))
        received = bytes(connection.raw).partition(b"\r\n\r\n")[2]
        await connection.send(response(b"200 OK", body=digest(received).encode()))

    authorizer = FakeAuthorizer(versions=[token(1), token(2)])
    limits = Limits(replay_bytes=32 << 20)
    async with lab(greet=first_refuses, authorizer=authorizer, limits=limits) as it, await it.client() as client:
        await client.send(upload("length", body))
        assert required(await client.final()).body == digest(body).encode()


async def test_up_and_down_at_once() -> None:
    """An upstream that echoes while it reads: neither direction waits for the other's end."""
    body = noise(4 << 20)

    async def mirror(connection: Connection) -> None:
        raw = await head_of(connection)
        done = raw.index(b"\r\n\r\n") + 4
        await connection.send(response(b"200 OK", b"Content-Length: %d" % len(body), body=None))
        end = done + len(body)
        while done < end:
            await until(lambda done=done: len(connection.raw) > done)
            piece = bytes(connection.raw[done:])
            done += len(piece)
            await connection.send(piece)

    async with lab(greet=mirror) as it, await it.client() as client, watched(it) as most:
        await client.send(upload("length", body))
        assert digest(required(await client.final()).body) == digest(body)
        assert most.to_clients <= BOUND
        assert most.to_upstreams <= BOUND


# --- tunnels ---------------------------------------------------------------------------------------------------------


async def tunnel(it: Lab, client: RawClient) -> Connection:
    """Open one; the origin's end of it."""
    await client.send([request(b"GET", b"/app/ws", b"Connection: Upgrade", b"Upgrade: websocket")])
    assert required(await client.response()).status == 101
    return it.origin.connections[0]


async def test_a_slow_client_of_a_tunnel() -> None:
    """The upstream is stopped."""
    async with lab(websocket) as it, await it.client() as client, watched(it) as most:
        connection = await tunnel(it, client)
        client.transport.pause_reading()
        data = noise(SIZE)
        before = len(client.raw)
        sending = asyncio.ensure_future(connection.send(data))
        await until(lambda: most.to_clients)
        await stuck(most)
        assert not sending.done()
        client.transport.resume_reading()
        await sending
        assert digest((await client.received(before + SIZE))[before:]) == digest(data)
        assert most.to_clients <= BOUND
        client.finish()
        await client.closed()


async def test_a_slow_upstream_of_a_tunnel() -> None:
    """The client is stopped."""
    async with lab(websocket) as it, await it.client() as client, watched(it) as most:
        connection = await tunnel(it, client)
        connection.transport.pause_reading()
        data = noise(SIZE)
        before = len(connection.raw)
        sending = asyncio.ensure_future(client.send([data]))
        await until(lambda: most.to_upstreams)
        await stuck(most)
        assert not sending.done()
        connection.transport.resume_reading()
        await sending
        assert digest((await connection.received(before + SIZE))[before:]) == digest(data)
        assert most.to_upstreams <= BOUND
        client.finish()
        await client.closed()


async def test_a_large_answer_then_a_small_one() -> None:
    """After all that, the connection is as good as new."""
    body = noise(SIZE)
    async with lab(in_turn(says(*large("length", body)), echo)) as it, await it.client() as client:
        await client.send([request()])
        assert digest(required(await client.final()).body) == digest(body)
        await client.send([request()])
        assert required(await client.final()).body == b"/x "
        assert len(it.origin.connections) == 1
