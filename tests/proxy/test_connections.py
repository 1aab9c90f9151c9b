"""Connections: kept, pipelined, half-closed, closed early and reset, on the client's side and on the upstream's."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from tests.proxy.client import random_cuts, single_bytes, whole
from tests.proxy.lab import HOST, echo, head_of, in_turn, lab, never, request, required, response, says, until
from tests.proxy.origin import Connection
from tests.proxy.strict import Message
from tests.proxy.support import FakeAuthorizer


async def hang_up(connection: Connection, message: Message) -> None:
    """FIN instead of an answer."""
    connection.finish()


async def reset(connection: Connection, message: Message) -> None:
    """RST instead of an answer."""
    connection.reset()


# --- kept ------------------------------------------------------------------------------------------------------------


async def test_both_connections_are_kept() -> None:
    """Many requests, one connection on each side."""
    async with lab(echo) as it, await it.client() as client:
        for n in range(20):
            await client.send([request(b"POST", b"/app/%d" % n, body=b"x" * n)])
            assert required(await client.final()).body == b"/%d " % n + b"x" * n
        assert len(it.origin.connections) == 1
        assert it.idle == 1


async def test_close_is_heard() -> None:
    """The client's Connection: close ends its connection, behind the whole answer, and not the upstream's."""
    async with lab(echo) as it, await it.client() as client:
        await client.send([request(b"GET", b"/app/x", b"Connection: close")])
        answer = required(await client.final())
        assert (answer.body, answer.value(b"connection")) == (b"/x ", b"close")
        await client.closed()
        assert not client.reset
        await until(lambda: it.idle == 1)


async def test_nothing_behind_close_is_read() -> None:
    """RFC 9112, 9.6; and the answer arrives whole, with no reset behind it."""
    async with lab(echo) as it, await it.client() as client:
        await client.send([request(b"GET", b"/app/x", b"Connection: close") + request(b"GET", b"/app/y") * 10])
        assert required(await client.final()).body == b"/x "
        assert await client.final() is None
        assert not client.reset
        assert len(it.origin.requests) == 1


async def test_one_empty_line_between_requests() -> None:
    """Let pass (RFC 9112, 2.2), in any cut."""
    raw = b"\r\n" + request(b"GET", b"/app/1") + b"\r\n" + request(b"GET", b"/app/2")
    for cut in (whole, single_bytes):
        async with lab(echo) as it, await it.client() as client:
            await client.send(cut(raw))
            assert [required(await client.final()).body for _ in range(2)] == [b"/1 ", b"/2 "]


# --- pipelined -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [whole, lambda raw: random_cuts(raw, "seed")], ids=["whole", "cuts"])
async def test_a_thousand_pipelined_requests(cut: object) -> None:
    """Answered in order, one at a time over one upstream connection, each with its own body."""
    raws = [request(b"POST", b"/app/%d" % n, body=b"x" * (n % 7)) for n in range(1000)]
    async with lab(echo) as it, await it.client() as client:
        await client.send(cut(b"".join(raws)))  # type: ignore[operator]
        for n in range(1000):
            assert required(await client.final()).body == b"/%d " % n + b"x" * (n % 7)
        assert len(it.origin.requests) == 1000
        assert len(it.origin.connections) == 1


async def test_reading_ahead_is_bounded() -> None:
    """While an answer is waited for, no more of what is pipelined is read than a head may have, and one read."""
    gate = asyncio.Event()

    async def when_told(connection: Connection, message: Message) -> None:
        await gate.wait()
        await echo(connection, message)

    async with lab(when_told) as it:
        async with await it.client() as client:
            sending = asyncio.ensure_future(client.send([request() * 100_000]))
            await until(lambda: it.origin.requests)
            (downstream,) = it.server.connections
            await until(lambda: not downstream.transport.is_reading())
            for _ in range(100):
                await asyncio.sleep(0)
            assert downstream.held() <= it.server.header_bytes + (256 << 10)
            assert len(it.origin.requests) == 1
            sending.cancel()
            client.break_off()
        gate.set()


async def test_a_bad_request_behind_good_ones() -> None:
    """Those before it are answered, then it is refused, and the connection ends."""
    raw = request(b"GET", b"/app/1") + request(b"GET", b"/app/2") + b"GET / HTTP/9.9\r\n\r\n" + request()
    async with lab(echo) as it, await it.client() as client:
        await client.send([raw])
        assert [required(await client.final()).status for _ in range(3)] == [200, 200, 400]
        assert await client.final() is None
        assert len(it.origin.requests) == 2


async def test_refusals_among_pipelined_requests() -> None:
    """Ours and the upstream's answers keep the order of the requests."""
    raw = b"".join(request(b"GET", b"/app/%d" % n) + b"GET /none HTTP/1.1\r\n" + HOST + b"\r\n" for n in range(50))
    async with lab(echo) as it, await it.client() as client:
        await client.send([raw])
        assert [required(await client.final()).status for _ in range(100)] == [200, 404] * 50


# --- half-closed -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "raw",
    [
        request(),
        request(b"POST", body=b"hello"),
        request(b"POST", b"/app/x", b"Transfer-Encoding: chunked") + b"0\r\n\r\n",
    ],
)
async def test_a_fin_is_a_half_close(raw: bytes) -> None:
    """Who says that nothing more comes still gets the answer, and then the end."""
    async with lab(echo) as it, await it.client() as client:
        await client.send([raw])
        client.finish()
        assert required(await client.final()).status == 200
        await client.closed()
        assert not client.reset


async def test_a_fin_behind_pipelined_requests() -> None:
    """All of them are answered."""
    async with lab(echo) as it, await it.client() as client:
        await client.send([b"".join(request(b"GET", b"/app/%d" % n) for n in range(100))])
        client.finish()
        assert [required(await client.final()).body for _ in range(100)] == [b"/%d " % n for n in range(100)]
        await client.closed()
        assert not client.reset


async def test_a_fin_between_two_answers() -> None:
    """It comes in the same moment as the first answer; the second request was whole and is answered."""

    async def answer(connection: Connection, message: Message) -> None:
        connection.transport.write(response(b"200 OK", body=message.target))
        if message.target == b"/1":
            client.finish()

    async with lab(answer) as it, await it.client() as client:
        await client.send([request(b"GET", b"/app/1") + request(b"GET", b"/app/2")])
        assert [required(await client.final()).body for _ in range(2)] == [b"/1", b"/2"]


async def test_a_fin_while_pipelined_requests_stop_the_reading() -> None:
    """The FIN is seen late, and perhaps more than once (asyncio tells of it again after each pause)."""
    count = 3000
    async with lab(echo) as it, await it.client() as client:
        await client.send([b"".join(request(b"GET", b"/app/%d" % n, b"X: " + b"a" * 100) for n in range(count))])
        client.finish()
        for n in range(count):
            assert required(await client.final()).body == b"/%d " % n
        await client.closed()


@pytest.mark.parametrize("rest", [b"\r\n", b"\r"])
async def test_a_fin_behind_an_empty_line(rest: bytes) -> None:
    """There is no further request in it: the connection ends with the answer, and nobody waits for a time limit."""
    async with lab(echo) as it, await it.client() as client:
        await client.send([request() + rest])
        client.finish()
        assert required(await client.final()).status == 200
        await client.closed()


@pytest.mark.parametrize(
    "raw",
    [
        request()[:-2],
        b"G",
        request(b"POST", body=b"hello")[:-1],
        request(b"POST", b"/app/x", b"Transfer-Encoding: chunked") + b"5\r\nhello\r\n",
        request(b"POST", b"/app/x", b"Transfer-Encoding: chunked") + b"5\r\nhello\r\n0\r\n",
    ],
)
async def test_a_fin_inside_a_request(raw: bytes) -> None:
    """400; what the upstream got of it is not taken for a whole request."""
    async with lab(echo) as it, await it.client() as client:
        await client.send([raw])
        client.finish()
        answer = required(await client.final())
        assert (answer.status, answer.value(b"sidecar-error")) == (400, b"bad_request")
        await client.closed()
        await until(it.settled)
        assert it.origin.requests == []


async def test_a_fin_inside_a_pipelined_request() -> None:
    """Seen while the one before it is answered: that one gets its answer, the other a 400."""

    async def answer(connection: Connection, message: Message) -> None:
        client.finish()
        await until(lambda: all(downstream.half_closed for downstream in it.server.connections))
        await echo(connection, message)

    async with lab(answer) as it, await it.client() as client:
        await client.send([request() + request(b"GET", b"/app/cut")[:-3]])
        assert [required(await client.final()).status for _ in range(2)] == [200, 400]
        await client.closed()


async def test_a_fin_without_a_request() -> None:
    """A connection that was opened and closed is closed."""
    async with lab(echo) as it, await it.client() as client:
        client.finish()
        await client.closed()
        assert bytes(client.raw) == b""


# --- early answers ---------------------------------------------------------------------------------------------------


async def test_an_answer_before_the_body_is_there() -> None:
    """Passed on at once, with Connection: close, for what is left of the request cannot be told from the next one."""

    async def greet(connection: Connection) -> None:
        await head_of(connection)
        await connection.send(response(b"413 Content Too Large", body=b"enough"))

    async with lab(greet=greet) as it, await it.client() as client:
        await client.send([request(b"POST", body=b"x" * 1000)[:-900]])
        answer = required(await client.final())
        assert (answer.status, answer.body, answer.value(b"connection")) == (413, b"enough", b"close")
        await client.send([b"x" * 900 + request(b"GET", b"/app/next")])
        assert await client.final() is None
        assert not client.reset
        await it.origin.idle()
        assert b"/next" not in it.origin.connections[0].raw


async def test_an_answer_that_goes_on_beside_the_body() -> None:
    """Both directions flow until the answer is whole."""

    async def greet(connection: Connection) -> None:
        await head_of(connection)
        await connection.send(response(b"200 OK", b"Transfer-Encoding: chunked", body=None))
        for _ in range(5):
            seen = len(connection.raw)
            await connection.send(b"1\r\nx\r\n")
            await until(lambda seen=seen: len(connection.raw) > seen)
        await connection.send(b"0\r\n\r\n")

    async with lab(greet=greet) as it, await it.client() as client:
        await client.send([request(b"POST", body=b"12345")[:-5]])
        for n in range(5):
            await until(lambda n=n: client.raw.count(b"1\r\nx\r\n") > n)
            await client.send([b"%d" % n])
        assert required(await client.final()).body == b"xxxxx"
        await client.closed()


async def test_a_client_that_goes_on_sending_reads_its_early_answer() -> None:
    """The close lingers: an upload of several megabytes to a refusal is no reset."""
    body = b"x" * (4 << 20)

    async def greet(connection: Connection) -> None:
        await head_of(connection)
        connection.transport.pause_reading()
        await connection.send(response(b"413 Content Too Large", body=b"enough"))

    async with lab(greet=greet) as it, await it.client() as client:
        sending = asyncio.ensure_future(client.send([request(b"POST", body=body)]))
        assert required(await client.final()).body == b"enough"
        await sending
        await client.closed()
        assert not client.reset


# --- gone ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sent", [b"", b"GET", request()[:-2], request(b"POST", body=b"hello")[:-1]])
async def test_a_reset_at_any_moment_of_the_request(sent: bytes) -> None:
    """Nothing stays of it."""
    async with lab(never) as it:
        async with await it.client() as client:
            await client.send([sent])
            await until(lambda: it.server.connections)
            client.break_off()
        await until(it.settled)


async def test_only_the_own_request_is_cancelled() -> None:
    """A client that goes away takes nobody with it, not even those that wait for the same credential."""
    gate = asyncio.Event()
    async with lab(echo, authorizer=FakeAuthorizer(ready=False, gate=gate)) as it, await it.client() as stays:
        async with await it.client() as goes:
            await goes.send([request(b"GET", b"/app/goes")])
            await stays.send([request(b"GET", b"/app/stays")])
            await until(lambda: len(it.authorizer.events) == 2)
            goes.break_off()
        gate.set()
        assert required(await stays.final()).body == b"/stays "
        assert len(it.origin.requests) == 1


# --- retries ---------------------------------------------------------------------------------------------------------

IDEMPOTENT = [b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"]
UNSAFE = [b"POST", b"PATCH", b"INVENTED"]


@pytest.mark.parametrize("end", [hang_up, reset])
@pytest.mark.parametrize("method", IDEMPOTENT)
async def test_an_idempotent_request_is_retried_once(method: bytes, end: object) -> None:
    """A reused connection that dies before a byte of the answer: one more try, on a connection that nobody used."""
    async with lab(in_turn(echo, end, echo)) as it:  # type: ignore[arg-type]
        await it.ask(request())
        answer = await it.ask(request(method, b"/app/again", body=b"hello"))
        assert answer.status == 200
        assert [(seen.method, seen.body) for seen in it.origin.requests[1:]] == [(method, b"hello")] * 2
        assert len(it.origin.connections) == 2
        assert it.stats.retries["connection_lost"] == 1


@pytest.mark.parametrize("method", IDEMPOTENT)
async def test_and_only_once(method: bytes) -> None:
    """The second death is the client's to hear."""
    async with lab(in_turn(echo, hang_up)) as it:
        await it.ask(request())
        answer = await it.ask(request(method))
        assert (answer.status, answer.value(b"sidecar-error")) == (502, b"upstream_protocol_error")
        assert len(it.origin.requests) == 3


@pytest.mark.parametrize("end", [hang_up, reset])
@pytest.mark.parametrize("method", UNSAFE)
@pytest.mark.parametrize("body", [None, b"", b"hello"])
async def test_an_unsafe_request_is_never_sent_twice(method: bytes, end: object, body: bytes | None) -> None:
    """502, and the origin has counted one."""
    async with lab(in_turn(echo, end, echo)) as it:  # type: ignore[arg-type]
        await it.ask(request())
        answer = await it.ask(request(method, b"/app/once", body=body))
        assert (answer.status, answer.value(b"sidecar-error")) == (502, b"upstream_protocol_error")
        assert [seen.method for seen in it.origin.requests] == [b"GET", method]


@pytest.mark.parametrize("method", [*IDEMPOTENT, *UNSAFE])
async def test_a_new_connection_that_dies_is_not_retried(method: bytes) -> None:
    """An upstream that closes new connections without an answer is broken, not unlucky."""
    async with lab(in_turn(hang_up, echo)) as it:
        assert (await it.ask(request(method))).status == 502
        assert len(it.origin.requests) == 1


@pytest.mark.parametrize("sent", [b"H", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 103 Early Hints\r\n\r\n"])
async def test_a_byte_of_the_answer_rules_a_retry_out(sent: bytes) -> None:
    """The upstream may have done what it was asked for."""
    async with lab(in_turn(echo, says(sent, end=True), echo)) as it, await it.client() as client:
        await it.ask(request())
        await client.send([request()])
        assert required(await client.final()).status == 502
        assert len(it.origin.requests) == 2


async def test_a_body_too_large_to_keep_is_not_retried() -> None:
    """What was sent of it is gone."""

    async def cut(connection: Connection, message: Message) -> None:
        connection.reset()

    async with lab(in_turn(echo, cut, echo)) as it:
        await it.ask(request())
        assert (await it.ask(request(b"PUT", body=b"x" * 100_000))).status == 502
        assert len(it.origin.requests) == 2


async def test_a_connection_that_was_closed_while_idle_costs_nothing() -> None:
    """A FIN seen in time is no lost request, whatever the method."""
    async with lab(echo) as it:
        await it.ask(request())
        it.origin.connections[0].finish()
        await until(lambda: it.idle == 0)
        assert (await it.ask(request(b"POST", body=b"hello"))).status == 200
        assert it.stats.retries == {}


async def test_an_upstream_restarts_under_load() -> None:
    """Every idle connection dies at once, and new ones are refused for a moment: no safe request fails."""
    async with lab(echo) as it, AsyncExitStack() as stack:
        await asyncio.gather(*(it.ask(request(b"GET", b"/app/%d" % n)) for n in range(30)))
        listens_again = asyncio.Event()

        async def sleep(seconds: float) -> None:
            await listens_again.wait()

        it.clock.sleep = sleep  # type: ignore[method-assign]
        stack.callback(listens_again.set)
        await it.origin.stop()
        asking = [asyncio.ensure_future(it.ask(request(b"GET", b"/app/%d" % n))) for n in range(30)]
        await until(lambda: it.stats.retries["connect"])
        await it.origin.start()
        listens_again.set()
        answers = await asyncio.gather(*asking)
        assert [answer.body for answer in answers] == [b"/%d " % n for n in range(30)]


@pytest.mark.parametrize("host", ["a" * 64 + ".example", "no-such-host.invalid"])
async def test_a_name_that_leads_nowhere(host: str) -> None:
    """502, at once for what is no name at all, and no dialling without end."""
    async with lab(echo, upstream=lambda origin: f"http://{host}:{origin.port}") as it:
        answer = await it.ask(request())
        assert (answer.status, answer.value(b"sidecar-error")) == (502, b"upstream_unreachable")


async def test_a_connection_that_the_upstream_is_about_to_close_is_not_used() -> None:
    """`Keep-Alive: timeout=5`: a POST within four seconds reuses the connection, one after that gets a new one."""
    async with lab(says(response(b"200 OK", b"Keep-Alive: timeout=5"))) as it:
        post = request(b"POST", body=b"x")
        for seconds, connections in ((0.0, 1), (3.9, 1), (4.1, 2)):
            it.clock.now += seconds
            answer = await it.ask(post)
            assert (answer.status, answer.value(b"keep-alive")) == (200, None)
            await until(lambda: it.idle == 1)
            assert len(it.origin.connections) == connections
