"""A token that the upstream refuses: it is replaced, and the call made again once, where that is the same to both."""

from __future__ import annotations

import pytest
from grpc import StatusCode, aio
from zeebe_grpc import gateway_pb2 as pb
from zeebe_grpc import gateway_pb2_grpc as rpc

from sidecar.errors import TokenUnavailableError
from tests.grpc.support import GATEWAY, GOOD, NEXT, client, ending, gateway, listening, read_all, settled
from tests.proxy.support import FakeAuthorizer

REPLACED = [("replace", GOOD.header), ("replayed", NEXT.header, True)]
REFUSED_AGAIN = [("replace", GOOD.header), ("replayed", NEXT.header, False)]


async def echo(context):
    while (message := await context.read()) is not aio.EOF:
        await context.write(message)


async def test_unary_is_made_again():
    """The client sees nothing of a refusal that a new token cures."""
    async with gateway() as upstream:
        upstream.accepted = {"Bearer token-2"}
        authorizer = FakeAuthorizer([GOOD, NEXT])
        async with listening(upstream.url, authorizer) as running, client(running) as channel:
            answer = await rpc.GatewayStub(channel).PublishMessage(pb.PublishMessageRequest(variables="x" * 200_000))
            assert answer.key == 200_000
            assert authorizer.events == REPLACED
            assert running.counted() == {("PublishMessage", 200, "upstream"): 1}
            assert running.stats.retries == {"token_refused": 1}


async def test_stream_is_opened_again():
    """Whether a new token helped is told when the stream begins, for it may last for days."""
    async with gateway() as upstream:
        upstream.accepted = {"Bearer token-2"}
        authorizer = FakeAuthorizer([GOOD, NEXT])
        async with listening(upstream.url, authorizer) as running, client(running) as channel:
            call = rpc.GatewayStub(channel).StreamActivatedJobs(pb.StreamActivatedJobsRequest(type="t"))
            upstream.zeebe.add(7)
            assert (await call.read()).key == 7
            assert authorizer.events == REPLACED
            call.cancel()


async def test_what_a_client_has_streamed_is_sent_again():
    """All that the client said before the refusal is said again, and then it goes on where it was."""
    async with gateway({"/x.Y/Echo": echo}) as upstream:
        upstream.accepted = {"Bearer token-2"}
        authorizer = FakeAuthorizer([GOOD, NEXT])
        async with listening(upstream.url, authorizer) as running, client(running) as channel:
            call = channel.stream_stream("/x.Y/Echo")()
            for message in (b"one", b"two"):
                await call.write(message)
            assert [await call.read(), await call.read()] == [b"one", b"two"]
            await call.write(b"three")
            assert await call.read() == b"three"
            await call.done_writing()
            assert await call.read() is aio.EOF
            assert authorizer.events == REPLACED


async def test_too_much_to_be_sent_again():
    """A stream that was longer than `limits.replay_bytes` gets the refusal; the token is invalidated all the same."""

    async def late(context):
        for _ in range(3):
            await context.read()
        await context.abort(StatusCode.UNAUTHENTICATED, "late")

    async with gateway({"/x.Y/Late": late}) as upstream:
        authorizer = FakeAuthorizer([GOOD, NEXT])
        async with listening(upstream.url, authorizer) as running, client(running) as channel:
            call = channel.stream_stream("/x.Y/Late")()
            for _ in range(3):
                await call.write(b"x" * 30_000)
            assert (await ending(call))[:2] == (StatusCode.UNAUTHENTICATED, "late")
            assert authorizer.events == [("invalidate", GOOD.header)]


async def test_nothing_is_made_again_once_something_was_passed_on():
    """A refusal in the middle of a stream reaches the client, who alone can know what to do."""

    async def midway(context):
        await context.write(b"first")
        await context.abort(StatusCode.UNAUTHENTICATED, "expired meanwhile")

    async with gateway({"/x.Y/Midway": midway}) as upstream:
        authorizer = FakeAuthorizer([GOOD, NEXT])
        async with listening(upstream.url, authorizer) as running, client(running) as channel:
            call = channel.unary_stream("/x.Y/Midway")(b"")
            assert await call.read() == b"first"
            assert (await ending(call))[:2] == (StatusCode.UNAUTHENTICATED, "expired meanwhile")
            await settled(running)
            assert authorizer.events == [("invalidate", GOOD.header)]
            assert running.counted() == {("other", 401, "upstream"): 1}


async def test_a_refusal_in_two_parts():
    """A server may send headers before it refuses, as web servers in front of gateways do: nothing was passed on."""

    async def headers_first(context):
        await context.send_initial_metadata((("server", "nginx"),))
        if "Bearer token-1" in dict(context.invocation_metadata()).values():
            await context.abort(StatusCode.UNAUTHENTICATED, "")
        await context.write(b"in")

    async with gateway({"/x.Y/H": headers_first}) as upstream:
        upstream.accepted.add("Bearer token-2")
        authorizer = FakeAuthorizer([GOOD, NEXT])
        async with listening(upstream.url, authorizer) as running, client(running) as channel:
            assert await read_all(channel.unary_stream("/x.Y/H")(b"")) == [b"in"]
            assert authorizer.events == REPLACED


@pytest.mark.parametrize("method", [f"{GATEWAY}Topology", f"{GATEWAY}ActivateJobs", "/x.Y/Z"])
async def test_once_and_no_more(method):
    """A new token that is refused too: the refusal is passed on with the upstream's own words, after two attempts."""
    async with gateway() as upstream:
        upstream.accepted = set()
        authorizer = FakeAuthorizer([GOOD, NEXT, GOOD])
        async with listening(upstream.url, authorizer) as running, client(running) as channel:
            code, details, trailers = await ending(channel.unary_stream(method)(b""))
            assert (code, details) == (StatusCode.UNAUTHENTICATED, "token refused")
            assert trailers == {"www-authenticate": "Bearer"}
            assert len(upstream.calls) == 2
            assert authorizer.events == REFUSED_AGAIN


async def test_no_other_token_to_be_had():
    """Without a replacement, or when getting one fails, the upstream's refusal is the answer."""

    class Failing(FakeAuthorizer):
        async def replace(self, refused):
            raise TokenUnavailableError("The issuer is throttling.", retry_after=3)

    async with gateway() as upstream:
        upstream.accepted = set()
        for authorizer in (FakeAuthorizer([GOOD]), Failing([GOOD])):
            async with listening(upstream.url, authorizer) as running, client(running) as channel:
                assert (await ending(channel.unary_unary("/x.Y/Z")(b"")))[:2] == (
                    StatusCode.UNAUTHENTICATED,
                    "token refused",
                )
    assert len(upstream.calls) == 2


async def test_forbidden_is_no_refusal():
    """PERMISSION_DENIED says that this client may not do that: no token is thrown away for it."""

    async def forbid(context):
        await context.abort(StatusCode.PERMISSION_DENIED, "not you")

    async with gateway({"/x.Y/F": forbid}) as upstream:
        authorizer = FakeAuthorizer([GOOD, NEXT])
        async with listening(upstream.url, authorizer) as running, client(running) as channel:
            assert (await ending(channel.unary_unary("/x.Y/F")(b"")))[0] is StatusCode.PERMISSION_DENIED
            assert authorizer.events == []
            assert len(upstream.calls) == 1


async def test_an_open_stream_survives_a_refresh():
    """A stream that began with the old token goes on, and the next call has the new one."""
    async with gateway() as upstream:
        upstream.accepted.add("Bearer token-2")
        authorizer = FakeAuthorizer([GOOD])
        async with listening(upstream.url, authorizer) as running, client(running) as channel:
            stub = rpc.GatewayStub(channel)
            call = stub.StreamActivatedJobs(pb.StreamActivatedJobsRequest(type="t"))
            upstream.zeebe.add(1)
            await call.read()
            authorizer.versions = [NEXT]
            await stub.Topology(pb.TopologyRequest())
            upstream.zeebe.add(2)
            assert (await call.read()).key == 2
            assert [metadata["authorization"] for _, metadata in upstream.calls] == ["Bearer token-1", "Bearer token-2"]
            call.cancel()
