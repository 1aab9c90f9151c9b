"""Many processes on one real Redis, as on many hosts behind one address, and what befalls it; figures are printed.

    python -m tests.tokens.many_hosts --processes 200 --fault kill

Each is a process of its own with the product's token manager and Redis store (the proxy in front of it is left out, so
that two hundred fit), and three identities. The issuer is real too, and watches when it is asked.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from bisect import bisect_right
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from redis.asyncio import Redis

from tests.tokens.processes import Group, Issuer, Plan
from tests.tokens.stores.support import answers, free_port, redis_command

FAULTS = ("none", "kill", "stop", "flush", "full")
SETTLED = 45.0
"""Seconds after the store's return until all processes are back on it."""


@dataclass(slots=True)
class Outcome:
    """What a run showed."""

    issuer: Issuer
    processes: list[list[dict[str, float]]]
    away: tuple[float, float]
    """From the fault until everybody has got over it."""
    operations: float
    """Store operations a second of each process, for one identity whose token it waits for."""

    @property
    def closest_there(self) -> float:
        """Seconds between two requests while the store was there."""
        begin, end = self.away
        moments = [at for at, _ in self.issuer.arrivals]
        there = [later - earlier for earlier, later in pairwise(moments) if later < begin or earlier > end]
        return min(there, default=float("inf"))

    @property
    def most_in_ten(self) -> int:
        """Requests in any ten seconds of the whole run."""
        moments = [at for at, _ in self.issuer.arrivals]
        return max(bisect_right(moments, at + 10.0) - number for number, at in enumerate(moments))

    @property
    def spread(self) -> list[float]:
        """By process, seconds between the first and its own first token of an identity that all had to wait for."""
        last = [max(one["at"] for one in process) for process in self.processes]
        return sorted(at - min(last) for at in last)

    def total(self, name: str) -> float:
        """Of all processes and identities."""
        return sum(one.get(name, 0) for process in self.processes for one in process)

    def report(self) -> str:
        """The figures, one a line."""
        waits = [one["longest"] for process in self.processes for one in process if "longest" in one]
        return "\n".join(
            (
                f"token requests                                     {len(self.issuer.arrivals)}",
                f"closest two while the store was there, s           {self.closest_there:.2f}",
                f"most in any ten seconds                            {self.most_in_ten}",
                f"last process served after the first, median, s     {statistics.median(self.spread):.3f}",
                f"last process served after the first, longest, s    {max(self.spread):.3f}",
                f"store operations a second of each that waits        {self.operations:.1f}",
                f"clients asked                                      {self.total('asked'):.0f}",
                f"  of those, turned away with Retry-After           {self.total('refused'):.0f}",
                f"longest wait of a client, s                        {max(waits, default=0.0):.1f}",
            )
        )


async def run(
    *, processes: int, fault: str = "none", seconds: float = 0.0, lasts: float = 20.0, lifetime: float = 3600.0
) -> Outcome:
    """Start them at once, let them have their first tokens, then break the store for `lasts` seconds."""
    with tempfile.TemporaryDirectory() as directory:
        port = free_port()
        server = _server(directory, port)
        try:
            async with Issuer(answers_after=2.0).running() as issuer:
                plan = Plan(
                    directory, issuer.port, processes, identities=3, min_interval=1.25, redis=port, seconds=seconds
                )
                plan.lifetime = lifetime
                group = await Group.of(plan)
                group.go()
                results = asyncio.ensure_future(group.results())
                operations = await _operations(port, processes * plan.identities, issuer)
                await _until(lambda: len(issuer.arrivals) >= plan.identities)
                await asyncio.sleep(issuer.answers_after + 1.0)
                issuer.answers_after = 0.1
                began = time.monotonic()
                server = await _break(fault, server, directory, port, lasts)
                away = (began, time.monotonic() + SETTLED) if fault in {"kill", "stop", "full"} else (began, began)
                return Outcome(issuer, await results, away, operations)
        finally:
            server.kill()
            server.wait()


def _server(directory: str, port: int) -> subprocess.Popen[bytes]:
    server = subprocess.Popen(redis_command(Path(directory), port), stdout=subprocess.DEVNULL)
    answers(port)
    return server


async def _operations(port: int, waiting: int, issuer: Issuer) -> float:
    """What each that waits asks of the store in a second, while the first identity's answer is waited for."""
    await _until(lambda: bool(issuer.arrivals))
    client = Redis(port=port)

    async def asked() -> int:
        stats = await client.info("commandstats")
        return sum(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("eval", "set", "xread"))

    await asyncio.sleep(0.3)
    before, began = await asked(), time.monotonic()
    await asyncio.sleep(1.4)
    after = await asked()
    await client.aclose()
    return (after - before) / (time.monotonic() - began) / waiting


async def _break(
    fault: str, server: subprocess.Popen[bytes], directory: str, port: int, lasts: float
) -> subprocess.Popen[bytes]:
    client = Redis(port=port)
    match fault:
        case "kill":
            server.kill()
            server.wait()
            await asyncio.sleep(lasts)
            server = _server(directory, port)  # it comes back empty
        case "stop":
            os.kill(server.pid, signal.SIGSTOP)
            await asyncio.sleep(lasts)
            os.kill(server.pid, signal.SIGCONT)
        case "flush":
            await client.flushall()
        case "full":
            await client.config_set("maxmemory", 1)
            await asyncio.sleep(lasts)
            await client.config_set("maxmemory", 0)
    await client.aclose()
    return server


async def _until(condition) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 (another process does it)
            await asyncio.sleep(0.02)


def main() -> None:
    """Run, and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.tokens.many_hosts", description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=200)
    parser.add_argument("--fault", choices=FAULTS, default="none")
    parser.add_argument("--seconds", type=float, default=60.0, help="for which clients come")
    parser.add_argument("--lasts", type=float, default=30.0, help="seconds for which the store is away")
    parser.add_argument("--lifetime", type=float, default=60.0, help="of a token, in seconds")
    outcome = asyncio.run(run(**vars(parser.parse_args())))
    sys.stdout.write(f"{outcome.report()}\n")


if __name__ == "__main__":
    main()
