"""Where messages end: lengths, chunks, heads without bodies, HTTP/1.0 and the end of the connection."""

from __future__ import annotations

import asyncio

import pytest

from tests.proxy.client import random_cuts, single_bytes, whole
from tests.proxy.lab import Lab, chunks, echo, in_turn, lab, request, required, response, says, until
from tests.proxy.origin import Connection
from tests.proxy.strict import Message

CUTS = [whole, single_bytes, lambda raw: random_cuts(raw, "seed")]
CHUNKED = b"Transfer-Encoding: chunked"


async def is_kept(it: Lab) -> bool:
    """Whether the upstream's connection went back to the pool."""
    await until(lambda: it.stats.in_flight == 0)
    return it.idle == 1


# --- requests --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", CUTS, ids=["whole", "bytes", "cuts"])
@pytest.mark.parametrize(
    ("lines", "sent", "framing", "body"),
    [
        ([], b"", "none", b""),
        ([b"Content-Length: 0"], b"", "length", b""),
        ([b"Content-Length: 5"], b"hello", "length", b"hello"),
        ([CHUNKED], chunks([]), "chunked", b""),
        ([CHUNKED], chunks([b"hello", b" ", b"world"]), "chunked", b"hello world"),
        ([CHUNKED], b"5;a=b\r\nhello\r\n0\r\nX-Trailer: 1\r\nAuthorization: x\r\n\r\n", "chunked", b"hello"),
    ],
)
async def test_request_bodies(cut: object, lines: list[bytes], sent: bytes, framing: str, body: bytes) -> None:
    """Framed upstream as they came, less extensions and trailers; the next request on the connection is unharmed."""
    async with lab(echo) as it, await it.client() as client:
        await client.send(cut(request(b"POST", b"/app/x", *lines) + sent))  # type: ignore[operator]
        assert required(await client.final()).body == b"/x " + body
        await client.send([request(b"GET", b"/app/next")])
        assert required(await client.final()).body == b"/next "
        first = it.origin.requests[0]
        assert (first.framing, first.body, first.trailers) == (framing, body, [])
        assert len(it.origin.connections) == 1


async def test_chunks_are_passed_as_they_come() -> None:
    """A chunked upload is not gathered: its first chunk is at the upstream before its last exists."""

    async def greet(connection: Connection) -> None:
        await until(lambda: b"hello" in connection.raw)
        await connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        await until(lambda: connection.raw.endswith(b"0\r\n\r\n"))
        await connection.send(response(b"200 OK"))

    async with lab(greet=greet) as it, await it.client() as client:
        await client.send([request(b"POST", b"/app/x", CHUNKED) + b"5\r\nhello\r\n"])
        assert required(await client.response()).status == 100
        await client.send([b"0\r\n\r\n"])
        assert required(await client.response()).status == 200


@pytest.mark.parametrize(
    "bad", [b"5\r\nhelloX", b"x\r\n", b"5\nhello", b"-1\r\n", b"5\r\nhello\r\n0\r\nX\r\n\r\n", b"5\r\nhello\r\n0\r\n\n"]
)
async def test_a_broken_chunk_ends_the_request(bad: bytes) -> None:
    """400 and the end; the upstream gets a request that is not whole, and never another one on that connection."""
    async with lab(echo) as it, await it.client() as client:
        await client.send([request(b"POST", b"/app/x", CHUNKED) + b"3\r\nabc\r\n"])
        await until(lambda: it.origin.connections and b"abc" in it.origin.connections[0].raw)
        await client.send([bad])
        answer = required(await client.final())
        assert (answer.status, answer.value(b"sidecar-error")) == (400, b"bad_request")
        assert answer.value(b"connection") == b"close"
        await client.closed()
        await it.origin.idle()
        assert it.origin.requests == []
        assert it.origin.errors == []


# --- answers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", CUTS, ids=["whole", "bytes", "cuts"])
@pytest.mark.parametrize(
    ("method", "raw", "framing", "body"),
    [
        (b"GET", response(b"200 OK", body=b"hello"), "length", b"hello"),
        (b"GET", response(b"200 OK", body=b""), "length", b""),
        (b"GET", response(b"200 OK", CHUNKED, body=None) + chunks([b"hello"]), "chunked", b"hello"),
        (b"GET", response(b"200 OK", CHUNKED, body=None) + chunks([]), "chunked", b""),
        (b"GET", response(b"200 OK", CHUNKED, body=None) + b"5;x\r\nhello\r\n0\r\nX: 1\r\n\r\n", "chunked", b"hello"),
        (b"GET", response(b"204 No Content", body=None), "none", b""),
        (b"GET", response(b"304 Not Modified", b"ETag: x", body=None), "none", b""),
        (b"GET", response(b"304 Not Modified", b"Content-Length: 500", body=None), "none", b""),
        (b"GET", response(b"304 Not Modified", CHUNKED, body=None), "none", b""),
        (b"HEAD", response(b"200 OK", b"Content-Length: 500", body=None), "none", b""),
        (b"HEAD", response(b"200 OK", CHUNKED, body=None), "none", b""),
        (b"HEAD", response(b"200 OK", body=None), "none", b""),
        (b"HEAD", response(b"404 Not Found", b"Content-Length: 9", body=None), "none", b""),
        (b"GET", response(b"200 OK", b"Connection: keep-alive", body=b"hello", minor=0), "length", b"hello"),
    ],
)
async def test_answers_that_leave_the_connection_good(
    cut: object, method: bytes, raw: bytes, framing: str, body: bytes
) -> None:
    """Each ends where it ends, however the wire cuts it; both connections serve the next request."""
    async with lab(in_turn(says(*cut(raw)), echo)) as it, await it.client() as client:  # type: ignore[operator]
        client.reader.methods = [method, b"GET"]
        await client.send([request(method)])
        answer = required(await client.final())
        assert (answer.framing, answer.body, answer.trailers) == (framing, body, [])
        assert answer.value(b"connection") is None
        await client.send([request(b"GET", b"/app/next")])
        assert required(await client.final()).body == b"/next "
        assert len(it.origin.connections) == 1


async def test_length_of_an_answer_to_head_passes() -> None:
    """It says what a GET would get (RFC 9110, 9.3.2)."""
    async with lab(says(response(b"200 OK", b"Content-Length: 500", body=None))) as it:
        assert (await it.ask(request(b"HEAD"))).value(b"content-length") == b"500"


async def test_204_says_nothing_of_a_length() -> None:
    """RFC 9110, 8.6: never a Content-Length; an upstream that sends zero is forgiven."""
    async with lab(says(response(b"204 No Content", body=b""))) as it:
        answer = await it.ask(request())
        assert (answer.status, answer.values(b"content-length")) == (204, [])


@pytest.mark.parametrize(
    ("raw", "minor"),
    [
        (response(b"200 OK", body=None) + b"hello", 1),
        (response(b"200 OK", body=None, minor=0) + b"hello", 1),
        (response(b"200 OK", b"Connection: close", body=None) + b"hello", 1),
        (response(b"200 OK", body=None), 1),
    ],
)
async def test_body_to_the_end_of_the_connection(raw: bytes, minor: int) -> None:
    """Coded anew in chunks, so that the client's connection goes on; the upstream's is over."""
    async with lab(in_turn(says(raw, end=True), echo)) as it, await it.client() as client:
        await client.send([request()])
        answer = required(await client.final())
        assert (answer.framing, answer.body) == ("chunked", raw.partition(b"\r\n\r\n")[2])
        await client.send([request(b"GET", b"/app/next")])
        assert required(await client.final()).body == b"/next "
        assert len(it.origin.connections) == 2


@pytest.mark.parametrize(
    "raw",
    [
        response(b"200 OK", b"Connection: close", body=b"hello"),
        response(b"200 OK", body=b"hello", minor=0),
        response(b"200 OK", b"Connection: CLOSE, x", CHUNKED, body=None) + chunks([b"hello"]),
    ],
)
async def test_an_upstream_that_closes_is_not_reused(raw: bytes) -> None:
    """It said so, or HTTP/1.0 says so."""
    async with lab(says(raw)) as it, await it.client() as client:
        for _ in range(2):
            await client.send([request()])
            assert required(await client.final()).body == b"hello"
        assert len(it.origin.connections) == 2


# --- informational answers -------------------------------------------------------------------------------------------


async def test_100_continue() -> None:
    """The expectation passes, the upstream's 100 comes back, then the body goes."""
    async with lab(echo) as it, await it.client() as client:
        raw = request(b"POST", b"/app/x", b"Expect: 100-continue", body=b"hello")
        await client.send([raw[:-5]])
        assert required(await client.response()).status == 100
        await client.send([b"hello"])
        assert required(await client.response()).body == b"/x hello"
        assert it.origin.requests[0].value(b"expect") == b"100-continue"


async def test_417_instead_of_100() -> None:
    """A final answer in its place ends the exchange; what is left of the request has no place any more."""

    async def greet(connection: Connection) -> None:
        await until(lambda: b"\r\n\r\n" in connection.raw)
        await connection.send(response(b"417 Expectation Failed"))

    async with lab(greet=greet) as it, await it.client() as client:
        await client.send([request(b"POST", b"/app/x", b"Expect: 100-continue", body=b"hello")[:-5]])
        answer = required(await client.response())
        assert (answer.status, answer.value(b"connection")) == (417, b"close")
        await client.closed()


async def test_other_informational_answers_pass() -> None:
    """103 with its fields, several of them, hop-by-hop fields less."""
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: x\r\nX: 1\r\n\r\n"
    async with lab(says(early, early + response(b"200 OK", body=b"hello"))) as it, await it.client() as client:
        await client.send([request()])
        hints = [required(await client.response()) for _ in range(2)]
        assert [(hint.status, hint.headers) for hint in hints] == [(103, [(b"Link", b"</a>")])] * 2
        assert required(await client.response()).body == b"hello"


async def test_informational_answers_are_not_for_http_1_0() -> None:
    """RFC 9110, 15.2."""
    early = b"HTTP/1.1 103 Early Hints\r\n\r\n"
    async with lab(says(early + early, response(b"200 OK", body=b"hello"))) as it, await it.client() as client:
        await client.send([request(minor=0)])
        assert required(await client.response()).status == 200


async def test_endless_informational_answers_are_refused() -> None:
    """An upstream that never comes to its answer is broken."""
    async with lab(says(b"HTTP/1.1 102 Processing\r\n\r\n" * 1000)) as it, await it.client() as client:
        await client.send([request()])
        answer = required(await client.final())
        assert (answer.status, answer.value(b"sidecar-error")) == (502, b"upstream_protocol_error")


# --- HTTP/1.0 clients ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "lines", "kept"),
    [
        (response(b"200 OK", body=b"hello"), [], False),
        (response(b"200 OK", body=b"hello"), [b"Connection: keep-alive"], True),
        (response(b"200 OK", body=b"hello"), [b"Connection: keep-alive, close"], False),
        (response(b"200 OK", CHUNKED, body=None) + chunks([b"he", b"llo"]), [], False),
        (response(b"200 OK", CHUNKED, body=None) + chunks([b"he", b"llo"]), [b"Connection: keep-alive"], False),
    ],
)
@pytest.mark.parametrize("cut", CUTS, ids=["whole", "bytes", "cuts"])
async def test_http_1_0(cut: object, raw: bytes, lines: list[bytes], kept: bool) -> None:
    """No chunks for a client that does not know them: the body ends with the connection, or has its length."""
    async with lab(in_turn(says(*cut(raw)), echo)) as it, await it.client() as client:  # type: ignore[operator]
        await client.send([request(b"GET", b"/app/x", *lines, minor=0)])
        answer = required(await client.final())
        assert answer.body == b"hello"
        assert answer.values(b"transfer-encoding") == []
        assert answer.value(b"connection") == (b"keep-alive" if kept else b"close")
        if kept:
            await client.send([request(b"GET", b"/app/next", minor=0)])
            assert required(await client.final()).body == b"/next "
        await client.closed()
        assert it.origin.requests[0].start[2] == b"1", "the upstream is spoken to in HTTP/1.1"


async def test_http_1_0_body_to_the_end_of_the_connection() -> None:
    """Passed as it comes, ended as it ends."""
    async with lab(says(response(b"200 OK", body=None), b"he", b"llo", end=True)) as it:
        answer = await it.ask(request(minor=0))
        assert (answer.framing, answer.body) == ("close", b"hello")


async def test_http_1_0_truncated_body_is_a_reset() -> None:
    """For a client that only knows the end of the connection, a FIN would look whole."""
    cut = response(b"200 OK", CHUNKED, body=None) + b"5\r\nhel"
    async with lab(says(cut, end=True)) as it, await it.client() as client:
        await client.send([request(minor=0)])
        await until(lambda: client.ended)
        await until(lambda: client.lost)
        assert client.reset
        assert not client.eof


# --- answers that are none -------------------------------------------------------------------------------------------

NO_ANSWERS = [
    (b"\r\n" + response(b"200 OK"), "begins with an empty line"),
    (b"HTTP/1.1 200 OK\nContent-Length: 0\n\n", "bare LF"),
    (b"HTTP/2 200\r\n\r\n", "another version"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n", "two lengths"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", "both framings"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "another coding"),
    (b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "chunked in HTTP/1.0"),
    (b"HTTP/1.1 200 OK\r\nX : 1\r\n\r\n", "space before the colon"),
    (b"HTTP/1.1 200 OK\r\nX: 1\r\n folded\r\n\r\n", "folding"),
    (b"HTTP/1.1 200 OK\r\nX: \x00\r\n\r\n", "NUL"),
    (response(b"200 OK", body=b"hello") + b"more", "bytes after the end"),
    (response(b"200 OK", CHUNKED, body=None) + b"0\r\n\r\nmore", "bytes after the last chunk"),
    (response(b"204 No Content", body=b"hello"), "204 with a body"),
    (response(b"204 No Content", CHUNKED, body=None) + chunks([b"hello"]), "204 with chunks"),
    (response(b"101 Switching Protocols", b"Upgrade: websocket", b"Connection: Upgrade", body=None), "101 unasked"),
    (response(b"100 Continue", body=b"hello"), "1xx with a length"),
    (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000 + b"\r\n\r\n", "oversized head"),
    (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000, "endless head"),
    (b"HTTP/1.1 200 OK\r\nContent-Le", "truncated head"),
    (b"H", "one byte"),
    (b"", "nothing"),
    (b"HTTP/1.1 100 Continue\r\n\r\n", "1xx alone"),
]


@pytest.mark.parametrize(("raw", "what"), NO_ANSWERS, ids=[what for _, what in NO_ANSWERS])
async def test_no_answer(raw: bytes, what: str) -> None:
    """502, not a byte of it for the client, and that connection is never used again."""
    async with lab(says(raw, end=True)) as it, await it.client() as client:
        await client.send([request()])
        answer = required(await client.final())
        assert (answer.status, answer.value(b"sidecar-error")) == (502, b"upstream_protocol_error")
        it.origin.answer = echo
        await client.send([request(b"GET", b"/app/next")])
        assert required(await client.final()).body == b"/next "
        assert len(it.origin.connections) == 2


@pytest.mark.parametrize("end", ["fin", "rst"])
@pytest.mark.parametrize(
    "raw",
    [
        response(b"200 OK", body=b"hello")[:-1],
        response(b"200 OK", body=b"hello") + b"more",
        response(b"200 OK", CHUNKED, body=None) + b"5\r\nhello\r\n0\r\n\r\nmore",
        response(b"200 OK", CHUNKED, body=None) + b"5\r\nhel",
        response(b"200 OK", CHUNKED, body=None) + b"5\r\nhello\r\n",
        response(b"200 OK", CHUNKED, body=None) + b"5\r\nhello\r\n0\r\n",
        response(b"200 OK", CHUNKED, body=None) + b"5\r\nhello\r\nnonsense",
        response(b"200 OK", CHUNKED, body=None) + b"5\r\nhelloXX",
    ],
)
async def test_an_end_in_the_middle_is_a_reset(raw: bytes, end: str) -> None:
    """After the head is sent, an error ends the client's connection abruptly: nothing of it may look whole."""

    async def answer(connection: Connection, message: Message) -> None:
        head, _, rest = raw.partition(b"\r\n\r\n")
        await connection.send(head + b"\r\n\r\n" + rest[:3])
        await until(lambda: client.raw)
        await connection.send(rest[3:])
        if end == "rst":
            connection.reset()
        else:
            connection.finish()

    async with lab(answer) as it, await it.client() as client:
        await client.send([request()])
        await until(lambda: client.lost)
        assert (client.reset, client.eof) == (True, False)
        assert not client.reader.done
        assert it.counted("GET", 200, "sidecar") == 1


async def test_reset_of_a_body_to_the_end_of_the_connection() -> None:
    """Without a length only the kind of end tells whether the body is whole."""

    async def answer(connection: Connection, message: Message) -> None:
        await connection.send(response(b"200 OK", body=None) + b"hello")
        await until(lambda: client.raw)
        connection.reset()

    async with lab(answer) as it, await it.client() as client:
        await client.send([request()])
        await until(lambda: client.lost)
        assert (client.reset, client.eof) == (True, False)


async def test_bytes_behind_an_answer_do_not_reach_the_next_request() -> None:
    """An unasked answer on an idle connection closes it (response splitting), and is nobody's."""
    async with lab(echo) as it:
        assert (await it.ask(request())).status == 200
        assert await is_kept(it)
        (connection,) = it.origin.connections
        await connection.send(response(b"200 OK", body=b"poison"))
        await it.origin.idle()
        assert it.idle == 0
        assert (await it.ask(request())).body == b"/x "


async def test_head_and_next_answer_do_not_mix() -> None:
    """An upstream that sends a body to HEAD is broken; its body is not the next answer's head."""
    async with lab(in_turn(says(response(b"200 OK", body=b"hello")), echo)) as it, await it.client() as client:
        client.reader.methods = [b"HEAD", b"GET"]
        await client.send([request(b"HEAD")])
        first = required(await client.final())
        assert first.status in {200, 502}
        await client.send([request(b"GET", b"/app/next")])
        assert required(await client.final()).body == b"/next "
        assert len(it.origin.connections) == 2


async def test_late_body_to_head_closes_the_idle_connection() -> None:
    """The same, where the body comes after the connection was given back."""

    async def answer(connection: Connection, message: Message) -> None:
        await connection.send(response(b"200 OK", b"Content-Length: 5", body=None))
        await gate.wait()
        await connection.send(b"hello")

    gate = asyncio.Event()
    async with lab(answer) as it:
        assert (await it.ask(request(b"HEAD"))).status == 200
        assert await is_kept(it)
        gate.set()
        await it.origin.idle()
        assert it.idle == 0
