"""The clients that wait for one token. Each has a future of its own, so that one that goes away takes nothing along."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from sidecar.errors import Problem

T = TypeVar("T")


class Waiters(Generic[T]):
    """In the order of their deadlines, for all have the same patience."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[float, asyncio.Future[T]]] = deque()

    def __len__(self) -> int:
        return sum(not future.done() for _, future in self._waiting)

    def join(self, deadline: float) -> asyncio.Future[T]:
        """A future that is answered by one of the methods below."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((deadline, future))
        return future

    def take(self, others: Waiters[T]) -> None:
        """Those who wait there wait here from now on."""
        self._waiting = deque(sorted((*self._waiting, *others._taken()), key=lambda waiting: waiting[0]))

    def answer(self, value: T) -> None:
        """All get the same."""
        for _, future in self._taken():
            if not future.done():
                future.set_result(value)

    def fail(self, error: Callable[[], Problem]) -> None:
        """All get the same error; each its own instance, for a traceback grows with every raise."""
        for _, future in self._taken():
            if not future.done():
                future.set_exception(error())

    def expire(self, now: float, answer: Callable[[], T | Problem]) -> None:
        """Answers those whose patience is over."""
        while self._waiting and self._waiting[0][0] <= now:
            _, future = self._waiting.popleft()
            if future.done():
                continue
            value = answer()
            if isinstance(value, Problem):
                future.set_exception(value)
            else:
                future.set_result(value)

    def next_deadline(self) -> float | None:
        """Of the client that has waited longest, those that went away left out."""
        while self._waiting and self._waiting[0][1].done():
            self._waiting.popleft()
        return self._waiting[0][0] if self._waiting else None

    def _taken(self) -> deque[tuple[float, asyncio.Future[T]]]:
        taken, self._waiting = self._waiting, deque()
        return taken
