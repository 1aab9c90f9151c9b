"""Plays the corpus of answers: a scripted upstream behind a proxy, a strict client before it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tests.proxy.client import PATIENCE, RawClient
from tests.proxy.corpus.answers import AnswerCase, Bad, Cut, Outcome, Passed
from tests.proxy.corpus.world import WrongError
from tests.proxy.origin import OK, Connection, Origin
from tests.proxy.strict import Message, NotStrictError
from tests.proxy.support import route, running_proxy

NEXT = b"GET /op/next HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Upstream:
    """Answers `/next` well and everything else with the case's bytes."""

    def __init__(self, case: AnswerCase, cut: Callable[[bytes], list[bytes]]) -> None:
        self.case = case
        self.cut = cut
        self.authority = b""

    async def answer(self, connection: Connection, request: Message) -> None:
        if request.target.endswith(b"/next"):
            await connection.send(OK)
            return
        await connection.drip(self.cut(self.case.raw.replace(b"ORIGIN", self.authority)))
        if self.case.end == "fin":
            connection.finish()
        elif self.case.end == "rst":
            # What was sent has to be read before a reset throws it away.
            for _ in range(20):
                await asyncio.sleep(0)
            connection.reset()


async def check(case: AnswerCase, cut: Callable[[bytes], list[bytes]]) -> None:
    """Raises `WrongError`."""
    upstream = Upstream(case, cut)
    async with Origin(upstream.answer) as origin, running_proxy(route("op", f"{origin.url}/base")) as proxy:
        upstream.authority = origin.authority.encode()
        async with await RawClient.open("127.0.0.1", proxy.port) as client:
            client.reader.methods = [case.request.split(b" ", 1)[0]]
            await client.send([case.request])
            await _see(case, client, upstream.authority)
        if len(origin.requests) != 1:
            raise WrongError(f"the upstream received {len(origin.requests)} requests")
        first = origin.connections[0]
        if case.reuse is False:
            await _ended(first)
        async with await RawClient.open("127.0.0.1", proxy.port) as client:
            await client.send([NEXT])
            response = await client.final()
        if response is None or response.status != 200 or response.body != b"ok":
            raise WrongError(f"the next request, on a clean connection, got {response}")
        reused = len(first.reader.done) == 2
        if case.reuse is not None and reused != case.reuse:
            raise WrongError(f"the connection was {'used again' if reused else 'not used again'}")
    if proxy.server.stats.route("op").connections()[1] or proxy.server.stats.route("op").in_flight:
        raise WrongError("something is still counted as under way")


async def _ended(connection: Connection) -> None:
    try:
        async with asyncio.timeout(PATIENCE):
            await connection.lost
    except TimeoutError:
        raise WrongError("the upstream connection was not closed") from None


async def _see(case: AnswerCase, client: RawClient, authority: bytes) -> None:
    informational: list[int] = []
    response: Message | None = None
    error: NotStrictError | None = None
    try:
        while (response := await client.response()) is not None and response.status < 200:
            informational.append(response.status)
    except NotStrictError as caught:
        error = caught
    except TimeoutError:
        raise WrongError(f"no answer; the client has {bytes(client.raw[:200])!r}") from None
    wrongs = []
    for outcome in case.expect:
        wrong = _mismatch(outcome, client, response, error)
        if wrong is None and isinstance(outcome, Passed) and response is not None:
            wrong = _difference(outcome, response, informational, authority)
        if wrong is None:
            return
        wrongs.append(wrong)
    raise WrongError(" / ".join(wrongs))


def _mismatch(
    outcome: Outcome, client: RawClient, response: Message | None, error: NotStrictError | None
) -> str | None:
    code = response.value(b"sidecar-error") if response else None
    seen = f"{response.status} {code or b'from the upstream'!r}" if response else f"no whole answer ({error})"
    match outcome:
        case Cut():
            broken = response is None and (client.reset or error is not None or client.reader.current is not None)
            # Nothing at all would be a connection that closed without a word; what is cut has begun.
            return None if broken and client.raw else f"should have been cut, but came {seen}"
        case Bad():
            right = response is not None and response.status == 502 and code == b"upstream_protocol_error"
            return None if right else f"should have been 502 upstream_protocol_error, but came {seen}"
        case Passed():
            if response is None or code or response.status != outcome.status:
                return f"should have been {outcome.status}, but came {seen}"
            return None


def _difference(outcome: Passed, response: Message, informational: list[int], authority: bytes) -> str | None:
    if response.body != outcome.body or response.trailers:
        return f"the body is {response.body[:80]!r} with trailers {response.trailers}"
    if tuple(informational) != outcome.informational:
        return f"informational {informational}, not {outcome.informational}"
    for name, value in outcome.present:
        wanted = value.replace(b"ORIGIN", authority)
        if wanted not in response.values(name):
            return f"{name!r} is {response.values(name)}, not {wanted!r}"
    for name in (*outcome.absent, b"Keep-Alive", b"Proxy-Authenticate", b"Set-Cookie"):
        if response.values(name):
            return f"{name!r} came through"
    return None
