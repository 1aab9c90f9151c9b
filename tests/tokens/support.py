"""A clock that tests move, an issuer that does what it is told, and what watches them."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import random
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sidecar.config.settings import Refresh, TokenRequests
from sidecar.errors import GrantError, GrantFailedError, GrantInterruptedError, Problem, SecretUnavailableError
from sidecar.secret import Secret
from sidecar.tokens.authorizer import TokenAuthorizer
from sidecar.tokens.grant import AttemptGate, Grant, TokenAttachment
from sidecar.tokens.manager import TokenManager
from sidecar.tokens.stores.base import Store
from sidecar.tokens.stores.memory import MemoryStore
from sidecar.tokens.token_status import TokenStatus

T = TypeVar("T")

ISSUER = "https://login.example/oauth/token"


class ManualClock:
    """Stands still until `advance`; who sleeps is woken in order, and all that follows is done before it goes on."""

    def __init__(self, *, wall: float = 1_800_000_000.0, boottime: float = 5_000.0, boot_id: str = "boot-1") -> None:
        self._wall = wall
        self._boottime = boottime
        self._boot_id = boot_id
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()

    def wall(self) -> float:
        return self._wall

    def monotonic(self) -> float:
        return self._boottime

    def boottime(self) -> float:
        return self._boottime

    def boot_id(self) -> str:
        return self._boot_id

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # At least the next moment there is: a sleep that was rounded to nothing would be repeated for ever.
        at = max(self._boottime + seconds, math.nextafter(self._boottime, math.inf))
        heapq.heappush(self._sleepers, (at, next(self._numbers), woken))
        await woken

    def step_wall(self, seconds: float) -> None:
        """Somebody sets the clock."""
        self._wall += seconds

    def suspend(self, seconds: float) -> None:
        """Time passes, and nobody is woken meanwhile."""
        self._wall += seconds
        self._boottime += seconds

    async def advance(self, seconds: float) -> None:
        """Let time pass."""
        end = self._boottime + seconds
        await settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            at, _, woken = heapq.heappop(self._sleepers)
            if woken.done():
                continue
            self._move(max(at, self._boottime))
            woken.set_result(None)
            await settle()
        self._move(end)
        await settle()

    def _move(self, to: float) -> None:
        self._wall += to - self._boottime
        self._boottime = to


async def settle(turns: int = 50) -> None:
    """Let everything run that can run now."""
    for _ in range(turns):
        await asyncio.sleep(0)


Answer = Grant | GrantError | Exception


@dataclass
class FakeIssuer:
    """A `GrantSource`: answers with `answers` in turn, then with `otherwise`; each attempt goes through the gate."""

    clock: ManualClock
    answers: list[Answer] = field(default_factory=list)
    otherwise: Callable[[int], Answer] = lambda number: grant(f"token-{number}")
    by_secret: dict[str, Answer] = field(default_factory=dict)
    """Before all others: what a request with this secret is answered."""
    issuer: str = ISSUER
    parameters: tuple[tuple[str, str], ...] = (("audience", "operate.camunda.io"), ("client_id", "me"))
    password: Secret | None = field(default_factory=lambda: Secret("secret"))
    """None: it cannot be read."""
    takes: float = 0.0
    """Seconds from the sending to the answer."""
    requests: list[float] = field(default_factory=list)
    """When each attempt was sent."""
    held: asyncio.Event | None = None
    """While set and not yet happened, no answer comes."""
    refused_statuses: tuple[int, ...] = (401,)
    rotated: Grant | None = None

    def secret(self) -> Secret:
        if self.password is None:
            raise SecretUnavailableError("The secret file /run/secrets/x cannot be read: No such file or directory.")
        return self.password

    def refuses(self, status: int, *, safe: bool) -> bool:
        return status in self.refused_statuses

    def rotate(self, grant: Grant, set_cookie: Sequence[bytes]) -> Grant | None:
        return self.rotated

    async def fetch(self, gate: AttemptGate, *, attempts: int) -> Grant:
        for attempt in range(attempts):
            await gate.slot()
            self.requests.append(self.clock.boottime())
            secret = self.secret().reveal()
            gate.sent()
            if self.held is not None:
                await self.held.wait()
            if self.takes:
                await self.clock.sleep(self.takes)
            answer = self._answer(secret)
            if isinstance(answer, Grant):
                return answer
            if isinstance(answer, GrantInterruptedError) and answer.retry_after:
                await gate.postpone(answer.retry_after)
            if attempt == attempts - 1 or not isinstance(answer, GrantFailedError):
                raise answer
        raise AssertionError

    def _answer(self, secret: str) -> Answer:
        if secret in self.by_secret:
            return self.by_secret[secret]
        return self.answers.pop(0) if self.answers else self.otherwise(len(self.requests))


class ErasableStore(MemoryStore):
    """It can lose all that it holds."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.time = clock

    def erase(self) -> None:
        """Nothing is there any more."""
        MemoryStore.__init__(self, self.time)


def grant(name: str, lifetime: float = 3600.0) -> Grant:
    """A bearer token that is its name."""
    return Grant(f"Authorization: Bearer {name}\r\n".encode(), lifetime)


def ignored(coroutine: Coroutine[Any, Any, T]) -> asyncio.Future[T]:
    """A task whose error nobody has to look at."""
    task = asyncio.ensure_future(coroutine)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task


class Events:
    """A `TokenObserver` that writes down what it hears: the event's name, and its values in their order."""

    def __init__(self) -> None:
        self.heard: list[tuple[object, ...]] = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *values, **named: self.heard.append((name, *values, *named.values()))

    def of(self, name: str) -> list[tuple[object, ...]]:
        """The values of all events of this name."""
        return [event[1:] for event in self.heard if event[0] == name]


@dataclass
class Rig:
    """One process: a manager, an issuer, one route's authorizer; several may share a clock, a store and an issuer."""

    clock: ManualClock
    store: Store
    issuer: FakeIssuer
    events: Events
    manager: TokenManager
    authorizer: TokenAuthorizer

    def asking(self) -> asyncio.Future[TokenAttachment]:
        """A client that waits; its error may be ignored."""
        return ignored(self.authorizer.obtain())

    @property
    def requests(self) -> list[float]:
        """When the issuer was asked, in seconds since the first time."""
        return [at - self.issuer.requests[0] for at in self.issuer.requests]

    async def ask(self, seconds: float = 0.0) -> bytes | Problem:
        """What a client gets, within so many seconds."""
        asking = self.asking()
        await self.clock.advance(seconds)
        assert asking.done(), "the client still waits"
        error = asking.exception()
        if isinstance(error, Problem):
            return error
        return asking.result().header

    def status(self) -> TokenStatus:
        """What `/status` says of this route's token."""
        labels = self.authorizer.labels
        rows = {(row.credential, row.audience or ""): row for row in self.manager.snapshot().tokens}
        return rows[labels.credential, labels.audience]

    def now_attached(self) -> bytes | None:
        """What the hot path gives."""
        held = self.authorizer.current()
        return held.header if held else None


async def rig(
    *,
    beside: Rig | None = None,
    issuer: FakeIssuer | None = None,
    store: Store | None = None,
    requests: TokenRequests | None = None,
    refresh: Refresh | None = None,
    credential: str = "cluster",
    audience: str | None = "operate.camunda.io",
    shared_only: bool = False,
) -> Rig:
    """A started process; `beside` another, it is one more on the same host with the same issuer."""
    clock = beside.clock if beside else issuer.clock if issuer else ManualClock()
    store = store or (beside.store if beside else MemoryStore(clock))
    issuer = issuer or (beside.issuer if beside else FakeIssuer(clock))
    events = Events()
    manager = TokenManager(store, clock, requests, refresh, events, rng=Even(), shared_only=shared_only)
    await manager.start()
    authorizer = manager.authorizer(issuer, credential=credential, audience=audience)
    running.append(manager)
    return Rig(clock, store, issuer, events, manager, authorizer)


running: list[TokenManager] = []
"""Closed after each test."""


class Even(random.Random):
    """No jitter at all."""

    def uniform(self, a: float, b: float) -> float:
        return (a + b) / 2


def bearer(name: str) -> bytes:
    """The header of the token with this name."""
    return f"Authorization: Bearer {name}\r\n".encode()
