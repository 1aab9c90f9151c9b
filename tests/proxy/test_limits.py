"""Limits: past each of them a named error, and nothing else disturbed."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from sidecar.config.settings import Limits
from sidecar.descriptors import Descriptors
from sidecar.proxy import pool as pool_module
from tests.proxy.client import RawClient, random_cuts, single_bytes, whole
from tests.proxy.lab import HOST, chunks, echo, lab, never, request, required, response, says, token, until
from tests.proxy.origin import Connection
from tests.proxy.strict import Message
from tests.proxy.support import FakeAttachment, FakeAuthorizer

CUTS = [whole, single_bytes, lambda raw: random_cuts(raw, "seed")]
CUT_NAMES = ["whole", "bytes", "cuts"]


def head_of_size(size: int) -> bytes:
    """A request whose head has exactly so many bytes."""
    start = b"GET /app/x HTTP/1.1\r\n" + HOST + b"X: "
    return start + b"a" * (size - len(start) - 4) + b"\r\n\r\n"


def line_of_size(size: int) -> bytes:
    """A request whose line has exactly so many bytes, CRLF included."""
    return b"GET /app/" + b"a" * (size - 9 - 11) + b" HTTP/1.1\r\n" + HOST + b"\r\n"


# --- heads -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", CUTS, ids=CUT_NAMES)
@pytest.mark.parametrize(
    ("raw", "status", "code"),
    [
        (head_of_size(1024), 200, None),
        (head_of_size(1025), 431, b"headers_too_large"),
        (head_of_size(5000), 431, b"headers_too_large"),
        (line_of_size(900), 200, None),
        (line_of_size(1024), 431, b"headers_too_large"),
        (line_of_size(1100), 414, b"uri_too_long"),
        (line_of_size(5000), 414, b"uri_too_long"),
        (b"A" * 1025, 414, b"uri_too_long"),
        (b"GET /app/x HTTP/1.1\r\n" + HOST + b"X: 1\r\n" * 500, 431, b"headers_too_large"),
    ],
)
async def test_size_of_heads(cut: object, raw: bytes, status: int, code: bytes | None) -> None:
    """Exactly `header_bytes` passes, one more does not, however it is cut; the request line has its own error."""
    async with lab(echo, limits=Limits(header_bytes=1024)) as it, await it.client() as client:
        await client.send(cut(raw))  # type: ignore[operator]
        answer = required(await client.final())
        assert (answer.status, answer.value(b"sidecar-error")) == (status, code)
        if code is not None:
            assert answer.value(b"connection") == b"close"
            await client.closed()
            assert not client.reset
            assert it.origin.connections == []


async def test_an_oversized_head_behind_a_good_request() -> None:
    """The good one is answered first."""
    async with lab(echo, limits=Limits(header_bytes=1024)) as it, await it.client() as client:
        await client.send([request() + head_of_size(5000)])
        assert [required(await client.final()).status for _ in range(2)] == [200, 431]


async def test_the_refused_client_may_finish_sending() -> None:
    """It reads its 431, and no reset, though it goes on for megabytes."""
    async with lab(echo) as it, await it.client() as client:
        await client.send([b"GET /app/x HTTP/1.1\r\n" + HOST, *([b"X: " + b"a" * 65_000] * 40)])
        assert required(await client.final()).status == 431
        assert not client.reset


# --- bodies ----------------------------------------------------------------------------------------------------------

SMALL = {"max_body": 10}


@pytest.mark.parametrize("cut", CUTS, ids=CUT_NAMES)
async def test_bodies_of_exactly_the_limit_pass(cut: object) -> None:
    """By length and by chunks; what counts is the data."""
    async with lab(echo, route_changes=SMALL) as it, await it.client() as client:
        await client.send(cut(request(b"POST", body=b"0123456789")))  # type: ignore[operator]
        assert required(await client.final()).body == b"/x 0123456789"
        raw = request(b"POST", b"/app/x", b"Transfer-Encoding: chunked") + b"5;a=b\r\n01234\r\n" + chunks([b"56789"])
        await client.send(cut(raw))  # type: ignore[operator]
        assert required(await client.final()).body == b"/x 0123456789"


async def test_a_length_over_the_limit_is_refused_at_once() -> None:
    """Before a byte of the body, or of anything for the upstream, is sent."""
    async with lab(echo, route_changes=SMALL) as it, await it.client() as client:
        await client.send([request(b"POST", body=b"0123456789a")[:-11]])
        answer = required(await client.final())
        assert (answer.status, answer.value(b"sidecar-error")) == (413, b"body_too_large")
        assert it.origin.connections == []
        await client.send([b"0123456789a"])
        await client.closed()
        assert not client.reset


@pytest.mark.parametrize("cut", CUTS, ids=CUT_NAMES)
async def test_chunks_over_the_limit_are_refused(cut: object) -> None:
    """As soon as they are; the upstream gets no end of the body, so that it is no request there."""
    async with lab(echo, route_changes=SMALL) as it, await it.client() as client:
        raw = request(b"POST", b"/app/x", b"Transfer-Encoding: chunked") + chunks([b"0123456789", b"a"])
        await client.send(cut(raw))  # type: ignore[operator]
        answer = required(await client.final())
        assert (answer.status, answer.value(b"sidecar-error")) == (413, b"body_too_large")
        await client.closed()
        assert not client.reset
        assert it.origin.requests == []


async def test_the_limit_is_each_requests_own() -> None:
    """A thousand small bodies on one connection are no large one."""
    async with lab(echo, route_changes=SMALL) as it, await it.client() as client:
        for _ in range(20):
            raw = request(b"POST", b"/app/x", b"Transfer-Encoding: chunked") + chunks([b"0123456789"])
            await client.send([raw])
            assert required(await client.final()).status == 200


# --- connections -----------------------------------------------------------------------------------------------------


async def test_connections_over_the_limit_are_refused() -> None:
    """503 with Retry-After at once, without waiting for a request; those who are in are not disturbed."""
    async with lab(echo, limits=Limits(connections=3)) as it, contextlib.AsyncExitStack() as stack:
        inside = [await stack.enter_async_context(await it.client()) for _ in range(3)]
        await until(lambda: len(it.server.connections) == 3)
        async with await it.client() as over:
            answer = required(await over.final())
            assert (answer.status, answer.value(b"sidecar-error")) == (503, b"overloaded")
            assert answer.value(b"retry-after") == b"1"
            await over.send([request()])
            await over.closed()
            assert not over.reset
        for client in inside:
            await client.send([request()])
            assert required(await client.final()).status == 200
        assert len(it.origin.requests) == 3


async def test_a_place_that_is_free_again_is_given_again() -> None:
    """The limit counts who is there."""
    async with lab(echo, limits=Limits(connections=1)) as it:
        for _ in range(5):
            assert (await it.ask(request())).status == 200
            await until(lambda: not it.server.connections)


async def test_refusing_has_a_limit_too() -> None:
    """A flood is not answered politely one by one: past a number of refused ones, connections just end."""
    few = Descriptors(proxy=100, clients=1, refused=2, admin=1, authorize=1)
    async with lab(echo, descriptors=few) as it, contextlib.AsyncExitStack() as stack:
        clients: list[RawClient] = []
        for n in range(6):
            clients.append(await stack.enter_async_context(await it.client()))
            await until(lambda n=n: len(it.server.connections) >= min(n + 1, 3) or clients[-1].ended)
        for client in clients[3:]:
            await client.closed()
        assert [bool(client.raw) for client in clients] == [False, True, True, False, False, False]
        await clients[0].send([request()])
        assert required(await clients[0].final()).status == 200


async def test_a_full_pool_is_overload(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who does not get an upstream connection in time hears that all of them are in use, not that it is unreachable."""
    monkeypatch.setattr(pool_module, "MAX_CONNECTIONS", 1)
    gate = asyncio.Event()

    async def slow(connection: Connection, message: Message) -> None:
        await gate.wait()
        await echo(connection, message)

    async with lab(slow) as it, await it.client() as first, await it.client() as second:
        await first.send([request()])
        await until(lambda: it.origin.requests)
        await second.send([request()])
        await until(lambda: it.pool.waiting)
        await it.passes(10.1)
        answer = required(await second.final())
        assert (answer.status, answer.value(b"sidecar-error")) == (503, b"overloaded")
        assert answer.value(b"retry-after") is not None
        gate.set()
        assert required(await first.final()).status == 200


async def test_waiting_for_a_full_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fifty clients over two upstream connections: everybody has their turn."""
    monkeypatch.setattr(pool_module, "MAX_CONNECTIONS", 2)
    async with lab(echo) as it:
        answers = await asyncio.gather(*(it.ask(request(b"GET", b"/app/%d" % n)) for n in range(50)))
        assert [answer.body for answer in answers] == [b"/%d " % n for n in range(50)]
        assert len(it.origin.connections) <= 2


async def test_a_waiting_client_that_goes_leaves_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is served in its stead with its request."""
    monkeypatch.setattr(pool_module, "MAX_CONNECTIONS", 1)
    async with lab(never) as it, await it.client() as first:
        await first.send([request(b"GET", b"/app/first")])
        await until(lambda: it.origin.requests)
        async with await it.client() as second:
            await second.send([request(b"GET", b"/app/second")])
            await until(lambda: it.pool.waiting)
            second.break_off()
        await until(lambda: not it.pool.waiting)
        it.origin.answer = says(response(b"200 OK"))
        first.break_off()
        await until(it.settled)
        assert (await it.ask(request(b"GET", b"/app/third"))).status == 200
        assert [seen.target for seen in it.origin.requests] == [b"/first", b"/third"]


class Expiring(FakeAuthorizer):
    """A credential that expires while requests wait for a connection; the next one is there at once."""

    def renewed(self, attachment: FakeAttachment) -> FakeAttachment | None:
        return attachment if attachment is self.versions[0] else None


async def test_a_credential_that_expires_over_a_long_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of hundreds gives its connection back to get a new credential first; then each has its turn."""
    monkeypatch.setattr(pool_module, "MAX_CONNECTIONS", 1)
    clients, authorizer = 700, Expiring()
    gate = asyncio.Event()

    async def held_up(connection: Connection, message: Message) -> None:
        await gate.wait()
        await echo(connection, message)

    async with lab(held_up, authorizer=authorizer) as it:
        asked = [asyncio.ensure_future(it.ask(request(b"GET", b"/app/%d" % n))) for n in range(clients)]
        await until(lambda: it.pool.waiting == clients - 1)
        authorizer.versions = [token(2)]
        gate.set()
        assert sorted([answer.body for answer in await asyncio.gather(*asked)]) == sorted(
            b"/%d " % n for n in range(clients)
        )
        assert authorizer.events.count(("obtain",)) == clients - 1
