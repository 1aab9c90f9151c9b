"""`doctor`'s examination: DNS, TLS, issuer, audience, upstream; what is wrong, each with its cure."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import aiohttp
from yarl import URL

from sidecar.clock import Clock
from sidecar.config.settings import Route
from sidecar.credentials import connection_errors, explanations, token_claims
from sidecar.credentials.asking import Asker
from sidecar.credentials.build import IssuerSource, RouteCredentials
from sidecar.credentials.file_watching import Watched
from sidecar.credentials.reach import Reached, explain, reach, resolve
from sidecar.credentials.token_response import jwt_claims
from sidecar.errors import GrantError, GrantRefusedError, Problem, SecretUnavailableError
from sidecar.tokens.grant import Grant
from sidecar.tokens.identity import origin

PATIENCE: Final = 5.0
"""Seconds for a name, and for a handshake."""
RENEWAL: Final = 14 * 86_400.0
"""Seconds before its end from which a server's certificate is worth a word."""

BEARER: Final = b"Authorization: Bearer "

Result = Literal["ok", "failed", "skipped"]

_PROBE_SECONDS = 60.0
"""For an upstream whose route has no limit of its own."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the table."""

    subject: str
    check: Literal["dns", "tls", "connect", "issuer", "audience", "clock", "upstream"]
    result: Result
    detail: str


@dataclass(frozen=True, slots=True)
class _Place:
    """Somewhere to connect to."""

    subject: str
    url: str
    context: Watched[ssl.SSLContext] | None
    proxy: str | None

    def trust(self) -> ssl.SSLContext | None:
        return self.context.value if self.context is not None else None


class Checkup:
    """One examination. What fails keeps what depends on it from being tried; nothing is tried twice."""

    def __init__(self, credentials: RouteCredentials, asker: Asker, clock: Clock) -> None:
        self._credentials = credentials
        self._asker = asker
        self._clock = clock
        self._reachable: dict[str, bool] = {}
        self._granted: dict[int, tuple[Route, Grant]] = {}
        self._refused: list[tuple[Route, GrantRefusedError]] = []

    async def run(self, routes: Sequence[Route]) -> AsyncIterator[Finding]:
        """Findings as they come: issuers and logins first, then each route's upstream."""
        sources = {id(source): (source, route) for route in routes if (source := self._source(route)) is not None}
        for source, _ in sources.values():
            endpoint = source.endpoint
            async for finding in self._way(_Place(_issuer(source), endpoint.url, endpoint.tls, endpoint.proxy)):
                yield finding
        for source, route in sources.values():
            async for finding in self._ask(source, route):
                yield finding
        for route, error in self._refused:
            yield self._told_refused(route, error)
        for route in routes:
            async for finding in self._upstream(route):
                yield finding

    def _source(self, route: Route) -> IssuerSource | None:
        return self._credentials.sources.get(route.name)

    # --- the way -------------------------------------------------------------------------------------------------

    async def _way(self, place: _Place) -> AsyncIterator[Finding]:
        if place.subject in self._reachable:
            return
        self._reachable[place.subject] = False
        target = URL(place.proxy or place.url)
        try:
            async with asyncio.timeout(PATIENCE):
                addresses = await resolve(target.host or "", target.port or 443)
            through = f" (the forward proxy {target.host})" if place.proxy else ""
            yield Finding(place.subject, "dns", "ok", ", ".join(addresses) + through)
        except OSError as error:
            yield self._fault(place, "dns", error)
            return
        check: Literal["tls", "connect"] = "tls" if place.context is not None else "connect"
        try:
            async with asyncio.timeout(PATIENCE):
                reached = await reach(place.url, place.trust(), place.proxy)
        except SecretUnavailableError as error:
            yield Finding(place.subject, check, "failed", error.detail)
            return
        except OSError as error:
            yield await self._told(place, check, error)
            return
        self._reachable[place.subject] = True
        yield Finding(place.subject, check, "ok", self._handshake(reached))

    def _handshake(self, reached: Reached | None) -> str:
        if reached is None:
            return "plain HTTP"
        left = reached.expires.timestamp() - self._clock.wall()
        soon = f", which is in {token_claims.duration(left)}" if left < RENEWAL else ""
        return f"{reached.version}, certificate until {reached.expires:%Y-%m-%d}{soon}, signed by {reached.signed_by}"

    async def _told(self, place: _Place, check: Literal["tls", "connect"], error: OSError) -> Finding:
        fault = await explain(error, place.url, place.proxy)
        return Finding(place.subject, check, "failed", fault.sentence)

    def _fault(self, place: _Place, check: Literal["dns", "tls", "connect"], error: OSError) -> Finding:
        fault = connection_errors.explain(error, place.url, proxied=place.proxy is not None)
        return Finding(place.subject, check, "failed", fault.sentence)

    # --- the issuer ----------------------------------------------------------------------------------------------

    async def _ask(self, source: IssuerSource, route: Route) -> AsyncIterator[Finding]:
        subject = _subject(route)
        if not self._reachable[_issuer(source)]:
            yield Finding(subject, "issuer", "skipped", "The issuer cannot be reached.")
            return
        began = self._clock.monotonic()
        try:
            grant = await self._asker.ask(source)
        except GrantRefusedError as error:
            self._refused.append((route, error))  # told when it is known what else this credential is granted
            return
        except (GrantError, Problem, SecretUnavailableError) as error:
            yield Finding(subject, "issuer", "failed", error.detail)
            return
        self._granted[id(source)] = route, grant
        seconds = self._clock.monotonic() - began
        life = token_claims.duration(grant.lifetime)
        yield Finding(subject, "issuer", "ok", f"granted for {life}, {seconds:.1f} s with the wait for its slot")
        for finding in self._claims(subject, grant, route):
            yield finding

    def _told_refused(self, route: Route, error: GrantRefusedError) -> Finding:
        granted = [other.audience for other, _ in self._granted.values() if other.credential == route.credential]
        hint = explanations.kind_of_client(route.audience, granted)
        return Finding(_subject(route), "issuer", "failed", f"{error.detail} {hint}".rstrip())

    def _claims(self, subject: str, grant: Grant, route: Route) -> Iterator[Finding]:
        claims = jwt_claims(grant.header.removeprefix(BEARER).strip().decode("ascii"))
        if claims is None:
            return
        clock = token_claims.clock_fault(claims, self._clock.wall())
        if clock is not None:
            yield Finding(subject, "clock", "failed", clock)
        fault = token_claims.audience_fault(claims, route.audience)
        fault = fault or token_claims.cluster_fault(claims, str(route.upstream))
        if fault is not None:
            yield Finding(subject, "audience", "failed", fault)
        elif claims.get("aud") is not None and route.audience:
            yield Finding(subject, "audience", "ok", f"the token is for {route.audience}")

    # --- the upstream --------------------------------------------------------------------------------------------

    async def _upstream(self, route: Route) -> AsyncIterator[Finding]:
        context = self._credentials.upstream_tls.get(route.name)
        place = _Place(f"upstream {route.upstream.origin}", route.upstream.origin, context, route.proxy)
        async for finding in self._way(place):
            yield finding
        subject = f"route {route.name}"
        if not self._reachable[place.subject]:
            yield Finding(subject, "upstream", "skipped", "The upstream cannot be reached.")
            return
        header = await self._header(route)
        if header is None:
            yield Finding(subject, "upstream", "skipped", "There is no credential to send.")
            return
        path = explanations.PROBES.get(route.product or "", "/")
        try:
            async with asyncio.timeout(route.timeouts.response or _PROBE_SECONDS):
                status, location = await self._get(f"{route.upstream}{path}", place, header)
        except (aiohttp.ClientError, OSError) as error:
            fault = connection_errors.explain(error, place.url, proxied=place.proxy is not None)
            yield Finding(subject, "upstream", "failed", fault.sentence)
            return
        fault_said = explanations.upstream_fault(status, location, path, route.audience)
        result: Result = "ok" if fault_said is None else "failed"
        yield Finding(subject, "upstream", result, fault_said or f"answers {status} to GET {path}")

    async def _header(self, route: Route) -> bytes | None:
        source = self._credentials.sources.get(route.name)
        if source is not None:
            granted = self._granted.get(id(source))
            return granted[1].header if granted is not None else None
        try:
            return (await self._credentials.authorizers[route.name].obtain()).header
        except Problem:
            return None

    async def _get(self, url: str, place: _Place, header: bytes) -> tuple[int, str]:
        pairs = [line.split(": ", 1) for line in header.decode("ascii").split("\r\n") if line]
        async with (
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=place.trust() or True),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),
            ) as client,
            client.get(
                URL(url, encoded=True), headers=dict(pairs), allow_redirects=False, proxy=place.proxy
            ) as response,
        ):
            return response.status, response.headers.get("Location", "")


def _subject(route: Route) -> str:
    return f"credential {route.credential}" + (f" for {route.audience}" if route.audience else "")


def _issuer(source: IssuerSource) -> str:
    return f"issuer {origin(source.issuer)}"
