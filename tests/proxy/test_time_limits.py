"""Every wait has an end: time is moved by hand, and each limit is met just before and just after it."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest

from sidecar.config.settings import Limits, Timeouts
from sidecar.proxy import transport
from sidecar.proxy.downstream import LINGER_SECONDS
from sidecar.proxy.server import KEEP_ALIVE_SECONDS
from sidecar.proxy.transport import WRITE_HIGH_WATER
from tests.proxy.lab import HOST, echo, in_turn, lab, never, request, required, response, says, until
from tests.proxy.origin import Connection
from tests.proxy.strict import Message
from tests.proxy.support import FakeAuthorizer

TIMES = {"timeouts": Timeouts(connect=3.0, response=20.0, idle=7.0)}
CHUNKED = b"Transfer-Encoding: chunked"


UNLIMITED = {"timeouts": Timeouts(connect=3.0, response=0.0, idle=7.0)}
LONG_POLL = request(b"POST", b"/app/v2/jobs/activation", body=b'{"requestTimeout":3600000}')


# --- a long poll -----------------------------------------------------------------------------------------------------


async def test_a_long_poll_waits_for_as_long_as_the_client_does() -> None:
    """`timeouts.response: 0s`, the default of Zeebe's route: an hour without a byte ends nothing."""
    ready = asyncio.Event()

    async def activates(connection: Connection, message: Message) -> None:
        await ready.wait()
        await connection.send(response(b"200 OK", body=b'{"jobs":[]}'))

    async with lab(activates, route_changes=UNLIMITED) as it, await it.client() as client:
        await client.send([LONG_POLL])
        await until(lambda: it.origin.requests)
        await it.passes(3600)
        assert not client.raw
        ready.set()
        assert required(await client.final()).body == b'{"jobs":[]}'


async def test_a_client_that_goes_away_ends_its_long_poll() -> None:
    """A reset, as at the end of a client's own time limit, ends the request at the upstream too."""
    async with lab(never, route_changes=UNLIMITED) as it, await it.client() as client:
        await client.send([LONG_POLL])
        await until(lambda: it.origin.requests)
        transport.reset(client.transport)
        await until(it.origin.connections[0].lost.done)


def keep_alive_timers(port: int) -> int:
    """How many established connections of 127.0.0.1 from this local port the kernel watches by keep-alive."""
    lines = Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]
    rows = [line.split() for line in lines]
    return sum(row[1] == f"0100007F:{port:04X}" and row[3] == "01" and row[5].startswith("02:") for row in rows)


async def test_the_kernel_notices_that_a_machine_is_gone() -> None:
    """While nothing is sent, keep-alive watches both connections: no limit of ours ends a long poll to nobody."""
    async with lab(never, route_changes=UNLIMITED) as it, await it.client() as client:
        await client.send([LONG_POLL])
        await until(lambda: it.origin.requests)
        [upstream] = it.origin.connections
        _, upstream_port = upstream.transport.get_extra_info("peername")
        await until(lambda: keep_alive_timers(it.proxy.port) == 1)
        await until(lambda: keep_alive_timers(upstream_port) == 1)
        transport.reset(client.transport)


@pytest.mark.parametrize("early", [True, False])
async def test_a_client_that_ended_its_side_is_not_waited_for_for_ever(early: bool) -> None:
    """A FIN may be a half-close or the end of the client: an answer within `idle` still comes, then it is given up."""
    async with lab(never, route_changes=UNLIMITED) as it, await it.client() as client:
        await client.send([LONG_POLL])
        if not early:
            await until(lambda: it.origin.requests)
        client.finish()
        await until(lambda: it.origin.requests and all(c.half_closed for c in it.server.connections))
        await it.passes(6.9)
        assert not client.raw
        await it.passes(0.2)
        assert required(await client.final()).status == 504


# --- the client ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("begun", [b"G", request()[:-1], b"\r"])
async def test_a_head_that_stops(begun: bytes) -> None:
    """408 and the end, `head_timeout` after its first byte."""
    async with lab(echo, limits=Limits(head_timeout=5.0)) as it, await it.client() as client:
        await client.send([begun])
        await until(lambda: any(downstream.held() for downstream in it.server.connections))
        await it.passes(4.9)
        assert not client.raw
        await it.passes(0.2)
        answer = required(await client.final())
        assert (answer.status, answer.value(b"sidecar-error")) == (408, b"request_timeout")
        await client.closed()


async def test_a_head_that_drips() -> None:
    """A byte now and then does not buy more time."""
    async with lab(echo, limits=Limits(head_timeout=5.0)) as it, await it.client() as client:
        raw = request()
        for n in range(5):
            await client.send([raw[n : n + 1]])
            await until(lambda n=n: any(downstream.held() == n + 1 for downstream in it.server.connections))
            await it.passes(1.0)
        assert required(await client.final()).status == 408


async def test_the_next_head_has_its_own_time() -> None:
    """On a kept connection it counts from the first byte of the next request."""
    async with lab(echo, limits=Limits(head_timeout=5.0)) as it, await it.client() as client:
        await client.send([request()])
        assert required(await client.final()).status == 200
        await it.passes(100)
        raw = request()
        await client.send([raw[:5]])
        await until(lambda: any(downstream.held() for downstream in it.server.connections))
        await it.passes(4.9)
        await client.send([raw[5:]])
        assert required(await client.final()).status == 200


async def test_an_idle_connection_ends() -> None:
    """Without a word: there is no request to answer."""
    async with lab(echo) as it, await it.client() as client, await it.client() as unused:
        await client.send([request()])
        assert required(await client.final()).status == 200
        await it.passes(KEEP_ALIVE_SECONDS - 1)
        assert not client.ended
        assert not unused.ended
        await it.passes(1.1)
        await client.closed()
        await unused.closed()
        assert not client.reset
        assert not unused.raw


async def test_a_client_that_never_reads_its_answer_is_let_go() -> None:
    """Its place in `limits.connections` is given back, though its last answer cannot be flushed."""
    body = b"x" * 60_000
    async with lab(says(response(b"200 OK", body=body))) as it, await it.client() as client:
        client.transport.pause_reading()
        await client.send([request() * 300])
        await until(lambda: any(downstream.unsent() > WRITE_HIGH_WATER for downstream in it.server.connections))
        await until(lambda: it.stats.in_flight == 0)
        await it.passes(KEEP_ALIVE_SECONDS + 1)
        await it.passes(LINGER_SECONDS + 1)
        await it.passes(LINGER_SECONDS + 1)
        await until(lambda: not it.server.connections)


async def test_a_small_answer_that_is_never_read() -> None:
    """The same below the mark at which the client counts as full."""
    async with lab(echo) as it, await it.client() as client:
        client.transport.pause_reading()
        await client.send([request()])
        await until(lambda: it.counted("GET", 200, "upstream"))
        await it.passes(KEEP_ALIVE_SECONDS + 1)
        await it.passes(LINGER_SECONDS + 1)
        await until(lambda: not it.server.connections)


async def test_lingering_ends() -> None:
    """A refused client that goes on sending is listened to for so long and no longer."""
    async with lab(echo) as it, await it.client() as client:
        await client.send([b"nonsense\r\n\r\n"])
        assert required(await client.final()).status == 400
        await client.closed()
        await it.passes(LINGER_SECONDS - 0.1)
        await client.send([b"x" * 1000])
        assert len(it.server.connections) == 1
        await it.passes(0.2)
        await until(lambda: not it.server.connections)


@pytest.mark.parametrize("raw", [request(b"POST", body=b"hello"), request(b"POST", b"/app/x", CHUNKED) + b"5\r\nhello"])
async def test_a_body_that_stops(raw: bytes) -> None:
    """408, `idle` after its last byte; what the upstream has of it is no request."""

    def arrived(byte: bytes) -> bool:
        return bool(it.origin.connections) and it.origin.connections[0].raw.removesuffix(b"\r\n").endswith(byte)

    async with lab(echo, route_changes=TIMES) as it, await it.client() as client:
        await client.send([raw[:-4]])
        await until(lambda: arrived(b"h"))
        await client.send([raw[-4:-3]])
        await until(lambda: arrived(b"e"))
        await it.passes(6.9)
        assert not client.raw
        await client.send([raw[-3:-2]])
        await until(lambda: arrived(b"l"))
        await it.passes(6.9)
        assert not client.raw
        await it.passes(0.2)
        answer = required(await client.final())
        assert (answer.status, answer.value(b"sidecar-error")) == (408, b"request_timeout")
        await client.closed()
        await it.origin.idle()
        assert it.origin.requests == []


async def test_a_body_that_stops_while_the_credential_is_waited_for() -> None:
    """The credential keeps its own time; when it is there, the body's limit counts."""
    gate = asyncio.Event()
    authorizer = FakeAuthorizer(ready=False, gate=gate)
    async with lab(echo, authorizer=authorizer, route_changes=TIMES) as it, await it.client() as client:
        await client.send([request(b"POST", body=b"hello")[:-2]])
        await until(lambda: authorizer.events)
        await it.passes(1000)
        assert not client.raw
        gate.set()
        await until(lambda: it.origin.connections and it.origin.connections[0].raw)
        await it.passes(20.1)
        assert required(await client.final()).status == 408


# --- the upstream ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("raw", [request(), request(b"POST", body=b"hello")])
async def test_an_answer_that_does_not_come(raw: bytes) -> None:
    """504, `response` after the request was sent; the client's connection goes on, the upstream's does not."""
    async with lab(in_turn(never, echo), route_changes=TIMES) as it, await it.client() as client:
        await client.send([raw])
        await until(lambda: it.origin.requests)
        await it.passes(19.9)
        assert not client.raw
        await it.passes(0.2)
        answer = required(await client.final())
        assert (answer.status, answer.value(b"sidecar-error")) == (504, b"upstream_timeout")
        await client.send([request(b"GET", b"/app/next")])
        assert required(await client.final()).body == b"/next "
        assert len(it.origin.connections) == 2
        assert len(it.origin.requests) == 2


@pytest.mark.parametrize("begun", [b"H", b"HTTP/1.1 200 OK\r\nX:", b"HTTP/1.1 100 Continue\r\n\r\n"])
async def test_an_answers_head_that_stops(begun: bytes) -> None:
    """The same: the limit is for the whole head."""
    async with lab(says(begun), route_changes=TIMES) as it, await it.client() as client:
        await client.send([request()])
        await until(lambda: it.origin.requests)
        await it.passes(20.1)
        answer = required(await client.final())
        assert (answer.status, answer.value(b"sidecar-error")) == (504, b"upstream_timeout")


async def test_an_upload_has_time_as_long_as_it_moves() -> None:
    """The response's limit counts from the end of the request's body."""
    async with lab(echo, route_changes=TIMES) as it, await it.client() as client:
        raw = request(b"POST", body=b"x" * 50)
        await client.send([raw[:-50]])
        await until(lambda: it.origin.connections and it.origin.connections[0].raw)
        for n in range(50):
            await client.send([b"x"])
            await until(lambda n=n: it.origin.connections[0].raw.endswith(b"\r\n\r\n" + b"x" * (n + 1)))
            await it.passes(6.0)
        assert required(await client.final()).status == 200


async def test_an_upstream_that_does_not_read() -> None:
    """504: the client is ready to send, and not to blame."""

    async def deaf(connection: Connection) -> None:
        connection.transport.pause_reading()
        await connection.lost

    async with lab(greet=deaf, route_changes=TIMES) as it, await it.client() as client:
        sending = asyncio.ensure_future(client.send([request(b"POST", body=b"x" * (16 << 20))]))
        await until(it.upload_is_stopped)
        for _ in range(100):
            await asyncio.sleep(0)
        await it.passes(20.1)
        answer = required(await client.final())
        assert (answer.status, answer.value(b"sidecar-error")) == (504, b"upstream_timeout")
        await it.passes(LINGER_SECONDS + 0.1)
        await sending


@pytest.mark.parametrize("framing", [b"Content-Length: 10", CHUNKED, b"X: to the end"])
async def test_an_answers_body_that_stops(framing: bytes) -> None:
    """A reset, `idle` after its last byte: it must not look whole."""
    more = asyncio.Event()

    async def answer(connection: Connection, message: Message) -> None:
        await connection.send(response(b"200 OK", framing, body=None) + b"3\r\nabc")
        await more.wait()
        await connection.send(b"\r\n")

    async with lab(answer, route_changes=TIMES) as it, await it.client() as client:
        await client.send([request()])
        await until(lambda: b"abc" in client.raw)
        await it.passes(6.9)
        before = len(client.raw)
        more.set()
        if framing != CHUNKED:
            await until(lambda: len(client.raw) > before)
            await it.passes(6.9)
            assert not client.ended
        await it.passes(7.1)
        await until(lambda: client.lost)
        assert (client.reset, client.eof) == (True, False)
        await it.origin.idle()


async def test_a_slow_reader_that_reads_is_not_idle() -> None:
    """The idle limit is for a connection on which nothing moves; a client that takes its time makes progress."""
    body = b"x" * (4 << 20)
    async with lab(says(response(b"200 OK", body=body)), route_changes=TIMES) as it, await it.client() as client:
        await until(lambda: it.server.connections)
        (downstream,) = it.server.connections
        # Small buffers below us, so that what the client reads is seen soon.
        downstream.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32_768)
        client.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32_768)
        client.transport.pause_reading()
        await client.send([request()])
        await until(lambda: downstream.unsent() > WRITE_HIGH_WATER)
        for _ in range(20):
            seen = len(client.raw)
            client.transport.resume_reading()
            await until(lambda seen=seen: len(client.raw) >= seen + 50_000 or client.ended)
            client.transport.pause_reading()
            for _ in range(20):
                await asyncio.sleep(0)
            await it.passes(6.0)
            assert not client.ended
        client.transport.resume_reading()
        assert required(await client.final()).body == body


async def test_a_reader_that_stops_is_idle() -> None:
    """Its connection is reset after `idle`, and with it the upstream's."""
    body = b"x" * (16 << 20)
    async with lab(says(response(b"200 OK", body=body)), route_changes=TIMES) as it, await it.client() as client:
        client.transport.pause_reading()
        await client.send([request()])
        await until(lambda: any(downstream.unsent() > WRITE_HIGH_WATER for downstream in it.server.connections))
        for _ in range(50):
            await asyncio.sleep(0)
        await it.passes(7.1)
        await it.passes(7.1)
        await it.origin.idle()
        client.transport.resume_reading()
        await until(lambda: client.lost)
        assert client.reset


async def test_connecting_takes_no_longer_than_its_limit() -> None:
    """A server that accepts and says nothing to TLS is unreachable; nobody waits longer than `connect`."""

    async def silent(connection: Connection) -> None:
        await connection.lost

    tls: dict[str, Any] = {"contexts": {"app": ssl.create_default_context()}}
    times = {"timeouts": Timeouts(connect=0.05)}
    async with lab(
        greet=silent, upstream=lambda origin: f"https://{origin.authority}", route_changes=times, **tls
    ) as it:
        answer = await it.ask(request())
        assert (answer.status, answer.value(b"sidecar-error")) == (502, b"upstream_unreachable")
        await it.origin.idle()


async def test_idle_upstream_connections_end() -> None:
    """They are closed here, before a usual server closes them."""
    async with lab(echo) as it:
        await it.ask(request())
        await until(lambda: it.idle == 1)
        await it.passes(14)
        assert it.idle == 1
        await it.passes(2)
        await it.origin.idle()
        assert it.idle == 0


async def test_limits_do_not_add_up_over_requests() -> None:
    """Each request on a kept connection has the whole of each limit."""

    async def late(connection: Connection, message: Message) -> None:
        gate = asyncio.Event()
        gates.append(gate)
        await gate.wait()
        await echo(connection, message)

    gates: list[asyncio.Event] = []
    async with lab(late, route_changes=TIMES) as it, await it.client() as client:
        for n in range(5):
            await client.send([request()])
            await until(lambda n=n: len(gates) == n + 1)
            await it.passes(19)
            gates[n].set()
            assert required(await client.final()).status == 200


async def test_refused_hosts_and_head_times_do_not_mix() -> None:
    """A refusal that keeps the connection gives the next request its time."""
    async with lab(echo, limits=Limits(head_timeout=5.0)) as it, await it.client() as client:
        await client.send([b"GET /none HTTP/1.1\r\n" + HOST + b"\r\n"])
        assert required(await client.final()).status == 404
        await it.passes(6)
        await client.send([request()])
        assert required(await client.final()).status == 200
