"""A clock that tests move, an issuer that does what it is told, and what watches them."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from sidecar.errors import GrantError
from sidecar.secret import Secret
from sidecar.tokens.grant import AttemptGate, Grant

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
        heapq.heappush(self._sleepers, (self._boottime + seconds, next(self._numbers), woken))
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
    issuer: str = ISSUER
    parameters: tuple[tuple[str, str], ...] = (("audience", "operate.camunda.io"), ("client_id", "me"))
    password: Secret = field(default_factory=lambda: Secret("secret"))
    takes: float = 0.0
    """Seconds from the sending to the answer."""
    requests: list[float] = field(default_factory=list)
    """When each attempt was sent."""
    held: asyncio.Event | None = None
    """While set and not yet happened, no answer comes."""
    refused_statuses: tuple[int, ...] = (401,)
    rotated: Grant | None = None

    def secret(self) -> Secret:
        return self.password

    def refuses(self, status: int, *, safe: bool) -> bool:
        return status in self.refused_statuses

    def rotate(self, grant: Grant, set_cookie: Sequence[bytes]) -> Grant | None:
        return self.rotated

    async def fetch(self, gate: AttemptGate, *, attempts: int) -> Grant:
        for attempt in range(attempts):
            await gate.slot()
            self.requests.append(self.clock.boottime())
            gate.sent()
            if self.held is not None:
                await self.held.wait()
            if self.takes:
                await self.clock.sleep(self.takes)
            answer = self.answers.pop(0) if self.answers else self.otherwise(len(self.requests))
            if isinstance(answer, Grant):
                return answer
            if not (isinstance(answer, GrantError) and answer.retryable) or attempt == attempts - 1:
                raise answer
            if type(answer).__name__ == "GrantThrottledError":
                raise answer
        raise AssertionError


def grant(name: str, lifetime: float = 3600.0) -> Grant:
    """A bearer token that is its name."""
    return Grant(f"Authorization: Bearer {name}\r\n".encode(), lifetime)
