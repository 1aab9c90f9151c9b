"""Every fault a named fake: what the client sees, what is counted and logged, and that nothing stays.

`lab()` fails a test that leaves a task, a connection, a descriptor or a count behind.
"""

from __future__ import annotations

import gc
import ssl
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from sidecar.config.settings import Limits, Timeouts
from sidecar.proxy.downstream import Downstream
from sidecar.proxy.exchange import Exchange
from sidecar.proxy.upstream import UpstreamConnection
from tests.clients.upstream import Certificates
from tests.proxy import faults
from tests.proxy.client import RawClient
from tests.proxy.faults import CHUNKED, GET, HEAD, POST, UNTIL_END, arrive
from tests.proxy.lab import Lab, lab, never, request, required, until
from tests.proxy.origin import OK, Answer, Connection, Origin
from tests.proxy.strict import Message, NotStrictError

CUT = "cut"
SILENT = "closed without an answer"


@pytest.fixture(autouse=True, scope="module")
def _no_memory_stays() -> Iterator[None]:
    """What served the requests is gone when the tests are over: nobody keeps a reference."""
    before = serving()  # the fuzzer's targets, which live as long as their module
    yield
    gc.collect()
    assert [thing for thing in serving() if thing not in before] == []


def serving() -> list[object]:
    return [thing for thing in gc.get_objects() if type(thing) in (Downstream, Exchange, UpstreamConnection)]


async def seen(client: RawClient) -> str:
    """What the client sees in the end."""
    try:
        answer = await client.final()
    except NotStrictError:
        answer = None
    if answer is not None:
        code = answer.value(b"sidecar-error")
        return f"{answer.status} {code.decode()}" if code else f"{answer.status} {answer.body.decode()}"
    await client.closed()
    return CUT if client.raw else SILENT


def outcomes(running: Lab) -> dict[tuple[str, int, str], int]:
    return {key: count for key, count in running.stats.requests.items() if count}


def logged(entries: list[Any]) -> list[tuple[int, str]]:
    return [
        (entry["status"], entry.get("source", "sidecar")) for entry in entries if entry["event"].startswith("request")
    ]


UNREACHABLE, PROTOCOL, TIMEOUT = "502 upstream_unreachable", "502 upstream_protocol_error", "504 upstream_timeout"

BROKEN: dict[str, tuple[Answer, str]] = {
    "resets-before-head": (faults.resets_after(b""), PROTOCOL),
    "resets-in-head": (faults.resets_after(HEAD[:20]), PROTOCOL),
    "resets-after-head": (faults.resets_after(HEAD), CUT),
    "resets-in-body": (faults.resets_after(HEAD + b"12345"), CUT),
    "resets-in-chunk": (faults.resets_after(CHUNKED + b"a\r\n12345"), CUT),
    "resets-before-last-chunk": (faults.resets_after(CHUNKED + b"5\r\n12345\r\n"), CUT),
    "resets-in-body-until-end": (faults.resets_after(UNTIL_END + b"12345"), CUT),
    "ends-before-head": (faults.ends_after(b""), PROTOCOL),
    "ends-in-head": (faults.ends_after(HEAD[:20]), PROTOCOL),
    "ends-after-head": (faults.ends_after(HEAD), CUT),
    "ends-in-body": (faults.ends_after(HEAD + b"12345"), CUT),
    "ends-in-chunk": (faults.ends_after(CHUNKED + b"a\r\n12345"), CUT),
    "ends-before-last-chunk": (faults.ends_after(CHUNKED + b"5\r\n12345\r\n"), CUT),
    "garbage-in-chunks": (faults.hangs_after(CHUNKED + b"5\r\n12345\r\nx\r\n"), PROTOCOL),
    "garbage-instead-of-head": (faults.hangs_after(b"\x00\x01\x02\r\n\r\n"), PROTOCOL),
}


@pytest.mark.parametrize("method", [b"GET", b"POST"])
@pytest.mark.parametrize("fault", BROKEN)
async def test_upstream_breaks_off(fault: str, method: bytes) -> None:
    """Before the head is sent: 502, once; after it: a cut that cannot look whole. Counted, logged, never repeated."""
    answer, expected = BROKEN[fault]
    with capture_logs() as entries:
        async with lab(answer) as running:
            async with await running.client() as client:
                await client.send([request(method, body=b"x" if method == b"POST" else None)])
                got = await seen(client)
                assert got == expected or (fault == "garbage-in-chunks" and got == CUT)
            await until(lambda: outcomes(running))
            assert len(running.origin.requests) == 1
        status = 200 if got == CUT else 502
        assert outcomes(running) == {(method.decode(), status, "sidecar"): 1}
        assert logged(entries) == [(status, "sidecar")]


@pytest.mark.parametrize("fault", [faults.resets_after(HEAD + b"0123456789"), faults.ends_after(HEAD + b"0123456789")])
async def test_upstream_breaks_off_after_the_end(fault: Answer) -> None:
    """A whole answer is whole; the connection is not used again, and nobody hears of it."""
    async with lab(fault) as running:
        for _ in range(2):
            assert (await running.ask(GET)).body == b"0123456789"
        assert len(running.origin.connections) == 2
        assert outcomes(running) == {("GET", 200, "upstream"): 2}


@pytest.mark.parametrize("greet", [faults.resets_at_once, faults.ends_at_once])
@pytest.mark.parametrize("raw", [GET, POST], ids=["get", "post"])
async def test_upstream_takes_nothing(greet: Any, raw: bytes) -> None:
    """A connection that ends before the request could be read: 502 once, not a second try on a new one."""
    async with lab(greet=greet) as running:
        answer = await running.ask(raw)
        assert answer.status == 502
        assert answer.value(b"sidecar-error") in {b"upstream_protocol_error", b"upstream_unreachable"}
        assert len(running.origin.connections) == 1


async def test_upstream_is_not_there() -> None:
    """Nobody listens: 502 `upstream_unreachable`."""
    async with lab() as running:
        await running.origin.stop()
        assert await seen_alone(running, GET) == UNREACHABLE
        assert outcomes(running) == {("GET", 502, "sidecar"): 1}


async def seen_alone(running: Lab, raw: bytes) -> str:
    async with await running.client() as client:
        await client.send([raw])
        return await seen(client)


HANGS: dict[str, tuple[bytes, str]] = {
    "before-head": (b"", TIMEOUT),
    "in-head": (HEAD[:20], TIMEOUT),
    "after-informational": (b"HTTP/1.1 103 Early Hints\r\n\r\n", TIMEOUT),
    "after-head": (HEAD, CUT),
    "in-body": (HEAD + b"12345", CUT),
    "in-chunk": (CHUNKED + b"a\r\n12345", CUT),
    "in-body-until-end": (UNTIL_END + b"12345", CUT),
}


@pytest.mark.parametrize("where", HANGS)
async def test_upstream_hangs(where: str) -> None:
    """`timeouts.response` for the head (504), `timeouts.idle` for the body (cut); the connection is given up."""
    raw, expected = HANGS[where]
    async with lab(faults.hangs_after(raw)) as running:
        async with await running.client() as client:
            await client.send([GET])
            await until(lambda: running.origin.requests)
            await arrive()
            await running.passes(59.0)
            assert not client.ended
            await running.passes(2.0)
            assert await seen(client) == expected
        await running.origin.idle()
        assert outcomes(running) == {("GET", 504 if expected == TIMEOUT else 200, "sidecar"): 1}


async def test_upstream_never_shakes_hands() -> None:
    """TLS with somebody who does not answer: `timeouts.connect`, 502 or 504, and the connection is given up."""
    contexts = {"app": ssl.create_default_context()}
    https: dict[str, Any] = {"upstream": lambda origin: origin.url.replace("http:", "https:"), "contexts": contexts}
    https["route_changes"] = {"timeouts": Timeouts(connect=0.1)}
    async with lab(greet=faults.never_answers, **https) as running:
        async with await running.client() as client:
            await client.send([GET])
            await until(lambda: running.origin.connections)
            await arrive()
            await running.passes(11.0)
            assert await seen(client) in {UNREACHABLE, "504 upstream_timeout"}
        await running.origin.idle()


async def test_upstream_drips_its_head() -> None:
    """A byte a second is no progress for a head: `timeouts.response` is for the whole of it."""
    box: list[Lab] = []
    head = b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 100 + b"\r\nContent-Length: 0\r\n\r\n"
    async with lab(faults.drips(head, lambda: box[0], 1.0)) as running:
        box.append(running)
        assert await seen_alone(running, GET) == TIMEOUT


async def test_upstream_drips_its_body() -> None:
    """A byte a second is progress for a body: `timeouts.idle` is between them."""
    box: list[Lab] = []

    async def answer(connection: Connection, message: Message) -> None:
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
        await faults.drips(b"y" * 100, lambda: box[0], 1.0)(connection, message)

    async with lab(answer) as running:
        box.append(running)
        assert (await running.ask(GET)).body == b"y" * 100


@pytest.mark.parametrize("how", [Connection.reset, Connection.finish], ids=["reset", "fin"])
@pytest.mark.parametrize(
    ("method", "times"),
    [(b"GET", 2), (b"HEAD", 2), (b"PUT", 2), (b"DELETE", 2), (b"OPTIONS", 2), (b"POST", 1), (b"PATCH", 1), (b"get", 1)],
)
async def test_upstream_closes_a_kept_connection_at_reuse(method: bytes, times: int, how: Any) -> None:
    """Idempotent requests go once more, on a new connection (RFC 9110, 9.2.2); an unsafe one is never sent twice."""
    async with lab(faults.closes_at_reuse(how)) as running:
        assert (await running.ask(GET)).status == 200
        raw = request(method, path=b"/app/second", body=b"b" if method in {b"PUT", b"POST", b"PATCH"} else None)
        if method == b"HEAD":
            running.origin.answer = lambda c, _: c.send(OK[:-2]) if len(c.reader.done) == 1 else close(c)

            async def close(connection: Connection) -> None:
                how(connection)

        answer = await running.ask(raw)
        sent = [message for message in running.origin.requests if message.target == b"/second"]
        assert len(sent) == times
        assert answer.status == (200 if times == 2 else 502)
        assert running.stats.retries["connection_lost"] == times - 1
        assert {message.body for message in sent} == {b"b" if method in {b"PUT", b"POST", b"PATCH"} else b""}


async def test_upstream_closes_every_kept_connection() -> None:
    """Five idle connections die at once: five requests at once each get their answer over new ones."""
    async with lab(never) as running:
        running.origin.answer = faults.closes_at_reuse(Connection.reset)
        for _ in range(3):
            clients = [await running.client() for _ in range(5)]
            for client in clients:
                await client.send([GET])
            for client in clients:
                assert required(await client.final()).status == 200
                async with client:
                    pass


EARLY = b"HTTP/1.1 413 x\r\nContent-Length: 3\r\n\r\nbig"


@pytest.mark.parametrize("then", [None, Connection.finish, Connection.reset], ids=["stays", "fin", "reset"])
async def test_upstream_answers_early(then: Any) -> None:
    """An answer while the body still comes is passed on; the connection ends, the rest of the body is no request."""
    async with lab(greet=faults.answers_early(EARLY, then=then)) as running:
        async with await running.client() as client:
            head = request(b"POST", b"/app/x", b"Content-Length: 1000000")
            await client.send([head, b"x" * 1000])
            assert await seen(client) == "413 big"
            await client.send([b"x" * 10_000, GET])
            await client.closed()
        assert b"GET" not in running.origin.connections[0].raw


async def test_upstream_answers_early_and_the_client_goes_on_sending() -> None:
    """A client that sends all of its body first, and reads then, still gets the answer and no reset."""
    async with lab(greet=faults.answers_early(EARLY)) as running, await running.client() as client:
        await client.send([request(b"POST", b"/app/x", b"Content-Length: 3000000"), *[b"x" * 100_000] * 30])
        assert await seen(client) == "413 big"


@pytest.mark.parametrize("unasked", [OK, b"x", b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n"])
async def test_upstream_speaks_unasked(unasked: bytes) -> None:
    """Bytes on a kept connection that nobody asked for are nobody's answer: it is given up."""
    async with lab(faults.hangs_after(OK)) as running:
        assert (await running.ask(GET)).body == b"ok"
        await running.origin.connections[0].send(unasked)
        await running.origin.idle()
        running.origin.answer = faults.hangs_after(HEAD + b"0123456789")
        assert (await running.ask(GET)).body == b"0123456789"


TLS_ENDS: dict[str, tuple[bytes, Callable[[Connection], None], str]] = {
    "close-notify": (UNTIL_END + b"whole", Connection.finish, "200 whole"),
    "no-close-notify": (UNTIL_END + b"whole", lambda connection: connection.transport.abort(), CUT),
    "no-close-notify-in-length": (HEAD + b"12345", lambda connection: connection.transport.abort(), CUT),
    "no-close-notify-in-chunk": (CHUNKED + b"a\r\n12345", lambda connection: connection.transport.abort(), CUT),
    "no-close-notify-after-length": (
        HEAD + b"0123456789",
        lambda connection: connection.transport.abort(),
        "200 0123456789",
    ),
    "reset": (UNTIL_END + b"whole", Connection.reset, CUT),
}


@pytest.mark.parametrize("name", TLS_ENDS)
async def test_tls_ends_with_close_notify_alone(name: str) -> None:
    """Over TLS a FIN can be anybody's: a body that ends with the connection is whole only after close_notify."""
    raw, end, expected = TLS_ENDS[name]
    certificates = Certificates()

    async def answer(connection: Connection, _: Message) -> None:
        await connection.send(raw)
        await arrive()
        end(connection)

    origin = Origin(answer, tls=certificates.server)
    async with lab(origin=origin, contexts={"app": certificates.client}) as running:
        assert await seen_alone(running, GET) == expected


# --- the client's side -----------------------------------------------------------------------------------------------

HEAD_CUT = GET[:25]
BODY_CUT = POST[:-500]
CHUNK_CUT = request(b"POST", b"/app/x", b"Transfer-Encoding: chunked") + b"5\r\nhel"


@pytest.mark.parametrize("then", [faults.resets, faults.leaves])
@pytest.mark.parametrize(
    ("raw", "reaches"),
    [(b"", False), (HEAD_CUT, False), (BODY_CUT, True), (CHUNK_CUT, True), (GET, True), (POST, True)],
)
async def test_client_goes(raw: bytes, reaches: bool, then: Any) -> None:
    """At any moment of its request: the upstream's part ends with it, its connection is not used again."""
    async with lab(never) as running:
        client = await running.client()
        await client.send([raw])
        if reaches:
            await until(lambda: running.origin.connections and running.origin.connections[0].raw)
        await then(running, client)
        async with client:
            pass
        if reaches and (then is faults.resets or raw not in {GET, POST}):
            await running.origin.idle()
        elif reaches:
            # A FIN is a half-close, and the answer is still awaited: in vain, until its time is over.
            await arrive()
            await running.passes(61.0)
            await running.origin.idle()
        assert not running.origin.errors
        assert sum(outcomes(running).values()) <= 1


@pytest.mark.parametrize("then", [faults.resets, faults.leaves])
@pytest.mark.parametrize("sent", [HEAD, HEAD + b"12345", CHUNKED, CHUNKED + b"5\r\n12345\r\n"])
async def test_client_goes_while_the_answer_comes(sent: bytes, then: Any) -> None:
    """The rest of the answer is nobody's: its connection is given up, at the latest when writing fails."""

    async def answer(connection: Connection, _: Message) -> None:
        await connection.send(sent)

    async with lab(answer) as running:
        client = await running.client()
        await client.send([GET])
        await client.received(1)
        await then(running, client)
        async with client:
            pass
        await arrive()
        await running.passes(61.0)
        await running.origin.idle()
        ((key, count),) = outcomes(running).items()
        assert (key[0], key[1], count) == ("GET", 200, 1)
        assert key[2] in {"client", "sidecar"}


@pytest.mark.parametrize(("raw", "expected"), [(HEAD_CUT, "408 request_timeout"), (b"G", "408 request_timeout")])
async def test_client_hangs_in_its_head(raw: bytes, expected: str) -> None:
    """`limits.head_timeout`: 408."""
    async with lab() as running:
        async with await running.client() as client:
            await client.send([raw])
            await faults.hangs(9.0)(running, client)
            assert not client.ended
            await faults.hangs(2.0)(running, client)
            assert await seen(client) == expected
        assert running.origin.connections == []


@pytest.mark.parametrize("raw", [BODY_CUT, CHUNK_CUT])
async def test_client_hangs_in_its_body(raw: bytes) -> None:
    """`timeouts.idle`: an error, and the upstream never takes the part for a whole."""
    async with lab() as running:
        async with await running.client() as client:
            await client.send([raw])
            await until(lambda: running.origin.connections and running.origin.connections[0].raw)
            await faults.hangs(61.0)(running, client)
            assert await seen(client) in {"408 request_timeout", "400 bad_request"}
        await running.origin.idle()
        assert running.origin.requests == []


async def test_client_drips_its_head() -> None:
    """A byte a second is no progress for a head: 408 after `limits.head_timeout`, however busy it looks."""
    async with lab(limits=Limits(head_timeout=10.0)) as running, await running.client() as client:
        for index in range(len(GET)):
            if client.ended:
                break
            await client.send([GET[index : index + 1]])
            await faults.hangs(1.0)(running, client)
        assert await seen(client) == "408 request_timeout"


async def test_client_drips_its_body() -> None:
    """A byte a second is progress for a body."""
    async with lab() as running:
        async with await running.client() as client:
            await client.send([request(b"POST", b"/app/x", b"Content-Length: 100")])
            await until(lambda: running.origin.connections)
            for _ in range(100):
                await client.send([b"z"])
                await faults.hangs(1.0)(running, client)
            assert await seen(client) == "200 ok"
        assert running.origin.requests[0].body == b"z" * 100


@pytest.mark.parametrize(
    "raw", [GET, POST, GET + GET, request(b"POST", b"/app/x", b"Transfer-Encoding: chunked") + b"0\r\n\r\n"]
)
async def test_client_half_closes(raw: bytes) -> None:
    """A FIN after the request: the answer still comes, then the connection ends."""
    async with lab() as running, await running.client() as client:
        await client.send([raw])
        await faults.half_closes(running, client)
        for _ in range(raw.count(b"HTTP/1.1")):
            assert await seen(client) == "200 ok"
        await client.closed()


async def test_client_stops_reading() -> None:
    """A client that takes nothing holds back the upstream, with a bounded buffer between; in the end it is cut off."""
    sent = 0

    async def answer(connection: Connection, _: Message) -> None:
        nonlocal sent
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        while sent < 100_000_000 and not connection.lost.done():
            await connection.send(b"x" * 50_000)
            sent += 50_000

    async with lab(answer) as running, await running.client() as client:
        client.transport.pause_reading()
        await client.send([GET])
        await until(lambda: sent)
        before = -1
        while before != sent:
            before = sent
            await arrive()
        assert sent < 20_000_000  # the kernel's buffers on four sockets, and a few hundred KiB of ours
        (downstream,) = running.server.connections
        assert downstream.transport.get_write_buffer_size() <= 512 << 10
        await running.passes(61.0)
        await running.origin.idle()
        client.transport.resume_reading()
        assert await seen(client) == CUT


async def test_upstream_stops_reading() -> None:
    """An upstream that takes nothing holds back the client, with a bounded buffer between."""
    async with lab(greet=faults.never_reads) as running:
        async with await running.client() as client:
            await client.send([request(b"POST", b"/app/x", b"Content-Length: 100000000")])
            await until(lambda: running.origin.connections)
            sent = 0
            while client.drained.is_set():
                client.transport.write(b"x" * 50_000)
                sent += 50_000
                await arrive()
            assert sent < 20_000_000
            await running.passes(61.0)
            assert await seen(client) in {TIMEOUT, "408 request_timeout"}
        running.origin.connections[0].transport.resume_reading()
        await running.origin.idle()
