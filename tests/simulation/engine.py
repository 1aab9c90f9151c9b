"""Virtual time: a heap of moments, and generators that yield how many seconds they sleep."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Generator
from itertools import count

Work = Generator[float, None, None]


class Engine:
    """Runs what is due, in order; nothing takes time but sleeping."""

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()

    def at(self, moment: float, call: Callable[[], None]) -> None:
        """Call this then."""
        heapq.heappush(self._due, (moment, next(self._numbers), call))

    def run_until(self, end: float) -> None:
        """Everything that is due until then."""
        due = self._due
        while due and due[0][0] <= end:
            self.now, _, call = heapq.heappop(due)
            call()
        self.now = end


class Process:
    """Something that can be killed, and stopped for a while."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.life = 0
        """Counts its restarts."""
        self.stopped_until = 0.0
        """The end of its last stop, which may be to come."""

    def run(self, work: Work) -> None:
        """Let it work, from now on."""
        self._step(work, self.life)

    def call_at(self, moment: float, call: Callable[[], None]) -> None:
        """Call this then, if it still lives the same life; later if it is stopped then."""
        life = self.life

        def due() -> None:
            if life != self.life:
                return
            if self.stopped_until > self.engine.now:
                self.engine.at(self.stopped_until, due)
            else:
                call()

        self.engine.at(moment, due)

    def stop(self, seconds: float) -> None:
        """SIGSTOP, and SIGCONT after a while."""
        self.stopped_until = max(self.stopped_until, self.engine.now + seconds)

    def kill(self) -> None:
        """Kill -9: whatever it was doing is not done."""
        self.life += 1
        self.stopped_until = 0.0

    def _step(self, work: Work, life: int) -> None:
        if life != self.life:
            work.close()
            return
        if self.stopped_until > self.engine.now:
            self.engine.at(self.stopped_until, lambda: self._step(work, life))
            return
        try:
            seconds = next(work)
        except StopIteration:
            return
        self.engine.at(self.engine.now + seconds, lambda: self._step(work, life))
