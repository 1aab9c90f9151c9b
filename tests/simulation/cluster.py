"""Many hosts behind one address, with one store: what they do while it is cut off, gone, and back without its data.

    python -m tests.simulation.cluster --sidecars 500 --hours 10    (a quarter of an hour; 100 sidecars: two minutes)

Each sidecar has three identities in common with the others. The store is away for an hour twice, and comes back empty
from one of them; half of the hosts are cut off from it for an hour; twice the whole cluster is started again at once,
the second time while the store is away, so that nobody knows how many there are.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise

from sidecar.tokens import rate_limit
from sidecar.tokens.rate_limit import RateLimit, Turns
from sidecar.tokens.stores.degrading import CHECK_EVERY, PATIENCE, RETRY_FIRST, RETRY_MOST
from sidecar.tokens.stores.redis import EXACT_BITS, LEASE_SECONDS, PLACE_SECONDS, stranger
from sidecar.tokens.token_record import Change, TokenRecord, apply
from tests.simulation.baseline import LoneProcess
from tests.simulation.design import SidecarProcess
from tests.simulation.engine import Engine
from tests.simulation.host import Counters, Host
from tests.simulation.issuer import LIFETIME, Issuer, Weather, Window
from tests.simulation.run import HOUR, REFRESH_AFTER, Program

INTERVAL = 1.25
WINDOW, MOST_IN_WINDOW = 10.0, 10
CLOCK_ERROR = 0.02
"""Seconds by which a process may be wrong about the store's time."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is simulated."""

    sidecars: int = 500
    hours: float = 24.0
    seed: int = 1
    identities: int = 3

    def at(self, share: float) -> float:
        """The second at which so much of the time is over."""
        return share * self.hours * HOUR

    def window(self, share: float) -> Window:
        """An hour from there, or a tenth of the time if that is less."""
        return Window(self.at(share), self.at(share) + min(HOUR, self.at(0.1)))

    @property
    def outages(self) -> tuple[Window, ...]:
        """When nobody reaches the store; it comes back empty from the second one."""
        return self.window(0.2), self.window(0.6)

    @property
    def partition(self) -> Window:
        """When half of them do not."""
        return self.window(0.4)

    @property
    def restarts(self) -> tuple[float, ...]:
        """When the whole cluster is started again."""
        return self.at(0.1), self.outages[1].begin + 0.5 * (self.outages[1].end - self.outages[1].begin)

    def away(self, moment: float) -> bool:
        """Whether somebody is, or has just been, without the store."""
        late = RETRY_MOST + PATIENCE + CHECK_EVERY + RETRY_FIRST
        return any(each.begin <= moment < each.end + late for each in (*self.outages, self.partition))


@dataclass
class Redis:
    """What all of them share."""

    engine: Engine
    records: dict[int, tuple[TokenRecord, float]] = field(default_factory=dict)
    budget: tuple[RateLimit, float] | None = None
    leases: dict[tuple[int, int], tuple[object, float]] = field(default_factory=dict)
    places: list[tuple[object, float]] = field(default_factory=list)
    """Who has each place, and when that process ended."""
    sizes: list[tuple[float, int]] = field(default_factory=list)

    def join(self, process: object) -> int:
        """A place for a process: one that has been free for long enough, or one more."""
        now = self.engine.now
        free = (number for number, (_, ended) in enumerate(self.places) if ended + PLACE_SECONDS <= now)
        place = next(free, len(self.places))
        self.places[place : place + 1] = [(process, float("inf"))]
        self.sizes.append((now, len(self.places)))
        return place

    def size(self, moment: float) -> int:
        """How many places there were."""
        return self.sizes[max(0, bisect_right(self.sizes, (moment, 1 << 30)) - 1)][1]


class Leases(dict):
    """The locks of one that reaches the store: they end by themselves, and not with the process."""

    def __init__(self, redis: Redis) -> None:
        super().__init__()
        self._redis = redis

    def __contains__(self, key: object) -> bool:
        return key in self._redis.leases and self._redis.leases[key][1] > self._redis.engine.now

    def __setitem__(self, key, holder) -> None:
        self._redis.leases[key] = holder, self._redis.engine.now + LEASE_SECONDS

    def __delitem__(self, key) -> None:
        del self._redis.leases[key]

    def get(self, key, default=None):
        return self._redis.leases[key][0] if key in self else default


class Pod(Host):
    """One host with one sidecar, as `DegradingStore` and `RedisStore` keep it."""

    def __init__(self, scenario: Scenario, engine: Engine, issuer: Issuer, redis: Redis | None, number: int) -> None:
        super().__init__(engine, issuer, random.Random(f"{scenario.seed}/{number}"), interval=INTERVAL)
        self.scenario = scenario
        self.redis = redis
        self.cut_off = number % 2 == 0
        self.away = False
        self.own_locks: dict[tuple[int, int], object] = {}
        self.start()

    def start(self) -> None:
        """A new process: it remembers nothing."""
        self.life = getattr(self, "life", 0) + 1
        self.memory: dict[int, tuple[TokenRecord, float]] = {}
        self.memory_budget: tuple[RateLimit, float] | None = None
        self.away, self.failures, self.all_back_at, self.place = False, 0, -1.0, -1
        self.own_locks.clear()
        if self.redis is None:
            self.away = True
            return
        self.known: Turns | None = stranger(self.scenario.sidecars)
        self.known = Turns(self.rng.uniform(0, self.known.count), self.known.count, 0.0)  # by this run's seed
        if self.reaches():
            self.check()

    def end(self) -> None:
        """Its place is free after a while."""
        if self.redis is not None and self.place >= 0:
            self.redis.places[self.place] = self, self.engine.now

    @property
    def turns(self) -> Turns | None:
        """As `DegradingStore.turns`."""
        if self.redis is None or not (self.away or self.engine.now < self.all_back_at):
            return None
        return self.known

    @property
    def locks(self):
        """The store's, or its own."""
        return Leases(self.redis) if self.reaches() else self.own_locks

    @locks.setter
    def locks(self, _none) -> None:
        pass

    def reaches(self) -> bool:
        """Whether the store is in use."""
        if self.away:
            return False
        if self._up():
            return True
        self.away, self.failed_at = True, self.engine.now
        if self.place >= 0:
            size = self.redis.size(self.engine.now - self.rng.uniform(0, CHECK_EVERY))
            step = 1 << max(0, size.bit_length() - EXACT_BITS)
            offset = self.rng.gauss(0, CLOCK_ERROR)
            self.known = Turns(self.place, -(-max(size, self.place + 1) // step) * step, offset)
        self._retry_later()
        return False

    def check(self) -> None:
        """Say that it is there."""
        if self.place < 0:
            self.place = self.redis.join(self)

    def _up(self) -> bool:
        now, scenario = self.engine.now, self.scenario
        return not any(now in each for each in scenario.outages) and not (self.cut_off and now in scenario.partition)

    def _retry_later(self) -> None:
        self.failures += 1
        pause = min(RETRY_MOST, RETRY_FIRST * 2.0 ** (self.failures - 1))
        self.engine.at(self.engine.now + pause, partial(self._retry, self.life))

    def _retry(self, life: int) -> None:
        if life != self.life:
            return
        if not self._up():
            self._retry_later()
            return
        now = self.engine.now
        self.away, self.failures = False, 0
        self.check()
        self.all_back_at = now + min(RETRY_MOST, RETRY_FIRST + now - self.failed_at) + PATIENCE + CHECK_EVERY
        for identity, (record, written) in self.memory.items():
            if identity not in self.redis.records or self.redis.records[identity][1] < written:
                self.redis.records[identity] = record, written
        mine, theirs = self.memory_budget, self.redis.budget
        if mine is not None and (theirs is None or theirs[1] < mine[1]):
            self.redis.budget = mine

    # --- the store -------------------------------------------------------------------------------------------------

    def load(self, identity: int) -> TokenRecord:
        """As any process reads it."""
        if self.reaches():
            if identity in self.redis.records:
                self.memory[identity] = self.redis.records[identity]
            return self.redis.records.get(identity, (TokenRecord(), 0.0))[0]
        return self.memory.get(identity, (TokenRecord(), 0.0))[0]

    def save(self, identity: int, change: Change) -> None:
        """As any process changes it."""
        record = apply(self.load(identity), change), self.now()
        self.memory[identity] = record
        if self.reaches():
            self.redis.records[identity] = record

    def update_budget(self, known: RateLimit, change: Callable[[RateLimit, float], RateLimit]) -> RateLimit:
        """As `IssuerBudget` does it."""
        there = self.reaches()
        found = self.redis.budget if there else self.memory_budget
        limit = found[0] if found is not None else RateLimit()
        if found is None and known != RateLimit():
            limit = rate_limit.unreadable(self.now(), self.interval)
        changed = change(rate_limit.merged(known, limit), self.now())
        self.memory_budget = changed, self.now()
        if there:
            self.redis.budget = self.memory_budget
        return changed


@dataclass(slots=True)
class Result:
    """What came of one way of doing it."""

    scenario: Scenario
    issuer: Issuer
    counters: Counters

    @property
    def there(self) -> list[float]:
        """When the issuer was asked while every sidecar had the store."""
        return [each for each in self.issuer.arrivals if not self.scenario.away(each)]

    @property
    def times_the_least(self) -> float:
        """Requests while the store was there, by what the tokens' lives need."""
        hours = self.scenario.hours - sum(
            (each.end - each.begin) / HOUR for each in (*self.scenario.outages, self.scenario.partition)
        )
        return len(self.there) / (self.scenario.identities * hours * HOUR / (REFRESH_AFTER * LIFETIME))

    @property
    def closest(self) -> float:
        """Seconds between two requests while the store was there."""
        return min((later - earlier for earlier, later in pairwise(self.there)), default=float("inf"))

    @property
    def most_while_away(self) -> int:
        """Requests in any ten seconds while somebody was without the store."""
        away = [each for each in self.issuer.arrivals if self.scenario.away(each)]
        return max((bisect_right(away, at + WINDOW) - number for number, at in enumerate(away)), default=0)


def simulate(scenario: Scenario, kind: str) -> Result:
    """`shared`: one store for all; `apart`: each sidecar has only its memory; `alone`: no sidecar."""
    engine, counters, rng = Engine(), Counters(), random.Random(scenario.seed)
    issuer = Issuer(Weather(), random.Random(f"{scenario.seed}/issuer"))
    redis = Redis(engine) if kind == "shared" else None
    end = scenario.hours * HOUR
    pods: list[tuple[Pod, Program]] = []
    for number in range(scenario.sidecars):
        pod = Pod(scenario, engine, issuer, redis, number)
        program = (LoneProcess if kind == "alone" else SidecarProcess)(pod, scenario.identities, counters)
        pods.append((pod, program))
        for identity in range(scenario.identities):
            _client(engine, program, identity, rng, end)
    for outage in (*scenario.outages, scenario.partition) if redis is not None else ():
        for pod, _ in pods:  # who asks nothing notices by its checks
            engine.at(outage.begin + rng.uniform(0, CHECK_EVERY), pod.reaches)
    if redis is not None:
        engine.at(scenario.outages[1].begin + 1.0, partial(_erase, redis))
    for moment in scenario.restarts:
        for pod, program in pods:
            engine.at(moment + rng.uniform(0, 5), partial(_restart, pod, program))
    for pod, program in pods:
        for _ in range(rng.randrange(3)):
            engine.at(rng.uniform(0, end), partial(_restart, pod, program))
    engine.run_until(end + 60.0)
    return Result(scenario, issuer, counters)


def _erase(redis: Redis) -> None:
    redis.records.clear()
    redis.leases.clear()
    redis.budget = None


def _restart(pod: Pod, program: Program) -> None:
    program.kill()
    pod.end()
    pod.start()
    program.start()


def _client(engine: Engine, program: Program, identity: int, rng: random.Random, end: float) -> None:
    mean = 10.0 ** rng.uniform(1.0, 2.5)

    def arrive() -> None:
        if engine.now > end:
            return
        entry = program.entries[identity]
        entry.want()
        engine.at(engine.now + entry.quiet() + rng.expovariate(1.0 / mean), arrive)

    engine.at(rng.uniform(0.0, 0.01), arrive)


_ROWS = (
    ("token requests", lambda result: result.issuer.requests),
    ("  of those, while everybody had the store", lambda result: len(result.there)),
    ("  times the least for that time", lambda result: result.times_the_least),
    ("closest two of those, seconds", lambda result: result.closest),
    ("most in any 10 s while the store was away", lambda result: result.most_while_away),
    ("answered 429", lambda result: result.issuer.throttled),
    ("times the address was banned", lambda result: result.issuer.bans),
    ("clients that waited for a token", lambda result: result.counters.waited),
    ("longest wait of a client, seconds", lambda result: result.counters.longest_wait),
    ("clients turned away with Retry-After", lambda result: result.counters.failed),
)


def report(scenario: Scenario, results: dict[str, Result]) -> str:
    """The three ways side by side."""
    head = ("", "shared store", "no store", "each on its own")
    rows = [(name, *(_shown(get(result)) for result in results.values())) for name, get in _ROWS]
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(4)]
    lines = [f"{scenario.sidecars} sidecars x {scenario.identities} identities, {scenario.hours:g} hours.", ""]
    for row in (head, tuple("-" * width for width in widths), *rows):
        first, *rest = zip(row, widths, strict=True)
        lines.append("  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in rest)]))
    broken = broken_promises(results["shared"])
    return "\n".join([*lines, "", *(f"BROKEN: {each}" for each in broken)])


def broken_promises(shared: Result) -> list[str]:
    """What was promised and not kept."""
    checks = (
        (shared.issuer.bans == 0, f"the address was banned {shared.issuer.bans} times"),
        (shared.closest >= 1.0, f"two requests were {shared.closest:.3f} s apart while the store was there"),
        (shared.most_while_away <= MOST_IN_WINDOW, f"{shared.most_while_away} requests in ten seconds without it"),
    )
    return [text for kept, text in checks if not kept]


def _shown(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"


def main() -> int:
    """Simulate, print; 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.cluster", description=__doc__.splitlines()[0])
    parser.add_argument("--sidecars", type=int, default=500)
    parser.add_argument("--hours", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    scenario, began = Scenario(**vars(parser.parse_args())), time.monotonic()
    results = {kind: simulate(scenario, kind) for kind in ("shared", "apart", "alone")}
    sys.stdout.write(
        f"{report(scenario, results)}\nSeed {scenario.seed}; simulated in {time.monotonic() - began:.0f} s.\n"
    )
    return 1 if broken_promises(results["shared"]) else 0


if __name__ == "__main__":
    sys.exit(main())
