"""One token request or login: attempts through the issuer's budget, a time limit for each, and a bounded response.

aiohttp sends it and aiohttp-retry repeats it. An attempt is a client middleware, which does, in this order: wait for
the slot; begin the attempt's own time limit, from DNS to the body's last byte; make the content anew (an assertion's
`jti` is for one use); classify the response. aiohttp-retry itself does not wait: the budget spaces the attempts.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any, Final, Generic, TypeVar

import aiohttp
from aiohttp import hdrs
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp_retry import ExponentialRetry, RetryClient
from yarl import URL

from sidecar import dial
from sidecar.background import in_thread
from sidecar.credentials.classification import IssuerResponse
from sidecar.credentials.connection_errors import MAX_FIELDS, head_too_large
from sidecar.credentials.file_watching import Watched
from sidecar.credentials.probe import explain
from sidecar.errors import GrantFailedError, GrantInterruptedError, SecretUnavailableError
from sidecar.tokens.grant import AttemptGate
from sidecar.tokens.identity import label

T = TypeVar("T")
Handler = Callable[[aiohttp.ClientRequest], Awaitable[aiohttp.ClientResponse]]
GetPage = Callable[[], Awaitable[IssuerResponse]]
"""A GET of the same URL, inside the same attempt: a login page that hands out a CSRF token."""

MAX_BODY_BYTES: Final = 256 << 10
FORM: Final = "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True)
class RequestContent:
    """What one attempt sends. It has the secret in it, and so is never shown."""

    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    query: Mapping[str, str] = field(default_factory=dict, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    """What of it an error must not show, however the server spells it."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A token endpoint or a login, and how it is reached."""

    url: str
    timeout: float
    """Seconds for one attempt, the wait for its slot not included."""
    tls: Watched[ssl.SSLContext] | None = field(default=None, repr=False)
    """None for plain HTTP."""
    proxy: str | None = field(default=None, repr=False)
    """A forward proxy's URL; it may have a password in it."""
    header_bytes: int = 64 << 10
    """The largest head of a response."""

    def client(self, **options: Any) -> aiohttp.ClientSession:
        """An HTTP client that keeps no cookies and has no time limits of its own.

        Raises:
            SecretUnavailableError: the files of the TLS context cannot be used.
        """
        context = self.tls.value if self.tls is not None else True
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context, resolver=_Resolver(), use_dns_cache=False),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None),
            max_line_size=self.header_bytes,
            max_field_size=self.header_bytes,
            max_headers=MAX_FIELDS,
            **options,
        )


class _Resolver(AbstractResolver):
    """Looks names up in threads that the process does not wait for when it ends: a resolver may never answer."""

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[ResolveResult]:
        infos = await in_thread(partial(dial.look_up, host, port))
        return [
            ResolveResult(hostname=host, host=str(at[0]), port=int(at[1]), family=kind, proto=proto, flags=0)
            for kind, _, proto, _, at in infos
            if family in {0, kind}
        ]

    async def close(self) -> None:
        pass


class TokenRequest(Generic[T]):
    """Up to `attempts` attempts at transient faults, and what the last one brought."""

    def __init__(
        self,
        endpoint: Endpoint,
        gate: AttemptGate,
        content: Callable[[GetPage], Awaitable[RequestContent]],
        classify: Callable[[IssuerResponse], T],
    ) -> None:
        """`classify` raises a `GrantError`; `content` is called once per attempt, inside its time limit."""
        self._endpoint = endpoint
        self._gate = gate
        self._content = content
        self._classify = classify
        self._result: T | None = None

    async def send(self, attempts: int) -> T:
        """What the response holds.

        Raises:
            GrantError: what `classify` made of the last attempt's response, or what kept it from getting one.
            TokenUnavailableError: the gate's.
        """
        retry = ExponentialRetry(
            attempts=attempts,
            start_timeout=0.0,
            exceptions={GrantInterruptedError},
            retry_all_server_errors=False,
        )
        trace = aiohttp.TraceConfig()
        trace.on_request_headers_sent.append(self._headers_sent)
        try:
            # One session a fetch: grants are rare, so a kept connection would be closed long before the next one.
            async with self._endpoint.client(trace_configs=[trace], middlewares=[self._attempt]) as self._client:
                client = RetryClient(client_session=self._client, retry_options=retry)
                async with client.post(**self._options("application/json")):
                    pass
        except SecretUnavailableError as error:
            raise GrantFailedError(error.detail) from None
        assert self._result is not None
        return self._result

    def _options(self, accept: str) -> dict[str, Any]:
        return {
            "url": URL(self._endpoint.url, encoded=True),
            "allow_redirects": False,
            "proxy": self._endpoint.proxy,
            "headers": {"Accept": accept, "Accept-Encoding": "identity"},
        }

    async def _headers_sent(
        self,
        _session: aiohttp.ClientSession,
        _context: SimpleNamespace,
        parameters: aiohttp.TraceRequestHeadersSentParams,
    ) -> None:
        if parameters.method == hdrs.METH_POST:
            self._gate.sent()

    async def _attempt(self, request: aiohttp.ClientRequest, handler: Handler) -> aiohttp.ClientResponse:
        await self._gate.slot()
        timeout = self._endpoint.timeout
        try:
            async with asyncio.timeout(timeout):
                content = await self._content(self._get_page)
                request.headers.update(content.headers)
                if content.query:
                    request.url = request.url.update_query(content.query)
                await request.update_body(content.body)
                response = await handler(request)
                try:
                    received = await self._read(response, content.secrets)
                finally:
                    _drop(response)
        except TimeoutError:
            raise GrantInterruptedError(
                f"{label(self._endpoint.url)} did not answer within {timeout:g} s (token_requests.timeout)."
            ) from None
        except (aiohttp.ClientError, OSError) as error:
            fault = await explain(error, self._endpoint.url, self._endpoint.proxy)
            raise (GrantInterruptedError if fault.transient else GrantFailedError)(fault.sentence) from None
        try:
            self._result = self._classify(received)
        except GrantInterruptedError as error:
            if error.retry_after:
                await self._gate.postpone(error.retry_after)
            raise
        return response

    async def _get_page(self) -> IssuerResponse:
        async with self._client.get(**self._options("*/*"), middlewares=()) as response:
            return await self._read(response)

    async def _read(self, response: aiohttp.ClientResponse, secrets: tuple[str, ...] = ()) -> IssuerResponse:
        where, limit = str(response.url.origin()), self._endpoint.header_bytes
        if sum(len(name) + len(value) + 4 for name, value in response.raw_headers) > limit:
            raise GrantInterruptedError(head_too_large(where, f"{limit} bytes"))
        body = bytearray()
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > MAX_BODY_BYTES:
                raise GrantInterruptedError(
                    f"{where} sent more than {MAX_BODY_BYTES >> 10} KiB: that is no token endpoint."
                )
        return IssuerResponse(
            response.status,
            response.headers,
            bytes(body),
            tuple(response.headers.getall(hdrs.SET_COOKIE, ())),
            secrets,
        )


def _drop(response: aiohttp.ClientResponse) -> None:
    """Close the connection at once if the body is not at its end: TLS's orderly close would outlast the session."""
    connection = response.connection
    if connection is not None and connection.transport is not None:
        connection.transport.abort()
    response.close()
