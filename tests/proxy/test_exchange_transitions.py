"""Every transition of an exchange, reached over real sockets: one scenario for each, and none may be missing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import sys
from collections.abc import Awaitable, Callable, Iterator
from types import FrameType
from typing import Any

import pytest

from sidecar.config.settings import ClientCredentials, TokenEndpoint
from sidecar.errors import TokenUnavailableError
from sidecar.proxy import exchange
from sidecar.proxy.stages import DONE, TRANSITIONS, WAIT_CREDENTIAL
from tests.proxy.lab import (
    Lab,
    echo,
    in_turn,
    lab,
    never,
    request,
    required,
    response,
    says,
    token,
    until,
    websocket,
)
from tests.proxy.origin import Connection
from tests.proxy.strict import Message
from tests.proxy.support import FakeAttachment, FakeAuthorizer

Transition = tuple[str, str]
Scenario = Callable[[], Awaitable[None]]

SCENARIOS: dict[Transition, Scenario] = {}
HANDSHAKE = request(b"GET", b"/app/socket", b"Connection: Upgrade", b"Upgrade: websocket")
CLIENT_CREDENTIALS = {"fake": ClientCredentials("fake", client_id="id")}
REFUSED = response(b"401 Unauthorized", body=b"refused")


def reaches(stage: str, event: str) -> Callable[[Scenario], Scenario]:
    """Marks the scenario that takes this transition."""

    def mark(scenario: Scenario) -> Scenario:
        SCENARIOS[stage, event] = scenario
        return scenario

    return mark


@contextlib.contextmanager
def taken() -> Iterator[list[Transition]]:
    """Every transition that an exchange takes meanwhile; modules that are compiled cannot be watched."""
    seen: list[Transition] = []

    def watch(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_name == "_go" and frame.f_code.co_filename == exchange.__file__:
            seen.append((frame.f_locals["self"].stage, frame.f_locals["event"]))

    sys.setprofile(watch)
    try:
        yield seen
    finally:
        sys.setprofile(None)


@pytest.mark.parametrize(
    ("stage", "event"), [(stage, event) for stage, events in TRANSITIONS.items() for event in events]
)
async def test_transition_is_reached(stage: str, event: str) -> None:
    """Nothing stands in the table that cannot happen, and what happens there is what its scenario says."""
    with taken() as seen:
        await SCENARIOS[stage, event]()
    assert (stage, event) in seen or not exchange.__file__.endswith(".py")


def test_table_is_closed() -> None:
    """Each transition ends in a stage, each stage can be reached, and from each there is a way to the end."""
    reached = {WAIT_CREDENTIAL}
    while more := {target for stage in reached for target in TRANSITIONS[stage].values()} - reached:
        reached |= more
    assert reached == set(TRANSITIONS)
    assert [stage for stage, events in TRANSITIONS.items() if not events] == [DONE]
    assert all(
        {"error", "client_disconnected"} <= set(events) for stage, events in TRANSITIONS.items() if stage != DONE
    )


# --- waiting for the credential --------------------------------------------------------------------------------------


@reaches("wait_credential", "credential_obtained")
async def waits_for_its_credential() -> None:
    """The request is sent when the credential is there, and not before."""
    gate = asyncio.Event()
    async with lab(echo, authorizer=FakeAuthorizer(ready=False, gate=gate)) as it, await it.client() as client:
        await client.send([request()])
        await until(lambda: it.authorizer.events)
        assert it.origin.connections == []
        gate.set()
        assert required(await client.final()).status == 200


@reaches("wait_credential", "error")
async def no_credential_to_be_had() -> None:
    """The reason is the client's to see; nothing reached the upstream."""
    problem = TokenUnavailableError("Later.", retry_after=3)
    async with lab(echo, authorizer=FakeAuthorizer(ready=False, problem=problem)) as it:
        answer = await it.ask(request())
        assert (answer.status, answer.value(b"sidecar-error")) == (503, b"token_unavailable")
        assert answer.value(b"retry-after") == b"3"
        assert it.origin.connections == []


@reaches("wait_credential", "end_of_message")
async def token_is_issued() -> None:
    """At the token endpoint, the credential is the answer."""
    async with lab(echo, credentials=CLIENT_CREDENTIALS, token_endpoint=TokenEndpoint(allow_any_client=True)) as it:
        form = b"Content-Type: application/x-www-form-urlencoded"
        answer = await it.ask(request(b"POST", b"/oauth/token", form, body=b"grant_type=client_credentials"))
        assert json.loads(answer.body) == {"access_token": "token-1", "token_type": "Bearer", "expires_in": 3600}
        assert it.origin.connections == []


@reaches("wait_credential", "client_disconnected")
async def client_goes_while_waiting_for_the_credential() -> None:
    """Its own wait is cancelled, and nothing is sent for it."""
    async with lab(echo, authorizer=FakeAuthorizer(ready=False, gate=asyncio.Event())) as it:
        async with await it.client() as client:
            await client.send([request()])
            await until(lambda: it.authorizer.events)
            client.break_off()
        await until(it.settled)
        assert it.origin.connections == []
        assert it.counted("GET", 499, "client") == 1


# --- waiting for a connection ----------------------------------------------------------------------------------------


@reaches("wait_connection", "request_sent")
async def connects_and_sends() -> None:
    """The plainest way."""
    async with lab(echo) as it:
        assert (await it.ask(request())).body == b"/x "


class Forgetful(FakeAuthorizer):
    """Has a credential when the request comes, and none any more when the connection is there."""

    asked = 0

    def current(self) -> FakeAttachment | None:
        self.asked += 1
        return None if self.asked == 2 else super().current()


@reaches("wait_connection", "credential_expired")
async def credential_expires_while_connecting() -> None:
    """It is attached just before sending: an expired one is not sent, a new one is waited for."""
    async with lab(echo, authorizer=Forgetful()) as it:
        assert (await it.ask(request())).status == 200
        assert it.authorizer.events == [("obtain",)]
        assert len(it.origin.connections) == 1


async def test_a_credential_that_was_waited_for_is_sent_at_once() -> None:
    """With a connection at hand nobody asks whether it has expired over the wait for one."""

    class Fleeting(FakeAuthorizer):
        def renewed(self, attachment: FakeAttachment) -> FakeAttachment | None:
            return None

    async with lab(echo, authorizer=Fleeting(ready=False)) as it:
        assert [(await it.ask(request())).status for _ in range(2)] == [200, 200]
        assert len(it.origin.connections) == 1


@reaches("wait_connection", "error")
async def upstream_refuses_connections() -> None:
    """After the retries, the client hears it."""
    async with lab(echo) as it:
        await it.origin.stop()
        answer = await it.ask(request())
        assert (answer.status, answer.value(b"sidecar-error")) == (502, b"upstream_unreachable")


@reaches("wait_connection", "client_disconnected")
async def client_goes_while_connecting() -> None:
    """A TLS handshake that hangs is given up by its time limit, and nobody waits for it."""

    async def silent(connection: Connection) -> None:
        await connection.lost

    tls: dict[str, Any] = {"contexts": {"app": ssl.create_default_context()}}
    async with lab(greet=silent, upstream=lambda origin: f"https://{origin.authority}", **tls) as it:
        async with await it.client() as client:
            await client.send([request()])
            await until(lambda: it.origin.connections)
            client.break_off()
        await until(lambda: not it.server.connections)
        assert it.counted("GET", 499, "client") == 1
        assert not it.pool.waiting
        await it.pool.shut_down()


# --- waiting for the answer ------------------------------------------------------------------------------------------


@reaches("wait_credential", "request_sent")
async def everything_is_at_hand() -> None:
    """A kept credential and a kept connection: the second request waits for nothing."""
    async with lab(echo) as it, await it.client() as client:
        for _ in range(2):
            await client.send([request()])
            assert required(await client.final()).body == b"/x "
        assert len(it.origin.connections) == 1


@reaches("wait_response", "response")
async def answers_in_pieces() -> None:
    """The head is passed on before the body is whole."""
    answer = response(b"201 Created", body=b"made")
    async with lab(says(answer[:-2], answer[-2:])) as it:
        assert (await it.ask(request(b"POST", body=b"x"))).body == b"made"


@reaches("wait_response", "end_of_message")
async def answers_at_once() -> None:
    """Head and body."""
    async with lab(says(response(b"201 Created", body=b"made"))) as it:
        answer = await it.ask(request(b"POST", body=b"x"))
        assert (answer.status, answer.body) == (201, b"made")


@reaches("wait_response", "credential_refused")
@reaches("wait_replacement", "credential_replaced")
async def credential_is_refused_and_replaced() -> None:
    """The client never sees the refusal."""
    authorizer = FakeAuthorizer(versions=[token(1), token(2)])
    async with lab(in_turn(says(REFUSED), echo), authorizer=authorizer) as it:
        assert (await it.ask(request(b"POST", body=b"hello"))).body == b"/x hello"


@reaches("wait_response", "connection_lost")
async def reused_connection_dies() -> None:
    """An idempotent request is sent once more, on a new connection."""

    async def hang_up(connection: Connection, message: Message) -> None:
        connection.finish()

    async with lab(in_turn(echo, hang_up, echo)) as it:
        assert (await it.ask(request())).status == 200
        assert (await it.ask(request())).status == 200
        assert len(it.origin.requests) == 3
        assert len(it.origin.connections) == 2


@reaches("wait_response", "protocol_switched")
@reaches("switched_protocol", "end_of_message")
async def becomes_a_tunnel() -> None:
    """A handshake that was asked for and granted."""
    async with lab(websocket) as it, await it.client() as client:
        await client.send([HANDSHAKE])
        assert required(await client.response()).status == 101
        client.finish()
        await client.closed()


@reaches("wait_response", "error")
async def upstream_says_nonsense() -> None:
    """The client gets our error, and no byte of the nonsense."""
    async with lab(says(b"SSH-2.0-OpenSSH_9.9\r\n\r\n")) as it:
        answer = await it.ask(request())
        assert (answer.status, answer.value(b"sidecar-error")) == (502, b"upstream_protocol_error")
        assert b"SSH" not in answer.body


@reaches("wait_response", "client_disconnected")
async def client_goes_before_the_answer() -> None:
    """The upstream's connection ends with it: the answer would have no place."""
    async with lab(never) as it:
        async with await it.client() as client:
            await client.send([request()])
            await until(lambda: it.origin.requests)
            client.break_off()
        await it.origin.idle()
        assert it.counted("GET", 499, "client") == 1


# --- waiting for a replacement ---------------------------------------------------------------------------------------


@reaches("wait_replacement", "response")
async def refused_and_no_replacement() -> None:
    """The upstream's own 401 is passed on."""
    async with lab(says(REFUSED)) as it:
        answer = await it.ask(request())
        assert (answer.status, answer.body) == (401, b"refused")
        assert answer.value(b"sidecar-error") is None


async def refused_early(it: Lab) -> Any:
    """A client in the middle of its body, whose answer is held."""
    client = await it.client()
    await client.send([request(b"POST", b"/app/x", b"Transfer-Encoding: chunked") + b"5\r\nhello\r\n"])
    await until(lambda: it.authorizer.events)
    return client


async def refuse_at_once(connection: Connection) -> None:
    """401 as soon as the head is there."""
    await connection.received(100)
    await connection.send(REFUSED)


@reaches("wait_replacement", "error")
async def bad_body_while_the_answer_is_held() -> None:
    """The request turns out to be none: nothing is replayed."""
    authorizer = FakeAuthorizer(versions=[token(1), token(2)], gate=asyncio.Event())
    async with lab(greet=refuse_at_once, authorizer=authorizer) as it, await refused_early(it) as client:
        await client.send([b"nonsense\r\n"])
        assert required(await client.final()).status == 400
        assert len(it.origin.connections) == 1


@reaches("wait_replacement", "client_disconnected")
async def client_goes_while_the_answer_is_held() -> None:
    """Nothing is replayed for it."""
    authorizer = FakeAuthorizer(versions=[token(1), token(2)], gate=asyncio.Event())
    async with lab(greet=refuse_at_once, authorizer=authorizer) as it:
        async with await refused_early(it) as client:
            client.break_off()
        await until(it.settled)
        assert len(it.origin.connections) == 1
        assert it.counted("POST", 499, "client") == 1


# --- the answer's body -----------------------------------------------------------------------------------------------


@reaches("send_body", "end_of_message")
async def whole_body() -> None:
    """To its last byte."""
    async with lab(says(response(b"200 OK", body=b"hello")[:-3], b"l", b"lo")) as it:
        assert (await it.ask(request())).body == b"hello"


@reaches("send_body", "error")
async def truncated_body() -> None:
    """The client's connection is reset: a truncated body must never look whole."""
    async with lab(says(response(b"200 OK", body=b"hello")[:-3], end=True)) as it, await it.client() as client:
        await client.send([request()])
        await client.closed()
        await until(lambda: client.lost)
        assert client.reset
        assert it.counted("GET", 200, "sidecar") == 1


@reaches("send_body", "client_disconnected")
async def client_goes_in_the_middle() -> None:
    """The upstream is not read to its end for nobody."""
    async with lab(says(response(b"200 OK", body=b"hello")[:-3])) as it:
        async with await it.client() as client:
            await client.send([request()])
            await client.received(40)
            client.break_off()
        await it.origin.idle()
        assert it.counted("GET", 200, "client") == 1


# --- a tunnel --------------------------------------------------------------------------------------------------------


@reaches("switched_protocol", "error")
async def upstream_resets_the_tunnel() -> None:
    """The client gets a reset as well: an end that nobody meant does not look like one."""
    async with lab(websocket) as it, await it.client() as client:
        await client.send([HANDSHAKE])
        assert required(await client.response()).status == 101
        it.origin.connections[0].reset()
        await until(lambda: client.lost or client.eof)
        assert client.reset


@reaches("switched_protocol", "client_disconnected")
async def client_resets_the_tunnel() -> None:
    """The upstream's side ends."""
    async with lab(websocket) as it:
        async with await it.client() as client:
            await client.send([HANDSHAKE])
            assert required(await client.response()).status == 101
            client.break_off()
        await it.origin.idle()
        assert it.counted("GET", 101, "client") == 1
