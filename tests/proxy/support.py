"""A proxy over real sockets, with a credential and settings of the test's choice."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from msgspec.structs import replace

from sidecar.clock import Clock, SystemClock
from sidecar.config.settings import (
    Address,
    Admin,
    MemoryStore,
    NoCredential,
    Route,
    Settings,
    TcpAddress,
    UnixAddress,
    Upstream,
)
from sidecar.descriptors import Descriptors, share_out
from sidecar.dial import Resolver
from sidecar.errors import Problem
from sidecar.listener import listening
from sidecar.proxy.connect import Explain, plainly
from sidecar.proxy.server import ProxyServer
from sidecar.secret import Secret
from sidecar.telemetry.http import HttpStats

T = TypeVar("T")
TOKEN = "Bearer token-1"


@dataclass(frozen=True)
class FakeAttachment:
    header: bytes = b"Authorization: Bearer token-1\r\n"
    unsafe_header: bytes = b""


@dataclass
class FakeAuthorizer:
    """A credential under the test's control: the next versions stand in `versions`, or `problem` is raised."""

    versions: list[FakeAttachment] = field(default_factory=lambda: [FakeAttachment()])
    problem: Problem | None = None
    ready: bool = True
    refused_statuses: frozenset[int] = frozenset({401})
    gate: asyncio.Event | None = None
    events: list[tuple[Any, ...]] = field(default_factory=list)

    def current(self) -> FakeAttachment | None:
        return self.versions[0] if self.ready and self.versions else None

    def renewed(self, attachment: FakeAttachment) -> FakeAttachment | None:
        return self.current()

    async def obtain(self) -> FakeAttachment:
        self.events.append(("obtain",))
        if self.gate is not None:
            await self.gate.wait()
        if self.problem is not None:
            raise self.problem
        self.ready = True
        return self.versions[0]

    async def issue(self) -> tuple[str, int, str]:
        return (await self.obtain()).header.split()[2].decode(), 3600, ""

    def refuses(self, status: int, *, safe: bool) -> bool:
        return status in self.refused_statuses

    async def replace(self, refused: FakeAttachment) -> FakeAttachment | None:
        self.events.append(("replace", refused.header))
        if self.gate is not None:
            await self.gate.wait()
        if self.versions[0] is refused:
            if len(self.versions) < 2:
                return None
            self.versions.pop(0)
        return self.versions[0]

    def invalidate(self, refused: FakeAttachment) -> None:
        self.events.append(("invalidate", refused.header))

    def replayed(self, attachment: FakeAttachment, *, accepted: bool) -> None:
        self.events.append(("replayed", attachment.header, accepted))

    def received_cookies(self, attachment: FakeAttachment, set_cookie: Sequence[bytes]) -> None:
        self.events.append(("cookies", tuple(set_cookie)))


def route(name: str, upstream: str, **changes: Any) -> Route:
    """A route at `/name` to `upstream`, a URL."""
    url = urlsplit(upstream)
    scheme = "https" if url.scheme == "https" else "http"
    port = url.port or (443 if scheme == "https" else 80)
    base = Upstream(scheme, url.hostname or "", port, url.path.rstrip("/"))
    made = replace(Route(name=name, prefix=f"/{name}", upstream=base, credential="fake", audience=None), **changes)
    if made.timeouts.response is None:  # as the configuration fills it in
        made = replace(made, timeouts=replace(made.timeouts, response=60.0))
    return made


def settings(*routes: Route, **changes: Any) -> Settings:
    """A configuration of these routes; everything else is the default."""
    base = Settings(
        source="test",
        listen=TcpAddress("127.0.0.1", 0),
        admin=Admin(TcpAddress("127.0.0.1", 0)),
        credentials={"fake": NoCredential("fake")},
        routes={route.name: route for route in routes},
        token_store=MemoryStore(),
    )
    return replace(base, **changes)


@dataclass
class RunningProxy:
    server: ProxyServer
    address: Address
    authorizers: dict[str, FakeAuthorizer]

    @property
    def port(self) -> int:
        assert isinstance(self.address, TcpAddress)
        return self.address.port

    @property
    def stats(self) -> HttpStats:
        return self.server.stats

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A raw connection."""
        if isinstance(self.address, TcpAddress):
            return await asyncio.open_connection("127.0.0.1", self.address.port)
        return await asyncio.open_unix_connection(str(self.address.path))

    async def exchange(self, raw: bytes, *, end: bool = True) -> bytes:
        """Send raw bytes (and a FIN), and read all that comes back."""
        reader, writer = await self.connect()
        writer.write(raw)
        if end:
            writer.write_eof()
        with contextlib.suppress(ConnectionResetError):
            async with asyncio.timeout(10):
                answer = await reader.read()
                writer.close()
                return answer
        raise ConnectionResetError


@contextlib.asynccontextmanager
async def off_the_loop(manager: contextlib.AbstractContextManager[T]) -> AsyncIterator[T]:
    """What is done before there is an event loop, and after, and may block."""
    value = await asyncio.to_thread(manager.__enter__)
    try:
        yield value
    finally:
        await asyncio.to_thread(manager.__exit__, None, None, None)


@contextlib.asynccontextmanager
async def running_proxy(
    *routes: Route,
    authorizers: Mapping[str, FakeAuthorizer] | None = None,
    contexts: Mapping[str, ssl.SSLContext | None] | None = None,
    listen: Path | None = None,
    clock: Clock | None = None,
    explain: Explain | None = None,
    resolver: Resolver | None = None,
    descriptors: Descriptors | None = None,
    secrets: Mapping[str, str] | None = None,
    tls: ssl.SSLContext | None = None,
    **changes: Any,
) -> AsyncIterator[RunningProxy]:
    """A proxy on a free port of 127.0.0.1, or on a Unix socket; `changes` are to the `Settings`."""
    made = {r.name: (authorizers or {}).get(r.name) or FakeAuthorizer() for r in routes}
    if listen is not None:
        changes["listen"] = UnixAddress(listen)
    configuration = settings(*routes, **changes)
    server = ProxyServer(
        stats=HttpStats(),
        clock=clock or SystemClock(),
        explain=explain or plainly,
        resolver=resolver,
        descriptors=descriptors or share_out(1 << 30),
    )
    server.configure(
        configuration,
        made,
        {name: lambda c=context: c for name, context in (contexts or {}).items()},
        {name: lambda s=secret: Secret(s) for name, secret in (secrets or {}).items()},
        (lambda: tls) if tls is not None else None,
    )
    async with off_the_loop(listening("listen", configuration.listen)) as [listener]:
        await server.start(listener)
        try:
            yield RunningProxy(server, listener.address, made)
        finally:
            await server.close()
