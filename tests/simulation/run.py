"""A day of many hosts: who they are, what goes wrong, what came of it."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Protocol

from tests.simulation.baseline import LoneProcess
from tests.simulation.design import SidecarProcess
from tests.simulation.engine import Engine
from tests.simulation.host import Counters, Host
from tests.simulation.issuer import LIFETIME, Issuer, Weather, Window

HOUR = 3600.0
REFRESH_AFTER = 0.8
BAD_PATHS = 0.5
"""Share of an upstream's refusals that no new token helps against."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is simulated."""

    hosts: int = 500
    processes: int = 4
    identities: int = 3
    hours: float = 24.0
    seed: int = 1
    interval: float = 1.25
    calm: bool = False
    """Nothing goes wrong."""


@dataclass(slots=True)
class Result:
    """Of one way of doing it, over all hosts."""

    requests: int = 0
    in_outages: int = 0
    too_close: int = 0
    least: float = 0.0
    throttled: int = 0
    refused: int = 0
    bans: int = 0
    closest: float = float("inf")
    closest_slots: float = float("inf")
    counters: Counters = field(default_factory=Counters)

    def add(self, other: Result) -> None:
        """Both together."""
        for name in ("requests", "in_outages", "too_close", "least", "throttled", "refused", "bans"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.closest = min(self.closest, other.closest)
        self.closest_slots = min(self.closest_slots, other.closest_slots)
        mine, theirs = self.counters, other.counters
        for name in ("asked", "waited", "expired_served", "refused_served", "failed", "failed_in_good_weather"):
            setattr(mine, name, getattr(mine, name) + getattr(theirs, name))
        mine.unanswered += theirs.unanswered
        mine.longest_wait = max(mine.longest_wait, theirs.longest_wait)
        mine.longest_wait_stopped = max(mine.longest_wait_stopped, theirs.longest_wait_stopped)


class Entry(Protocol):
    """A token, of either kind."""

    waiting: Collection[float]

    def want(self) -> str: ...

    def quiet(self) -> float: ...

    def reject(self, *, bad_path: bool) -> None: ...


class Program(Protocol):
    """A process of either kind."""

    entries: list[Entry]
    stopped_until: float

    def start(self) -> None: ...

    def kill(self) -> None: ...

    def stop(self, seconds: float) -> None: ...


Kind = Callable[[Host, int, Counters], Program]
KINDS: dict[str, Kind] = {"shared": SidecarProcess, "alone": LoneProcess}


def weather(scenario: Scenario, rng: random.Random) -> Weather:
    """An hour's outage for all, storms of 429 for all, and on every tenth host a key that is deleted for a while."""
    if scenario.calm:
        return Weather(slow=0.0, lost=0.0)
    hours = scenario.hours
    outage = Window(0.4 * hours * HOUR, 0.4 * hours * HOUR + min(HOUR, 0.1 * hours * HOUR))
    storms = tuple(Window(at * hours * HOUR, at * hours * HOUR + 240.0) for at in (0.15, 0.65, 0.85))
    deleted = {}
    if rng.random() < 0.1:
        begin = rng.uniform(0.1, 0.6) * hours * HOUR
        deleted[rng.randrange(scenario.identities)] = Window(begin, begin + 0.1 * hours * HOUR)
    return Weather((outage,), storms, deleted)


def simulate_host(scenario: Scenario, kind: str, number: int) -> Result:
    """One host's day, the same faults for either kind."""
    rng = random.Random(f"{scenario.seed}/{number}")
    engine, counters = Engine(), Counters()
    issuer = Issuer(weather(scenario, rng), random.Random(f"{scenario.seed}/{number}/issuer"))
    host = Host(engine, issuer, random.Random(f"{scenario.seed}/{number}/jitter"), interval=scenario.interval)
    programs = [KINDS[kind](host, scenario.identities, counters) for _ in range(scenario.processes)]
    end = scenario.hours * HOUR
    for program in programs:
        _clients(engine, program, scenario, rng, end)
    if not scenario.calm:
        _misfortunes(engine, host, programs, rng, end)
    engine.run_until(end + 2 * HOUR)  # whoever waits at the end is answered by then, in stopped processes too
    counters.unanswered = sum(len(entry.waiting) for program in programs for entry in program.entries)
    slots = [later - earlier for earlier, later in pairwise(host.slots)]
    return Result(
        requests=issuer.requests,
        in_outages=issuer.in_outages,
        too_close=issuer.too_close,
        least=scenario.identities * (end / (REFRESH_AFTER * LIFETIME)),
        throttled=issuer.throttled,
        refused=issuer.refused,
        bans=issuer.bans,
        closest=issuer.closest,
        closest_slots=min(slots, default=float("inf")),
        counters=counters,
    )


def _clients(engine: Engine, program: Program, scenario: Scenario, rng: random.Random, end: float) -> None:
    """Each process has clients for each identity; some ask every few seconds, some every few minutes."""
    for identity in range(scenario.identities):
        _client(engine, program, identity, rng, end)


def _client(engine: Engine, program: Program, identity: int, rng: random.Random, end: float) -> None:
    mean = 10.0 ** rng.uniform(1.0, 2.5)

    def arrive() -> None:
        if engine.now > end:
            return
        entry = program.entries[identity]
        if program.stopped_until <= engine.now:
            entry.want()
        # What comes before the token is stale changes nothing, and need not be simulated.
        engine.at(engine.now + entry.quiet() + rng.expovariate(1.0 / mean), arrive)

    engine.at(rng.uniform(0.0, 0.01), arrive)  # all start at once


def _misfortunes(engine: Engine, host: Host, programs: list[Program], rng: random.Random, end: float) -> None:
    """Crashes, pauses, upstreams that refuse a token; and for the whole host, clock steps and reboots."""

    def crash(program: Program) -> None:
        program.kill()
        program.start()

    def stop(program: Program) -> None:
        program.stop(10.0 ** rng.uniform(-1, 2.3))

    def reject(program: Program) -> None:
        rng.choice(program.entries).reject(bad_path=rng.random() < BAD_PATHS)

    def step() -> None:
        host.wall_offset += rng.choice((-1.0, 1.0)) * 10.0 ** rng.uniform(0, 4)

    def reboot() -> None:
        for program in programs:
            program.kill()
        host.reboot()
        for program in programs:
            program.start()

    for program in programs:
        for happen, hours in ((crash, 6.0), (stop, 3.0), (reject, 8.0)):
            for moment in _moments(rng, hours * HOUR, end):
                engine.at(moment, partial(happen, program))
    for happen_to_all, hours in ((step, 6.0), (reboot, 24.0)):
        for moment in _moments(rng, hours * HOUR, end):
            engine.at(moment, happen_to_all)


def _moments(rng: random.Random, mean: float, end: float) -> Iterator[float]:
    moment = rng.expovariate(1.0 / mean)
    while moment < end:
        yield moment
        moment += rng.expovariate(1.0 / mean)


def simulate(scenario: Scenario, kind: str, progress: Callable[[int], None] = lambda done: None) -> Result:
    """All hosts; they have nothing in common but the weather, so that every core can have some."""
    total = Result()
    work = partial(simulate_host, scenario, kind)
    workers = min(scenario.hosts, os.cpu_count() or 1)
    if workers == 1 or scenario.hosts < 8:
        for number in range(scenario.hosts):
            total.add(work(number))
            progress(number + 1)
        return total
    with ProcessPoolExecutor(workers) as pool:
        for done, result in enumerate(pool.map(work, range(scenario.hosts), chunksize=4), 1):
            total.add(result)
            progress(done)
    return total
