"""The clients that wait for one token. Each has a future of its own, so that one that goes away takes nothing along."""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from sidecar.errors import Problem

T = TypeVar("T")


class Waiters(Generic[T]):
    """In the order of their deadlines, as all wait for the same time. Only their answer looks at all of them."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[float, asyncio.Future[T]]] = deque()

    def join(self, deadline: float) -> asyncio.Future[T]:
        """A future that is answered by one of the methods below; `deadline` is a moment of the boot clock."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((deadline, future))
        return future

    def take(self, others: Waiters[T]) -> None:
        """Those who wait there wait here from now on."""
        self._waiting = deque(heapq.merge(self._waiting, others._taken(), key=lambda waiting: waiting[0]))

    def answer(self, value: T) -> None:
        """Give the same to all."""
        for _, future in self._taken():
            if not future.done():
                future.set_result(value)

    def fail(self, error: Callable[[], Problem]) -> None:
        """Give the same error to all; each its own instance, as a traceback grows with every raise."""
        for _, future in self._taken():
            if not future.done():
                future.set_exception(error())

    def expire(self, now: float, error: Callable[[], Problem]) -> None:
        """Give an error to those whose deadline has passed."""
        while self._waiting and self._waiting[0][0] <= now:
            _, future = self._waiting.popleft()
            if not future.done():
                future.set_exception(error())

    def next_deadline(self) -> float | None:
        """The deadline of the client that has waited longest; None: nobody waits."""
        while self._waiting and self._waiting[0][1].done():
            self._waiting.popleft()
        return self._waiting[0][0] if self._waiting else None

    def _taken(self) -> deque[tuple[float, asyncio.Future[T]]]:
        taken, self._waiting = self._waiting, deque()
        return taken
