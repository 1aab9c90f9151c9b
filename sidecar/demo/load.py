"""Sends requests without credentials from several programs at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import cycle, islice

import aiohttp

from sidecar.clock import Clock

REQUEST_TIMEOUT = 30.0

CALLS: dict[str, tuple[tuple[str, str], ...]] = {
    "/operate": (("POST", "/v1/process-definitions/search"), ("POST", "/v1/process-instances/search")),
    "/optimize": (("GET", "/api/public/dashboard"), ("GET", "/api/readyz"), ("GET", "/api/public/report")),
    "/console": (("GET", "/clusters"), ("GET", "/members")),
    "/hub": (("GET", "/api/v2/info"), ("POST", "/api/v2/projects/search")),
}


@dataclass(frozen=True, slots=True)
class Sample:
    """One request: when it began and ended (seconds since the load began), and the status code; 0: none came."""

    prefix: str
    begun: float
    ended: float
    status: int

    @property
    def served(self) -> bool:
        """Tell whether a successful answer came."""
        return 200 <= self.status < 300  # noqa: PLR2004 (RFC 9110's successful)


@dataclass(slots=True)
class Load:
    """`total` requests from `clients` concurrent programs, spread evenly over the prefixes."""

    base_url: str
    clock: Clock
    total: int
    clients: int
    samples: list[Sample] = field(default_factory=list)

    async def run(self, progress: Callable[[int], None]) -> None:
        """Send all requests; call `progress` with the number of answers after each."""
        begun = self.clock.monotonic()
        shares = [self.total // self.clients + (index < self.total % self.clients) for index in range(self.clients)]
        async with asyncio.TaskGroup() as group:
            for index, share in enumerate(shares):
                group.create_task(self._client(index, share, begun, progress))

    async def _client(self, index: int, share: int, begun: float, progress: Callable[[int], None]) -> None:
        """Be one program, which has a connection and sends one request after the other."""
        timeout, connector = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT), aiohttp.TCPConnector(limit=1)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            for prefix, method, path in islice(calls(index), share):
                started, status = self.clock.monotonic() - begun, 0
                with suppress(aiohttp.ClientError, TimeoutError):
                    async with session.request(method, self.base_url + prefix + path) as response:
                        await response.read()
                        status = response.status
                self.samples.append(Sample(prefix, started, self.clock.monotonic() - begun, status))
                progress(len(self.samples))


def calls(start: int) -> Iterator[tuple[str, str, str]]:
    """Yield prefix, method and path for ever; each client begins with another prefix."""
    endless = {prefix: cycle(of) for prefix, of in CALLS.items()}
    for prefix in islice(cycle(CALLS), start % len(CALLS), None):
        method, path = next(endless[prefix])
        yield prefix, method, path
