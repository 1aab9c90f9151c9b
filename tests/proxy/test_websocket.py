"""WebSocket: a handshake with the credential, then a tunnel; and nobody else switches protocols."""

from __future__ import annotations

import asyncio

import pytest

from tests.proxy.client import RawClient
from tests.proxy.lab import Lab, echo, in_turn, lab, request, required, response, says, token, until
from tests.proxy.origin import Connection
from tests.proxy.strict import Message
from tests.proxy.support import FakeAuthorizer

OFFER = (b"Connection: Upgrade", b"Upgrade: websocket")
KEY = (b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", b"Sec-WebSocket-Version: 13")
HANDSHAKE = request(b"GET", b"/app/socket?a=b", *OFFER, *KEY)
GRANTED = response(
    b"101 Switching Protocols",
    b"Upgrade: websocket",
    b"Connection: Upgrade",
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
    body=None,
)


async def opened(it: Lab, client: RawClient) -> Connection:
    """A tunnel; the origin's end of it."""
    await client.send([HANDSHAKE])
    assert required(await client.response()).status == 101
    return it.origin.connections[-1]


async def grant(connection: Connection, message: Message) -> None:
    """The handshake's answer."""
    await connection.send(GRANTED)


# --- the handshake ---------------------------------------------------------------------------------------------------


async def test_handshake() -> None:
    """It carries the credential and the client's own fields; the answer comes back with what belongs to it."""
    async with lab(grant, base="/base") as it, await it.client() as client:
        await client.send([HANDSHAKE])
        answer = required(await client.response())
        assert answer.status == 101
        assert sorted(answer.headers) == [
            (b"Connection", b"Upgrade"),
            (b"Sec-WebSocket-Accept", b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
            (b"Upgrade", b"websocket"),
        ]
        (seen,) = it.origin.requests
        assert seen.start == (b"GET", b"/base/socket?a=b", b"1")
        assert seen.value(b"authorization") == b"Bearer token-1"
        assert (seen.value(b"connection"), seen.value(b"upgrade")) == (b"Upgrade", b"websocket")
        assert seen.value(b"sec-websocket-version") == b"13"
        client.finish()
        await client.closed()


@pytest.mark.parametrize(
    "lines",
    [
        (b"Connection: keep-alive, Upgrade", b"Upgrade: WebSocket"),
        (b"Connection: keep-alive", b"connection: upgrade", b"upgrade: websocket"),
    ],
)
async def test_other_spellings(lines: tuple[bytes, ...]) -> None:
    """Names and tokens in any case, in lists and over several lines."""
    async with lab(grant) as it, await it.client() as client:
        await client.send([request(b"GET", b"/app/socket", *lines)])
        assert required(await client.response()).status == 101
        assert it.origin.requests[0].value(b"upgrade") == b"websocket"
        client.finish()
        await client.closed()


async def test_refused_handshake() -> None:
    """An upstream that answers in HTTP is answered in HTTP, and both connections go on."""
    async with lab(in_turn(says(response(b"403 Forbidden", body=b"no")), echo)) as it, await it.client() as client:
        await client.send([HANDSHAKE])
        assert required(await client.response()).body == b"no"
        await client.send([request()])
        assert required(await client.response()).body == b"/x "
        assert len(it.origin.connections) == 1


async def test_upgrade_ignored() -> None:
    """200 to a handshake is an answer like any other."""
    async with lab(echo) as it, await it.client() as client:
        await client.send([HANDSHAKE])
        assert required(await client.response()).body == b"/socket?a=b "
        await client.send([request()])
        assert required(await client.response()).status == 200


async def test_refused_credential_is_replaced_in_the_handshake() -> None:
    """A stale token does not cost a WebSocket client its connection."""
    authorizer = FakeAuthorizer(versions=[token(1), token(2)])
    answers = in_turn(says(response(b"401 Unauthorized")), grant)
    async with lab(answers, authorizer=authorizer) as it, await it.client() as client:
        await opened(it, client)
        assert [seen.value(b"upgrade") for seen in it.origin.requests] == [b"websocket"] * 2
        client.finish()
        await client.closed()


@pytest.mark.parametrize("raw", [request(), request(b"POST", b"/app/x", *OFFER, body=b"hello")])
async def test_switching_unasked(raw: bytes) -> None:
    """An upstream that switches to what nobody asked for is broken."""
    async with lab(grant) as it:
        answer = await it.ask(raw)
        assert (answer.status, answer.value(b"sidecar-error")) == (502, b"upstream_protocol_error")
        await it.origin.idle()


@pytest.mark.parametrize(
    "raw",
    [
        response(b"101 Switching Protocols", b"Upgrade: h2c", b"Connection: Upgrade", body=None),
        response(b"101 Switching Protocols", b"Connection: Upgrade", body=None),
        response(b"101 Switching Protocols", b"Upgrade: websocket", body=b"hello"),
        response(b"101 Switching Protocols", b"Upgrade: websocket, h2c", b"Connection: Upgrade", body=None),
        response(b"101 Switching Protocols", b"Upgrade: websocket", b"Transfer-Encoding: chunked", body=None),
    ],
)
async def test_switching_to_something_else(raw: bytes) -> None:
    """Only to what was offered, and without a body."""
    async with lab(says(raw)) as it:
        answer = await it.ask(HANDSHAKE)
        assert (answer.status, answer.value(b"sidecar-error")) == (502, b"upstream_protocol_error")
        await it.origin.idle()


async def test_http_1_0_cannot_upgrade() -> None:
    """The offer is ignored there (RFC 9110, 7.8)."""
    async with lab(echo) as it:
        assert (await it.ask(request(b"GET", b"/app/x", *OFFER, minor=0))).status == 200
        assert it.origin.requests[0].values(b"upgrade") == []


# --- the tunnel ------------------------------------------------------------------------------------------------------


async def test_both_directions() -> None:
    """Bytes pass as they are, frames or not."""
    data = bytes(range(256)) + b"\r\n\r\nGET / HTTP/1.1\r\n\r\n"
    async with lab(grant) as it, await it.client() as client:
        connection = await opened(it, client)
        before_up, before_down = len(connection.raw), len(client.raw)
        for n in range(10):
            await client.send([data[:n], data[n:]])
            await connection.send(data)
            await until(lambda n=n: len(connection.raw) - before_up == (n + 1) * len(data))
            await until(lambda n=n: len(client.raw) - before_down == (n + 1) * len(data))
        assert bytes(connection.raw[before_up:]) == bytes(client.raw[before_down:]) == data * 10
        client.finish()
        await client.closed()


async def test_bytes_right_behind_the_answer() -> None:
    """A frame that comes in the same packet as the 101 is not lost."""
    async with lab(says(GRANTED + b"first frame")) as it, await it.client() as client:
        await client.send([HANDSHAKE])
        await until(lambda: client.raw.endswith(b"\r\n\r\nfirst frame"))
        client.finish()
        await client.closed()


async def test_bytes_before_the_answer_keep_their_order() -> None:
    """What a hasty client sends early goes upstream once, in order, and after the 101 only."""

    async def answer(connection: Connection, message: Message) -> None:
        before = bytes(connection.raw)
        connection.transport.write(GRANTED)
        client.transport.write(b"two ")
        assert b"one" not in before

    async with lab(answer) as it, await it.client() as client:
        await client.send([HANDSHAKE + b"one "])
        await until(lambda: it.origin.connections and b"two " in it.origin.connections[0].raw)
        assert it.origin.connections[0].raw.endswith(b"\r\n\r\none two ")
        client.finish()
        await client.closed()


async def test_pipelined_request_before_a_refused_handshake() -> None:
    """What comes behind a handshake that was refused is a request, and is not tunnelled."""
    async with lab(in_turn(says(response(b"403 Forbidden")), echo)) as it, await it.client() as client:
        await client.send([HANDSHAKE + request()])
        assert [required(await client.response()).status for _ in range(2)] == [403, 200]


# --- its end ---------------------------------------------------------------------------------------------------------


async def test_the_upstream_ends() -> None:
    """What it sent last arrives, then the end."""
    async with lab(grant) as it, await it.client() as client:
        connection = await opened(it, client)
        await connection.send(b"last words")
        connection.finish()
        await client.closed()
        assert client.raw.endswith(b"last words")
        assert not client.reset
        assert it.counted("GET", 101, "upstream") == 1


async def test_the_client_ends() -> None:
    """The same the other way."""
    async with lab(grant) as it, await it.client() as client:
        connection = await opened(it, client)
        await client.send([b"last words"])
        client.finish()
        await connection.lost
        assert connection.raw.endswith(b"last words")
        await client.closed()
        assert not client.reset
        assert it.counted("GET", 101, "client") == 1


@pytest.mark.parametrize("size", [1 << 20, 8 << 20])
async def test_the_last_bytes_arrive_over_full_buffers(size: int) -> None:
    """An end that comes behind megabytes on the way cuts none of them off."""
    async with lab(grant) as it, await it.client() as client:
        connection = await opened(it, client)
        before = len(client.raw)
        client.transport.pause_reading()
        sending = asyncio.ensure_future(connection.send(b"x" * size))
        for _ in range(50):
            await asyncio.sleep(0)
        client.transport.resume_reading()
        await sending
        connection.finish()
        await client.closed()
        assert len(client.raw) - before == size


@pytest.mark.parametrize("who", ["client", "upstream"])
async def test_a_reset_ends_both(who: str) -> None:
    """Nothing of the tunnel stays."""
    async with lab(grant) as it:
        async with await it.client() as client:
            connection = await opened(it, client)
            if who == "client":
                client.break_off()
            else:
                connection.reset()
            await connection.lost
            await until(lambda: client.lost or client.eof)
        await until(it.settled)


async def test_an_idle_tunnel_ends() -> None:
    """By the route's idle limit, counted from the last byte in either direction."""
    async with lab(grant) as it, await it.client() as client:
        connection = await opened(it, client)
        await it.passes(59)
        await client.send([b"ping"])
        await until(lambda: connection.raw.endswith(b"ping"))
        await it.passes(59)
        await connection.send(b"pong")
        await until(lambda: client.raw.endswith(b"pong"))
        await it.passes(59)
        assert not client.ended
        await it.passes(2)
        await client.closed()
        await connection.lost
        assert it.counted("GET", 101, "sidecar") == 1


async def test_a_tunnelled_connection_is_never_pooled() -> None:
    """Whatever its bytes look like, it carried no HTTP any more."""
    async with lab(grant) as it, await it.client() as client:
        connection = await opened(it, client)
        await connection.send(response(b"200 OK", body=b"hello"))
        client.finish()
        await client.closed()
        await until(it.settled)
        assert it.idle == 0
