"""A host in virtual time: the real lifecycle and the real budget, on a store that only this host has."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from sidecar.tokens import rate_limit
from sidecar.tokens.rate_limit import RateLimit, Turns
from sidecar.tokens.stores.timestamps import Stamp, moments
from sidecar.tokens.token_record import Change, TokenRecord, apply
from tests.simulation.engine import Engine
from tests.simulation.issuer import Issuer


@dataclass(slots=True)
class Counters:
    """What a run is judged by; of clients, the requests that needed more than a look at a fresh token."""

    asked: int = 0
    waited: int = 0
    longest_wait: float = 0.0
    longest_wait_stopped: float = 0.0
    """The same where the process itself was stopped meanwhile: then nobody can help its clients."""
    unanswered: int = 0
    expired_served: int = 0
    refused_served: int = 0
    failed: int = 0
    failed_in_good_weather: int = 0
    """When every fault had been over for as long as the longest quarantine and a client's patience."""

    def end_wait(self, seconds: float, *, stopped: bool) -> None:
        """A client was answered, one way or the other."""
        name = "longest_wait_stopped" if stopped else "longest_wait"
        setattr(self, name, max(getattr(self, name), seconds))


class Host:
    """The clocks of a machine, its store, its address at the issuer."""

    turns: Turns | None = None
    """Its store is its own, and is always there."""

    def __init__(self, engine: Engine, issuer: Issuer, rng: random.Random, *, interval: float) -> None:
        self.engine = engine
        self.issuer = issuer
        self.rng = rng
        self.interval = interval
        self.wall_offset = 0.0
        self.restarted_at = float("-inf")
        """When the machine was last started again, by the engine."""
        self._booted = -1000.0
        self._boot = 0
        self._records: dict[int, tuple[TokenRecord, Stamp]] = {}
        self._budget: tuple[RateLimit, Stamp] | None = None
        self.locks: dict[tuple[int, int], object] = {}
        self.slots: list[float] = []

    # --- clocks ------------------------------------------------------------------------------------------------------

    def now(self) -> float:
        """Of the boot clock."""
        return self.engine.now - self._booted

    def true(self, boottime: float) -> float:
        """The engine's time of a moment of the boot clock; never too early, whatever was rounded."""
        return boottime + self._booted + 1e-6

    def reboot(self) -> None:
        """The boot clock begins again."""
        self.restarted_at = self.engine.now
        self._boot += 1
        self._booted = self.engine.now - 5.0
        self.locks.clear()

    def _stamp(self) -> Stamp:
        return Stamp(self.engine.now + self.wall_offset, str(self._boot), self.now())

    # --- the store ---------------------------------------------------------------------------------------------------

    def load(self, identity: int) -> TokenRecord:
        """As any process reads it."""
        if identity not in self._records:
            return TokenRecord()
        shared, written = self._records[identity]
        if written.boot_id == str(self._boot):
            return shared
        return shared.shifted(moments(written, self._stamp())[1] - written.boottime)

    def save(self, identity: int, change: Change) -> None:
        """As any process changes it."""
        self._records[identity] = apply(self.load(identity), change), self._stamp()

    def update_budget(self, known: RateLimit, change: Callable[[RateLimit, float], RateLimit]) -> RateLimit:
        """As `gate.IssuerBudget` does it."""
        found = RateLimit()
        if self._budget is not None:
            found, written = self._budget
            if written.boot_id != str(self._boot):
                by = moments(written, self._stamp())[0] - written.boottime
                found = replace(found, free_at=found.free_at + by, cooldown_until=found.cooldown_until + by)
        result = change(rate_limit.merged(known, found), self.now())
        self._budget = result, self._stamp()
        return result
