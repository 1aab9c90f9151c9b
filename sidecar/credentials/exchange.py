"""One conversation with an issuer: attempts through the budget's gate, a time limit for each, a bounded answer.

aiohttp carries it and aiohttp-retry repeats it. An attempt is a client middleware, inside of which stand, in this
order: the slot; the attempt's own time limit, from DNS to the body's last byte; the body made afresh (an assertion's
`jti` is for one use); and the verdict. aiohttp-retry's own sleep is zero: the budget spaces attempts.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Final, Generic, TypeVar

import aiohttp
from aiohttp import hdrs
from aiohttp_retry import ExponentialRetry, RetryClient
from yarl import URL

from sidecar.credentials.connection_faults import MAX_FIELDS, head_too_large
from sidecar.credentials.reach import explain
from sidecar.credentials.verdict import Answer
from sidecar.credentials.watched import Watched
from sidecar.errors import GrantFailedError, GrantInterruptedError, SecretUnavailableError
from sidecar.tokens.grant import AttemptGate
from sidecar.tokens.identity import label

T = TypeVar("T")
Handler = Callable[[aiohttp.ClientRequest], Awaitable[aiohttp.ClientResponse]]
Ask = Callable[[], Awaitable[Answer]]
"""A GET of the same URL, inside the same attempt: a login page that hands out a CSRF token."""

MAX_ANSWER_BYTES: Final = 256 << 10
FORM: Final = "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True)
class Message:
    """What one attempt sends; never shown, for it holds the secret."""

    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    query: Mapping[str, str] = field(default_factory=dict, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    """What of it an error must not show, however the server spells it."""


@dataclass(frozen=True, slots=True)
class Line:
    """How an issuer is reached."""

    url: str
    timeout: float
    """Seconds for one attempt, its slot's wait not included."""
    tls: Watched[ssl.SSLContext] | None = field(default=None, repr=False)
    """The context; None for plain HTTP."""
    proxy: str | None = field(default=None, repr=False)
    """A forward proxy's URL; it may hold a password."""
    header_bytes: int = 64 << 10
    """Of an answer's head, as in the data plane."""

    def client(self, **more: Any) -> aiohttp.ClientSession:
        """An HTTP client for it, which keeps no cookies and has no time limits.

        Raises:
            SecretUnavailableError: there is no TLS context.
        """
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self.tls.value if self.tls is not None else True, use_dns_cache=False),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None),
            max_line_size=self.header_bytes,
            max_field_size=self.header_bytes,
            max_headers=MAX_FIELDS,
            **more,
        )


class Exchange(Generic[T]):
    """One fetch: up to `attempts` attempts at transient faults, and what the last one brought."""

    def __init__(
        self,
        line: Line,
        gate: AttemptGate,
        message: Callable[[Ask], Awaitable[Message]],
        judge: Callable[[Answer], T],
    ) -> None:
        """`judge` raises a `GrantError`; `message` is asked once per attempt, after its slot and inside its time."""
        self._line = line
        self._gate = gate
        self._message = message
        self._judge = judge
        self._result: T | None = None

    async def run(self, attempts: int) -> T:
        """Ask.

        Raises:
            GrantError: the verdict on the last attempt.
            TokenUnavailableError: the gate's.
        """
        try:
            await self._repeat(attempts)
        except SecretUnavailableError as error:
            raise GrantFailedError(error.detail) from None
        assert self._result is not None
        return self._result

    async def _repeat(self, attempts: int) -> None:
        options = ExponentialRetry(
            attempts=attempts,
            start_timeout=0.0,
            exceptions={GrantInterruptedError},
            retry_all_server_errors=False,
        )
        # A session a fetch: grants are rare, so a kept connection would be closed long before the next one.
        async with self._session() as self._client:
            client = RetryClient(client_session=self._client, retry_options=options)
            async with client.post(
                URL(self._line.url, encoded=True),
                allow_redirects=False,
                proxy=self._line.proxy,
                headers={"Accept": "application/json", "Accept-Encoding": "identity"},
            ):
                pass

    def _session(self) -> aiohttp.ClientSession:
        trace = aiohttp.TraceConfig()
        trace.on_request_headers_sent.append(self._headers_sent)
        return self._line.client(trace_configs=[trace], middlewares=[self._attempt])

    async def _headers_sent(
        self,
        session: aiohttp.ClientSession,  # noqa: ARG002 (aiohttp's signature)
        context: SimpleNamespace,  # noqa: ARG002
        parameters: aiohttp.TraceRequestHeadersSentParams,
    ) -> None:
        if parameters.method == hdrs.METH_POST:
            self._gate.sent()

    async def _attempt(self, request: aiohttp.ClientRequest, handler: Handler) -> aiohttp.ClientResponse:
        await self._gate.slot()
        try:
            async with asyncio.timeout(self._line.timeout):
                message = await self._message(self._ask)
                request.headers.update(message.headers)
                if message.query:
                    request.url = request.url.update_query(message.query)
                await request.update_body(message.body)
                response = await handler(request)
                try:
                    answer = await self._answer(response, message.secrets)
                finally:
                    _drop(response)
        except TimeoutError:
            raise GrantInterruptedError(
                f"{label(self._line.url)} did not answer within {self._line.timeout:g} s (token_requests.timeout)."
            ) from None
        except (aiohttp.ClientError, OSError) as error:
            raise await self._fault(error) from None
        try:
            self._result = self._judge(answer)
        except GrantInterruptedError as error:
            if error.retry_after:
                await self._gate.postpone(error.retry_after)
            raise
        return response

    async def _ask(self) -> Answer:
        async with self._client.get(
            URL(self._line.url, encoded=True),
            allow_redirects=False,
            proxy=self._line.proxy,
            headers={"Accept": "*/*", "Accept-Encoding": "identity"},
            middlewares=(),
        ) as response:
            return await self._answer(response)

    async def _answer(self, response: aiohttp.ClientResponse, secrets: tuple[str, ...] = ()) -> Answer:
        where, limit = str(response.url.origin()), self._line.header_bytes
        if sum(len(name) + len(value) + 4 for name, value in response.raw_headers) > limit:
            raise GrantInterruptedError(head_too_large(where, f"{limit} bytes"))
        body = bytearray()
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > MAX_ANSWER_BYTES:
                raise GrantInterruptedError(
                    f"{where} sent more than {MAX_ANSWER_BYTES >> 10} KiB: that is no token endpoint."
                )
        set_cookies = tuple(response.headers.getall(hdrs.SET_COOKIE, ()))
        return Answer(response.status, response.headers, bytes(body), set_cookies, secrets)

    async def _fault(self, error: Exception) -> GrantFailedError:
        fault = await explain(error, self._line.url, self._line.proxy)
        return (GrantInterruptedError if fault.transient else GrantFailedError)(fault.sentence)


def _drop(response: aiohttp.ClientResponse) -> None:
    """At once, where the body is not at its end: a TLS connection's orderly close would outlast the session."""
    connection = response.connection
    if connection is not None and connection.transport is not None:
        connection.transport.abort()
    response.close()
