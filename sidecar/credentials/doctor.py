"""`doctor`'s examination: DNS, TLS, issuer, audience, upstream; what is wrong, each with its cure."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import aiohttp
from yarl import URL

from sidecar.clock import Clock, duration
from sidecar.config.settings import GRPC, Route
from sidecar.config.urls import origin
from sidecar.credentials import explanations, probe
from sidecar.credentials.build import IssuerSource, RouteCredentials
from sidecar.credentials.token_request import Endpoint
from sidecar.credentials.token_response import jwt_claims
from sidecar.credentials.untrusted import quote
from sidecar.errors import GrantError, GrantRefusedError, Problem, SecretUnavailableError
from sidecar.tokens.grant import Grant

PATIENCE: Final = 5.0
"""Seconds for a name, and for a handshake."""
ANSWER_PATIENCE: Final = 60.0
"""Seconds for an upstream's answer, where its route has no limit."""
RENEWAL: Final = 14 * 86_400.0
"""Seconds before its end from which a server's certificate is worth a word."""

BEARER: Final = b"Authorization: Bearer "

FetchNow = Callable[[IssuerSource], Awaitable[Grant]]
"""Requests a token whatever is cached or in quarantine; raises a GrantError, a Problem or SecretUnavailableError."""
Stored = Callable[[IssuerSource, Route], Awaitable[Grant | None]]
"""The token that a running sidecar has put on the store, with the seconds that it has left; None: ask for one."""
Check = Literal["store", "dns", "tls", "connect", "issuer", "audience", "clock", "upstream"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the table."""

    subject: str
    check: Check
    result: Literal["ok", "failed", "skipped"]
    detail: str


class Doctor:
    """One examination. What fails keeps what depends on it from being tried; nothing is tried twice."""

    def __init__(
        self, credentials: RouteCredentials, fetch_now: FetchNow, clock: Clock, stored: Stored | None = None
    ) -> None:
        self._stored = stored
        self._credentials = credentials
        self._fetch_now = fetch_now
        self._clock = clock
        self._reachable: dict[str, bool] = {}
        self._granted: dict[IssuerSource, tuple[Route, Grant]] = {}
        self._refused: list[tuple[Route, GrantRefusedError]] = []

    async def run(self, routes: Sequence[Route]) -> AsyncIterator[Finding]:
        """Findings as they come: issuers and logins first, then each route's upstream."""
        sources: dict[IssuerSource, Route] = {}
        for route in routes:
            if (source := self._credentials.sources.get(route.name)) is not None:
                sources.setdefault(source, route)
        for source in sources:
            async for finding in self._connect(_issuer(source), source.endpoint):
                yield finding
        for source, route in sources.items():
            for finding in await self._issuer(source, route):
                yield finding
        for route, error in self._refused:
            granted = [other.audience for other, _ in self._granted.values() if other.credential == route.credential]
            hint = explanations.kind_of_client(route.audience, granted)
            yield Finding(_subject(route), "issuer", "failed", f"{error.detail} {hint}".rstrip())
        for route in routes:
            upstream = Endpoint(
                f"{route.upstream}{explanations.PROBES.get(route.product or '', '/')}",
                route.timeouts.response or ANSWER_PATIENCE,
                self._credentials.upstream_tls.get(route.name),
                route.proxy,
            )
            async for finding in self._connect(f"upstream {route.upstream.origin}", upstream):
                yield finding
            yield await self._upstream(route, upstream)

    async def _connect(self, subject: str, endpoint: Endpoint) -> AsyncIterator[Finding]:
        if subject in self._reachable:
            return
        self._reachable[subject] = False
        check: Check = "dns"
        proxy, target = endpoint.proxy, URL(endpoint.proxy or endpoint.url)
        try:
            async with asyncio.timeout(PATIENCE):
                addresses = await probe.resolve(target.host or "", target.port or 443)
            yield Finding(
                subject, check, "ok", ", ".join(addresses) + (f" (the forward proxy {target.host})" if proxy else "")
            )
            check = "tls" if endpoint.tls is not None else "connect"
            async with asyncio.timeout(PATIENCE):
                context = endpoint.tls.value if endpoint.tls is not None else None
                handshake = await probe.connect(endpoint.url, context, proxy)
        except SecretUnavailableError as error:
            yield Finding(subject, check, "failed", error.detail)
        except OSError as error:
            yield Finding(subject, check, "failed", (await probe.explain(error, endpoint.url, proxy)).sentence)
        else:
            self._reachable[subject] = True
            yield Finding(subject, check, "ok", self._told(handshake))

    def _told(self, handshake: probe.Handshake | None) -> str:
        if handshake is None:
            return "plain HTTP"
        left = handshake.expires.timestamp() - self._clock.wall()
        soon = f", which is in {duration(left)}" if left < RENEWAL else ""
        until = f"{handshake.expires:%Y-%m-%d}{soon}"
        return f"{handshake.version}, certificate until {until}, signed by {handshake.signed_by}"

    async def _issuer(self, source: IssuerSource, route: Route) -> list[Finding]:
        subject = _subject(route)
        if not self._reachable[_issuer(source)]:
            return [Finding(subject, "issuer", "skipped", "The issuer cannot be reached.")]
        began = self._clock.monotonic()
        if self._stored is not None and (grant := await self._stored(source, route)) is not None:
            self._granted[source] = route, grant
            told = f"the running sidecar has a token, for {duration(grant.lifetime)}; the issuer was not asked again"
            return [Finding(subject, "issuer", "ok", told), *self._claims(subject, grant, route)]
        try:
            grant = await self._fetch_now(source)
        except GrantRefusedError as error:
            self._refused.append((route, error))  # told when it is known what else this credential is granted
            return []
        except (GrantError, Problem, SecretUnavailableError) as error:
            return [Finding(subject, "issuer", "failed", error.detail)]
        self._granted[source] = route, grant
        seconds, life = self._clock.monotonic() - began, duration(grant.lifetime)
        granted = Finding(subject, "issuer", "ok", f"granted for {life}, {seconds:.1f} s with the wait for its slot")
        return [granted, *self._claims(subject, grant, route)]

    def _claims(self, subject: str, grant: Grant, route: Route) -> Iterator[Finding]:
        claims = jwt_claims(grant.header.removeprefix(BEARER).strip().decode("ascii"))
        if claims is None:
            return
        clock = explanations.clock_fault(claims, self._clock.wall())
        if clock is not None:
            yield Finding(subject, "clock", "failed", clock)
        fault = explanations.audience_fault(claims, route.audience)
        fault = fault or explanations.cluster_fault(claims, str(route.upstream))
        if fault is not None:
            yield Finding(subject, "audience", "failed", fault)
        elif claims.get("aud") is not None and route.audience:
            yield Finding(subject, "audience", "ok", f"the token is for {route.audience}")

    async def _upstream(self, route: Route, upstream: Endpoint) -> Finding:
        subject, path = f"route {route.name}", explanations.PROBES.get(route.product or "", "/")
        if not self._reachable[f"upstream {route.upstream.origin}"]:
            return Finding(subject, "upstream", "skipped", "The upstream cannot be reached.")
        if route.name == GRPC:
            return Finding(subject, "upstream", "skipped", "A gRPC service is not asked: the first call tells.")
        header = await self._header(route)
        if header is None:
            return Finding(subject, "upstream", "skipped", "There is no credential to send.")
        lines = header.decode("ascii").split("\r\n")[:-1]
        try:
            async with (
                asyncio.timeout(upstream.timeout),
                upstream.client() as client,
                client.get(
                    URL(upstream.url, encoded=True),
                    headers=dict(line.split(": ", 1) for line in lines),
                    allow_redirects=False,
                    proxy=upstream.proxy,
                ) as response,
            ):
                status, location = response.status, response.headers.get("Location", "")
        except (aiohttp.ClientError, OSError) as error:
            fault = await probe.explain(error, upstream.url, upstream.proxy)
            return Finding(subject, "upstream", "failed", fault.sentence)
        shown = quote(location.partition("?")[0], 200, lines)
        told = explanations.upstream_fault(status, shown, path, route.audience)
        if told is not None:
            return Finding(subject, "upstream", "failed", told)
        return Finding(subject, "upstream", "ok", f"answers {status} to GET {path}")

    async def _header(self, route: Route) -> bytes | None:
        source = self._credentials.sources.get(route.name)
        if source is not None:
            granted = self._granted.get(source)
            return granted[1].header if granted is not None else None
        try:
            return (await self._credentials.authorizers[route.name].obtain()).header
        except Problem:
            return None


def _subject(route: Route) -> str:
    return f"credential {route.credential}" + (f" for {route.audience}" if route.audience else "")


def _issuer(source: IssuerSource) -> str:
    return f"issuer {origin(source.issuer)}"
