"""The world that the corpus is written for: three routes, one recording origin, one proxy; kept for all the cases."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import uvloop

from sidecar.config.settings import Limits, Rule
from tests.proxy.client import RawClient
from tests.proxy.corpus.case import HOST, Case, Closed, Forwarded, Outcome, Refused
from tests.proxy.origin import Origin
from tests.proxy.strict import Message
from tests.proxy.support import FakeAttachment, FakeAuthorizer, RunningProxy, route, running_proxy

LOOPS: Mapping[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
BASES = {b"TOKEN-OPERATE": b"/op/base", b"TOKEN-CONSOLE": b"", b"TOKEN-OPTIMIZE": b"/opt"}
NEVER_FORWARDED = (
    *(b"cookie", b"forwarded", b"x-real-ip", b"x-http-method-override", b"x-http-method", b"x-method-override"),
    *(b"x-original-url", b"x-rewrite-url", b"x-original-host", b"x-host"),
)
NEVER_FORWARDED_PREFIXES = (b"x-forwarded-", b"proxy-")
HOP_BY_HOP = (b"keep-alive", b"te", b"trailer", b"http2-settings", b"proxy-connection")


class WrongError(AssertionError):
    """A case went wrong; its text says how."""


def authorizer(token: str) -> FakeAuthorizer:
    return FakeAuthorizer(versions=[FakeAttachment(f"Authorization: Bearer {token}\r\n".encode())])


@asynccontextmanager
async def corpus_world() -> AsyncIterator[tuple[Origin, RunningProxy]]:
    """An origin and a proxy as the cases ask for them."""
    allow = (Rule("GET", "/api/public/**"), Rule("POST", "/api/public/**"))
    tokens = {"operate": "TOKEN-OPERATE", "console": "TOKEN-CONSOLE", "optimize": "TOKEN-OPTIMIZE"}
    async with (
        Origin() as origin,
        running_proxy(
            route("operate", f"{origin.url}/op/base"),
            route("console", origin.url),
            route("optimize", f"{origin.url}/opt", allow=allow, public=(Rule("GET", "/api/readyz"),), max_body=1024),
            authorizers={name: authorizer(token) for name, token in tokens.items()},
            limits=Limits(head_timeout=60.0),
        ) as proxy,
    ):
        yield origin, proxy


class World:
    """A loop of its own kind that runs while a case runs, so that hundreds of cases share one proxy."""

    def __init__(self, loop: str) -> None:
        # Without asyncio's debug mode: it is ten times slower here, and every other test of the proxy runs in it.
        self._runner = asyncio.Runner(loop_factory=LOOPS[loop], debug=False)
        self._stack = AsyncExitStack()
        self._canaries = 0
        self.origin: Origin
        self.proxy: RunningProxy

    def run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self._runner.run(coroutine)

    async def open(self) -> None:
        self.origin, self.proxy = await self._stack.enter_async_context(corpus_world())

    def end(self) -> None:
        self.run(self._stack.aclose())
        self._runner.close()

    # --- one case ------------------------------------------------------------------------------------------------

    async def check(self, case: Case, pieces: list[bytes]) -> None:
        """Play a case; raises `WrongError`."""
        self._expect_silence()
        async with await RawClient.open("127.0.0.1", self.proxy.port) as client:
            client.reader.methods = _methods(case)
            await client.send(pieces)
            if case.end:
                client.finish()
            last: Outcome | None = None
            for number, outcomes in enumerate(case.expect, 1):
                last = await self._answer(client, outcomes, number)
            await self._aftermath(client, last, case)
        self._count(case)
        self.origin.forget()

    def _expect_silence(self) -> None:
        if self.origin.requests or self.origin.errors:
            late = [message.start for message in self.origin.requests] + list(map(str, self.origin.errors))
            self.origin.forget()
            raise WrongError(f"after the case before, the origin received {late}")

    async def _answer(self, client: RawClient, outcomes: tuple[Outcome, ...], number: int) -> Outcome:
        try:
            response = await client.final()
        except TimeoutError:
            raise WrongError(f"no answer {number}; the client has {bytes(client.raw)!r}") from None
        wrongs = []
        for outcome in outcomes:
            try:
                self._match(outcome, response)
            except WrongError as wrong:
                wrongs.append(str(wrong))
            else:
                return outcome
        raise WrongError(f"answer {number}: {' / '.join(wrongs)}")

    def _match(self, outcome: Outcome, response: Message | None) -> None:
        match outcome:
            case Closed():
                if response is not None:
                    raise WrongError(f"the connection should have ended, but {response.status} came")
            case Refused():
                _match_refusal(outcome, response)
            case Forwarded():
                self._match_forwarded(outcome, response)

    def _match_forwarded(self, outcome: Forwarded, response: Message | None) -> None:
        if response is None or response.values(b"sidecar-error") or response.status != 200:
            raise WrongError(f"should have been forwarded, but {_name(response)} came")
        answered = [message for message in self.origin.requests if not hasattr(message, "seen")]
        if not answered:
            raise WrongError(f"{_name(response)} came, but nothing reached the origin")
        check_request(outcome, answered[0], self.origin.authority.encode())
        answered[0].seen = True

    async def _aftermath(self, client: RawClient, last: Outcome | None, case: Case) -> None:
        """The connection is closed where it must be, and otherwise as good as new."""
        closes = case.end or isinstance(last, Closed) or (last is not None and last.closes)
        if closes:
            try:
                await client.closed()
            except TimeoutError:
                raise WrongError("the connection should have been closed") from None
            if len(client.reader.done) > sum(1 for m in client.reader.done if m.status < 200) + len(case.expect):
                raise WrongError(f"more answers than expected: {[m.start for m in client.reader.done]}")
            if client.reset:
                raise WrongError("the client got a reset instead of a proper end")
            return
        self._canaries += 1
        target = b"/operate/canary-%d" % self._canaries
        await client.send([b"GET %b HTTP/1.1\r\n%b\r\n" % (target, HOST)])
        response = await client.final()
        if response is None and last is not None and last.closes is None:
            return
        canary = Forwarded(b"/op/base/canary-%d" % self._canaries)
        self._match_forwarded(canary, response)

    def _count(self, case: Case) -> None:
        extra = [message.start for message in self.origin.requests if not hasattr(message, "seen")]
        if extra:
            raise WrongError(f"the origin received besides: {extra}")
        if self.origin.errors:
            raise WrongError(f"the origin could not parse strictly: {self.origin.errors[0]}")
        begun = [c.reader.current or c.reader.buffer for c in self.origin.connections]
        if not case.partial and (self.origin.truncated or any(begun)):
            raise WrongError("the origin received a part of a request")


def _methods(case: Case) -> list[bytes]:
    """What the client asks with, so that an answer to HEAD is read as one."""
    methods = []
    for outcomes in case.expect:
        first = outcomes[0]
        methods.append(first.method if isinstance(first, Forwarded) else case.raw.split(b" ", 1)[0])
    return methods


def _name(response: Message | None) -> str:
    if response is None:
        return "the end of the connection"
    code = response.value(b"sidecar-error")
    return f"{response.status} {code.decode() if code else 'from the origin'}"


CODES = {
    400: b"bad_request",
    403: (b"cross_site", b"forbidden_by_policy"),
    404: b"no_route",
    408: b"request_timeout",
    413: b"body_too_large",
    414: b"uri_too_long",
    421: b"unknown_host",
    431: b"headers_too_large",
    501: b"unsupported",
}


def _match_refusal(outcome: Refused, response: Message | None) -> None:
    expected = "/".join(map(str, outcome.status))
    if response is None or response.status not in outcome.status:
        raise WrongError(f"should have been refused with {expected}, but {_name(response)} came")
    code = response.value(b"sidecar-error")
    right = CODES.get(response.status, b"")
    if code is None or (code not in right if isinstance(right, tuple) else code != right):
        raise WrongError(f"{response.status} with Sidecar-Error {code!r}")
    if response.value(b"content-type") != b"application/problem+json":
        raise WrongError(f"{response.status} is no problem document")
    if not response.value(b"date") or not re.fullmatch(rb"[!-~]{1,200}", response.value(b"x-request-id") or b""):
        raise WrongError(f"{response.status} without a Date or an X-Request-ID that can be found again")


def check_request(outcome: Forwarded, request: Message, authority: bytes) -> None:
    """What reached the origin is what it should be, and nothing of the client's credentials is in it.

    Raises:
        WrongError: says what is wrong first.
    """
    if outcome.target is not None and request.target != outcome.target:
        raise WrongError(f"the origin's target is {request.target!r}, not {outcome.target!r}")
    if request.method != outcome.method:
        raise WrongError(f"the origin's method is {request.method!r}, not {outcome.method!r}")
    if request.body != outcome.body or request.trailers:
        raise WrongError(f"the origin's body is {request.body[:80]!r} with trailers {request.trailers}")
    for field in outcome.present:
        if not any(name.lower() == field[0].lower() and value == field[1] for name, value in request.headers):
            raise WrongError(f"the origin misses {field!r}")
    for name in outcome.absent:
        if request.values(name):
            raise WrongError(f"the origin received {name!r}")
    token = [] if outcome.token is None else [b"Bearer " + outcome.token]
    _check_always(request, token, authority, upgrade=outcome.upgrade)
    base = BASES.get(outcome.token or b"TOKEN-OPTIMIZE", b"")
    if not request.target.startswith(base):
        raise WrongError(f"the target {request.target!r} is outside the base {base!r}")


def _check_always(request: Message, token: list[bytes], authority: bytes, *, upgrade: bool) -> None:
    if request.values(b"authorization") != token:
        raise WrongError(f"Authorization at the origin: {request.values(b'authorization')}, expected {token}")
    if request.values(b"host") != [authority]:
        raise WrongError(f"Host at the origin: {request.values(b'host')}")
    if len(request.values(b"x-request-id")) != 1:
        raise WrongError(f"X-Request-ID at the origin: {request.values(b'x-request-id')}")
    for name, value in request.headers:
        plain = re.sub(rb"[^a-z0-9]", b"-", name.lower())
        if plain in NEVER_FORWARDED or plain in HOP_BY_HOP or plain.startswith(NEVER_FORWARDED_PREFIXES):
            raise WrongError(f"the origin received {name!r}: {value!r}")
    connection = [value.lower() for value in request.values(b"connection")]
    if upgrade != (connection == [b"upgrade"]) or (connection and not upgrade and connection != [b"keep-alive"]):
        raise WrongError(f"Connection at the origin: {connection}")
    if [value.lower() for value in request.values(b"upgrade")] != ([b"websocket"] if upgrade else []):
        raise WrongError(f"Upgrade at the origin: {request.values(b'upgrade')}")
