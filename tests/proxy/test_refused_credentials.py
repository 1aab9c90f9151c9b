"""A credential that an upstream refuses: replaced and replayed once, or the refusal passed on."""

from __future__ import annotations

import asyncio

import pytest

from sidecar.config.settings import Limits, Rule
from sidecar.errors import TokenUnavailableError
from tests.proxy.events import connect, connect_upstream, serve
from tests.proxy.lab import Lab, echo, head_of, in_turn, lab, request, required, response, says, token, until
from tests.proxy.origin import Answer, Connection
from tests.proxy.strict import Message
from tests.proxy.support import FakeAttachment, FakeAuthorizer

REFUSED = response(b"401 Unauthorized", b"WWW-Authenticate: Bearer", body=b"refused")


def two_tokens(**changes: object) -> FakeAuthorizer:
    """A credential whose first version is refused and replaced by a second."""
    return FakeAuthorizer(versions=[token(1), token(2)], **changes)  # type: ignore[arg-type]


def tokens_seen(it: Lab) -> list[bytes | None]:
    """What the origin was shown, request by request."""
    return [message.value(b"authorization") for message in it.origin.requests]


BOTH = [b"Bearer token-1", b"Bearer token-2"]


# --- replaced and replayed -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [b"GET", b"POST", b"DELETE", b"INVENTED"])
async def test_replayed_with_the_next_credential(method: bytes) -> None:
    """The client sees the second answer alone; the replay went with the new credential, and its success is told."""
    async with lab(in_turn(says(REFUSED), echo), authorizer=two_tokens()) as it:
        answer = await it.ask(request(method, body=b"hello"))
        assert (answer.status, answer.body) == (200, b"/x hello")
        assert tokens_seen(it) == BOTH
        assert [message.body for message in it.origin.requests] == [b"hello", b"hello"]
        assert it.authorizer.events == [
            ("replace", b"Authorization: Bearer token-1\r\n"),
            ("replayed", b"Authorization: Bearer token-2\r\n", True),
        ]
        assert it.stats.retries["token_refused"] == 1
        assert it.counted(method.decode() if method != b"INVENTED" else "other", 200, "upstream") == 1


async def test_replay_reuses_the_connection() -> None:
    """A refusal that was read whole leaves a good connection behind."""
    async with lab(in_turn(says(REFUSED), echo), authorizer=two_tokens()) as it:
        await it.ask(request())
        assert len(it.origin.connections) == 1


async def test_the_request_is_otherwise_the_same() -> None:
    """Byte for byte, request id included."""
    async with lab(in_turn(says(REFUSED), echo), authorizer=two_tokens()) as it:
        await it.ask(request(b"PUT", b"/app/a?b=c", b"X-A:  1 ", b"Accept: */*", body=b"hello"))
        first, second = it.origin.requests
        assert second.start == first.start
        assert [h for h in second.headers if h[0] != b"Authorization"] == [
            h for h in first.headers if h[0] != b"Authorization"
        ]


async def test_chunked_body_is_replayed() -> None:
    """A body without a length is kept as well, up to `replay_bytes`."""
    body = b"5\r\nhello\r\n6\r\n world\r\n0\r\nTrailer: x\r\n\r\n"
    async with lab(in_turn(says(REFUSED), echo), authorizer=two_tokens()) as it:
        answer = await it.ask(request(b"POST", b"/app/x", b"Transfer-Encoding: chunked") + body)
        assert answer.body == b"/x hello world"
        assert it.origin.requests[0].body == it.origin.requests[1].body


async def test_unsafe_header_goes_with_unsafe_methods_only() -> None:
    """A session's CSRF token, on the replay as on the first try."""
    versions = [
        FakeAttachment(b"Cookie: S=1\r\n", b"X-CSRF-TOKEN: 1\r\n"),
        FakeAttachment(b"Cookie: S=2\r\n", b"X-CSRF-TOKEN: 2\r\n"),
    ]
    authorizer = FakeAuthorizer(versions=versions, refused_statuses=frozenset({401, 403}))
    refused = response(b"403 Forbidden")
    async with lab(in_turn(says(refused), echo), authorizer=authorizer) as it:
        await it.ask(request(b"POST", body=b""))
        await it.ask(request(b"GET"))
        shown = [(m.value(b"cookie"), m.value(b"x-csrf-token")) for m in it.origin.requests]
        assert shown == [(b"S=1", b"1"), (b"S=2", b"2"), (b"S=2", None)]


# --- the connection during the wait ----------------------------------------------------------------------------------


async def test_upstream_closes_behind_its_refusal() -> None:
    """As every second server does on a 401; the replay goes over a new connection."""
    authorizer = two_tokens(gate=asyncio.Event())
    refused = says(response(b"401 Unauthorized", b"Connection: close", body=b"refused"), end=True)
    async with lab(in_turn(refused, echo), authorizer=authorizer) as it, await it.client() as client:
        await client.send([request(b"POST", body=b"hello")])
        await until(lambda: it.authorizer.events)
        await it.origin.idle()
        authorizer.gate.set()
        assert required(await client.final()).body == b"/x hello"
        assert len(it.origin.connections) == 2


async def test_refusal_to_the_end_of_the_connection() -> None:
    """A refusal without a length is held, too."""
    refused = says(response(b"401 Unauthorized", body=None), b"no ", b"way", end=True)
    async with lab(in_turn(refused, echo), authorizer=two_tokens()) as it:
        assert (await it.ask(request())).status == 200


@pytest.mark.parametrize("replaced", [True, False])
async def test_refusal_in_several_pieces(replaced: bool) -> None:
    """Held with what has come of it, read on if it is needed; the client gets one whole answer."""
    gate = asyncio.Event()
    more = asyncio.Event()

    async def in_pieces(connection: Connection, message: Message) -> None:
        await connection.drip([REFUSED[:30], REFUSED[30:-4]])
        await more.wait()
        await connection.send(REFUSED[-4:])

    versions = [token(1), token(2)] if replaced else [token(1)]
    authorizer = FakeAuthorizer(versions=versions, gate=gate)
    async with lab(in_turn(in_pieces, echo), authorizer=authorizer) as it, await it.client() as client:
        await client.send([request()])
        await until(lambda: it.authorizer.events)
        gate.set()
        if replaced:
            assert required(await client.final()).status == 200
            assert len(it.origin.connections) == 2, "an answer that is not read to its end costs the connection"
            more.set()
        else:
            await client.received(1)
            more.set()
            answer = required(await client.final())
            assert (answer.status, answer.body) == (401, b"refused")


async def test_large_refusal_is_not_piled_up() -> None:
    """While it is held, no more of it is read than was under way."""
    gate = asyncio.Event()
    size = 8 << 20

    async def large(connection: Connection, message: Message) -> None:
        await connection.send(response(b"401 Unauthorized", body=b"x" * size))

    authorizer = FakeAuthorizer(gate=gate)
    async with lab(large, authorizer=authorizer) as it, await it.client() as client:
        await client.send([request()])
        await until(lambda: it.authorizer.events)
        for _ in range(50):
            await asyncio.sleep(0)
        (downstream,) = it.server.connections
        assert 0 < downstream.held() <= 512 << 10
        gate.set()
        assert len(required(await client.final()).body) == size


async def test_refusal_that_is_cut_off_is_replayed_all_the_same() -> None:
    """Nobody needs its rest."""
    authorizer = two_tokens(gate=asyncio.Event())

    async def cut(connection: Connection, message: Message) -> None:
        await connection.send(REFUSED[:-3])
        connection.reset()

    async with lab(in_turn(cut, echo), authorizer=authorizer) as it, await it.client() as client:
        await client.send([request()])
        await until(lambda: it.authorizer.events)
        await it.origin.idle()
        authorizer.gate.set()
        assert required(await client.final()).status == 200


async def test_refusal_that_is_cut_off_never_looks_whole() -> None:
    """Without a replacement the client gets an error, or a reset, and no half of a 401."""
    gate = asyncio.Event()

    async def cut(connection: Connection, message: Message) -> None:
        await connection.send(REFUSED[:-3])
        connection.finish()

    async with lab(cut, authorizer=FakeAuthorizer(gate=gate)) as it, await it.client() as client:
        await client.send([request()])
        await until(lambda: it.authorizer.events)
        await it.origin.idle()
        gate.set()
        await until(lambda: client.reset or client.reader.done)
        assert not any(message.status == 401 for message in client.reader.done)


@pytest.mark.parametrize("replaced", [True, False])
async def test_refusal_that_breaks_while_the_body_goes_on(replaced: bool) -> None:
    """Its connection is lost while it is held, and bytes are still sent there: the replay has all of them."""
    gate = asyncio.Event()

    async def first_breaks(connection: Connection) -> None:
        await head_of(connection)
        if len(connection.origin.connections) == 1:
            await connection.send(REFUSED[:-3])
            await until(lambda: it.authorizer.events)
            connection.reset()
            return
        await until(lambda: connection.raw.endswith(b"0\r\n\r\n"))
        await connection.send(response(b"200 OK", body=b"%d" % connection.raw.count(b"x" * 10)))

    versions = [token(1), token(2)] if replaced else [token(1)]
    authorizer = FakeAuthorizer(versions=versions, gate=gate)
    async with lab(greet=first_breaks, authorizer=authorizer) as it, await it.client() as client:
        await client.send([request(b"POST", b"/app/x", b"Transfer-Encoding: chunked")])
        await until(lambda: it.authorizer.events)
        sent = 0
        while it.stats.connections()[1]:
            await client.send([b"a\r\nxxxxxxxxxx\r\n"])
            sent += 1
        await client.send([b"0\r\n\r\n"])
        gate.set()
        answer = required(await client.final())
        if replaced:
            assert (answer.status, answer.body) == (200, b"%d" % sent)
        else:
            assert (answer.status, answer.value(b"sidecar-error")) == (502, b"upstream_protocol_error")


# --- passed on -------------------------------------------------------------------------------------------------------


async def test_no_replacement() -> None:
    """The upstream's own answer, fields and all."""
    async with lab(says(REFUSED)) as it:
        answer = await it.ask(request(b"POST", body=b"hello"))
        assert (answer.status, answer.body, answer.value(b"www-authenticate")) == (401, b"refused", b"Bearer")
        assert len(it.origin.requests) == 1
        assert it.counted("POST", 401, "upstream") == 1


async def test_replacement_fails() -> None:
    """An issuer that is down does not turn a 401 into another error."""

    class Failing(FakeAuthorizer):
        async def replace(self, refused: FakeAttachment) -> FakeAttachment | None:
            raise TokenUnavailableError("Later.")

    async with lab(says(REFUSED), authorizer=Failing()) as it:
        assert (await it.ask(request())).status == 401


async def test_replacement_crashes() -> None:
    """A bug of ours hangs no client."""

    class Crashing(FakeAuthorizer):
        async def replace(self, refused: FakeAttachment) -> FakeAttachment | None:
            raise RuntimeError("a bug")

    async with lab(says(REFUSED), authorizer=Crashing()) as it:
        answer = await it.ask(request())
        assert answer.status in {401, 503}
        assert b"a bug" not in answer.body


async def test_second_refusal_is_passed_on() -> None:
    """One replay and no more; that it did not help is told."""
    async with lab(says(REFUSED), authorizer=FakeAuthorizer(versions=[token(1), token(2), token(3)])) as it:
        assert (await it.ask(request())).status == 401
        assert tokens_seen(it) == BOTH
        assert it.authorizer.events == [
            ("replace", b"Authorization: Bearer token-1\r\n"),
            ("replayed", b"Authorization: Bearer token-2\r\n", False),
        ]


async def test_body_too_large_to_replay() -> None:
    """The credential is invalidated for the next request; this one's 401 is passed on, its body sent once."""
    body = b"x" * 2000
    limits = Limits(replay_bytes=1000)
    async with lab(says(REFUSED), authorizer=two_tokens(), limits=limits) as it:
        assert (await it.ask(request(b"POST", body=body))).status == 401
        assert [len(message.body) for message in it.origin.requests] == [2000]
        assert it.authorizer.events == [("invalidate", b"Authorization: Bearer token-1\r\n")]


async def test_body_of_exactly_the_limit_is_replayed() -> None:
    """`replay_bytes` is inclusive."""
    body = b"x" * 1000
    limits = Limits(replay_bytes=1000)
    async with lab(in_turn(says(REFUSED), echo), authorizer=two_tokens(), limits=limits) as it:
        assert (await it.ask(request(b"POST", body=body))).body == b"/x " + body


@pytest.mark.parametrize("status", [b"403 Forbidden", b"407 Proxy Authentication Required", b"400 Bad Request"])
async def test_other_refusals_are_not_the_credentials_fault(status: bytes) -> None:
    """403 never refreshes, unless the credential says so."""
    async with lab(says(response(status)), authorizer=two_tokens()) as it:
        assert (await it.ask(request())).status == int(status[:3])
        assert it.authorizer.events == []


async def test_public_requests_have_no_credential_to_refuse() -> None:
    """Their 401 is passed on, and nothing is invalidated."""
    public = {"public": (Rule("GET", "/health"),)}
    async with lab(says(REFUSED), authorizer=two_tokens(), route_changes=public) as it:
        assert (await it.ask(request(b"GET", b"/app/health"))).status == 401
        assert tokens_seen(it) == [None]
        assert it.authorizer.events == []


# --- a refusal before the body is there ------------------------------------------------------------------------------


def early(*answers: bytes, close: bool = False) -> Answer:
    """For `greet`: an answer as soon as the head has come, one a connection."""
    left = list(answers)

    async def greet(connection: Connection) -> None:
        await connection.received(60)
        await connection.send(left.pop(0) if len(left) > 1 else left[0])
        if close:
            connection.finish()

    return greet  # type: ignore[return-value]


async def test_early_refusal_and_the_rest_of_the_body() -> None:
    """The body goes on arriving while the replacement is fetched, and the replay has all of it."""
    authorizer = two_tokens(gate=asyncio.Event())

    async def first_refuses(connection: Connection) -> None:
        await connection.received(60)
        if len(connection.origin.connections) == 1:
            await connection.send(REFUSED)
        else:
            while not connection.raw.endswith(b"hello world"):
                connection.arrived.clear()
                await connection.arrived.wait()
            await connection.send(response(b"200 OK", body=b"thanks"))

    async with lab(greet=first_refuses, authorizer=authorizer) as it, await it.client() as client:
        raw = request(b"POST", body=b"hello world")
        await client.send([raw[:-6]])
        await until(lambda: it.authorizer.events)
        await client.send([raw[-6:-3]])
        authorizer.gate.set()
        await until(lambda: len(it.origin.connections) == 2)
        await client.send([raw[-3:]])
        assert required(await client.final()).body == b"thanks"


async def test_a_replay_does_not_stand_in_line_behind_the_refused_upload() -> None:
    """The whole request is out of the client's hands, but not with an upstream that does not read: it is left alone."""
    server = serve(0, two_tokens())
    (app,) = server.table.routes
    upstream = connect_upstream(server)
    connect(server).data_received(request(b"POST", body=b"hello world"))
    upstream.pause_writing()
    upstream.data_received(REFUSED)
    assert app.pool.counts() == (0, 0, 0)
    await server.close()


async def test_an_early_answer_that_is_no_refusal_cuts_no_upload_short() -> None:
    """202 comes before the upstream has taken the whole body: what waits in our buffer still goes out."""
    server = serve(0)
    (app,) = server.table.routes
    upstream = connect_upstream(server)
    connect(server).data_received(request(b"POST", body=b"hello world"))
    upstream.pause_writing()
    upstream.data_received(response(b"202 Accepted", body=b"later"))
    assert app.pool.counts() == (0, 0, 1)
    assert not upstream.transport.is_closing()
    await server.close()


@pytest.mark.parametrize("close", [False, True])
async def test_early_refusal_without_replacement(close: bool) -> None:
    """The 401 is passed on though the body was never read, the upstream's connection closed or not."""
    authorizer = FakeAuthorizer(gate=asyncio.Event())
    async with lab(greet=early(REFUSED, close=close), authorizer=authorizer) as it, await it.client() as client:
        await client.send([request(b"POST", body=b"hello world")[:-5]])
        await until(lambda: it.authorizer.events)
        if close:
            await it.origin.idle()
        authorizer.gate.set()
        answer = required(await client.final())
        assert (answer.status, answer.body) == (401, b"refused")
        assert answer.value(b"connection") == b"close"


async def test_early_refusal_of_a_large_body() -> None:
    """What was sent of it is still here, the rest waits at the client: a body of any size is replayed."""
    body = b"0123456789" * 500_000
    authorizer = two_tokens(gate=asyncio.Event())

    async def first_refuses(connection: Connection) -> None:
        if len(connection.origin.connections) == 1:
            await head_of(connection)
            await connection.send(REFUSED)
            await connection.lost
            return
        raw = await head_of(connection)
        await connection.received(raw.index(b"\r\n\r\n") + 4 + len(body))
        assert connection.raw.endswith(b"\r\n\r\n" + body)
        await connection.send(response(b"200 OK", body=b"thanks"))

    limits = Limits(replay_bytes=1000)
    async with lab(greet=first_refuses, authorizer=authorizer, limits=limits) as it, await it.client() as client:
        raw = request(b"POST", body=body)
        start = raw.index(b"\r\n\r\n") + 4
        await client.send([raw[: start + 500]])
        await until(lambda: it.authorizer.events)
        sending = asyncio.ensure_future(client.send([raw[start + 500 :]]))
        (downstream,) = it.server.connections
        await until(lambda: not downstream.transport.is_reading())
        assert downstream.held() <= 1000 + (256 << 10)
        authorizer.gate.set()
        await sending
        assert required(await client.final()).body == b"thanks"


async def test_expectation_is_repeated_on_the_replay() -> None:
    """A client that waits for 100 Continue gets it from the server that takes the request."""
    authorizer = two_tokens()
    async with lab(in_turn(echo), authorizer=authorizer) as it, await it.client() as client:
        refusing = [True]

        async def greet(connection: Connection) -> None:
            await connection.received(60)
            if refusing.pop() if refusing else False:
                await connection.send(REFUSED)
                return
            await connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            while not connection.raw.endswith(b"hello"):
                connection.arrived.clear()
                await connection.arrived.wait()
            await connection.send(response(b"200 OK", body=b"thanks"))

        it.origin.greet = greet
        raw = request(b"POST", b"/app/x", b"Expect: 100-continue", body=b"hello")
        await client.send([raw[:-5]])
        assert required(await client.response()).status == 100
        await client.send([raw[-5:]])
        assert required(await client.response()).body == b"thanks"
        assert it.authorizer.events[-1][0] == "replayed"


# --- many at once ----------------------------------------------------------------------------------------------------


async def test_replays_survive_a_dead_connection() -> None:
    """A replay over a reused connection that dies is retried on a new one, if it is safe; still with the new token."""

    async def hang_up(connection: Connection, message: Message) -> None:
        connection.finish()

    async with lab(in_turn(echo, says(REFUSED), hang_up, echo), authorizer=two_tokens()) as it:
        await it.ask(request())
        assert (await it.ask(request())).status == 200
        assert tokens_seen(it)[1:] == [*BOTH, BOTH[1]]
        assert it.authorizer.events[-1] == ("replayed", b"Authorization: Bearer token-2\r\n", True)


async def test_many_refused_at_once() -> None:
    """Each is replayed once, with the credential that took the place of the refused one."""

    async def by_token(connection: Connection, message: Message) -> None:
        refused = message.value(b"authorization") == BOTH[0]
        await (says(REFUSED) if refused else echo)(connection, message)

    async with lab(by_token, authorizer=two_tokens()) as it:
        answers = await asyncio.gather(*(it.ask(request(b"GET", b"/app/%d" % n)) for n in range(50)))
        assert [answer.body for answer in answers] == [b"/%d " % n for n in range(50)]
        assert len(it.origin.requests) <= 100
