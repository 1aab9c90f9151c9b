"""Each process on its own, as the official clients do: a token in its memory, asked for when it has ended.

No lock, no spacing; an attempt that failed is repeated once after a second, whatever the failure was.
"""

from __future__ import annotations

from tests.simulation.engine import Process, Work
from tests.simulation.host import Counters, Host
from tests.simulation.issuer import LIFETIME


class LoneProcess(Process):
    """One program with a client of its own."""

    def __init__(self, host: Host, identities: int, counters: Counters) -> None:
        super().__init__(host.engine)
        self.host = host
        self.counters = counters
        self._identities = identities
        self.entries: list[LoneEntry] = []
        self.start()

    def start(self) -> None:
        """Its memory is empty."""
        self.entries = [LoneEntry(self, identity) for identity in range(self._identities)]


class LoneEntry:
    """One token."""

    def __init__(self, process: LoneProcess, identity: int) -> None:
        self.process = process
        self.host = process.host
        self.identity = identity
        self.serve_until = -1.0
        self._asking = 0
        self.waiting = ()

    def want(self) -> str:
        """A client of this very program needs a token."""
        now = self.host.engine.now
        if now < self.serve_until:
            return "served"
        self.process.counters.asked += 1
        if not self._asking:
            self._asking = 1
            self.process.run(self._ask(now))
        return "waits"

    def quiet(self) -> float:
        """Seconds for which nothing happens."""
        return max(0.0, self.serve_until - self.host.engine.now)

    def reject(self, *, bad_path: bool) -> None:
        """Most of them take a new one."""
        del bad_path
        self.serve_until = -1.0

    def _ask(self, began: float) -> Work:
        host, counters = self.host, self.process.counters
        for _ in range(2):
            yield host.rng.uniform(0.01, 0.2)
            sent = host.engine.now
            answer = host.issuer.ask(self.identity, sent)
            yield answer.seconds
            if answer.kind == "token":
                self.serve_until = sent + LIFETIME - 15.0
                counters.waited += 1
                break
            yield 1.0
        else:
            counters.failed += 1
        counters.end_wait(host.engine.now - began, stopped=self.process.stopped_until > began)
        self._asking = 0
