"""Resident memory: idle, and over as many requests as a host makes in an hour; does it grow?"""

from bench.arena import Arena, Peer
from bench.options import Options
from bench.peers.kind import Kind
from bench.processes import BenchError
from bench.record import Notebook

_AN_HOUR = 360_000
"""Requests: a hundred a second. No two have the same head, so that a cache of heads shows."""
_PATIENCE = 90
"""Seconds of load at most: the slowest peers make fewer requests."""
_CHURN = 500
"""New connections for a single request each, after every quarter."""


def run(arena: Arena, kinds: list[Kind], options: Options, notebook: Notebook) -> None:
    for kind in kinds:
        if kind.name in ("direct", "relay"):
            continue
        try:
            peer = arena.enter(kind, suffix="-memory")
        except BenchError as error:
            arena.say(f"left out: {error}")
            continue
        try:
            _measure(arena, peer, _AN_HOUR // 10 if options.quick else _AN_HOUR, notebook)
        except (BenchError, OSError) as error:
            notebook.fault("memory", "an hour's requests", kind.name, "MB at the end", [str(error)])
        arena.processes.stop(peer.process)
        mine = [r for r in notebook.records if r.section == "memory" and r.peer == kind.name]
        cells = [f"{r.metric} {r.figure.median:,.1f}" for r in mine if r.figure]
        arena.say(f"memory: {kind.name:<8} {'; '.join(cells + [fault for r in mine for fault in r.faults])}")


def _measure(arena: Arena, peer: Peer, wanted: int, notebook: Notebook) -> None:
    def megabytes() -> float:
        return peer.process.memory().rss / 1e6

    case = "an hour's requests"
    notebook.add("memory", case, peer.name, MB_idle=megabytes())
    made, spent, quarters = 0, 0, []
    for quarter in range(1, 5):
        while made < wanted * quarter // 4 and spent < _PATIENCE * quarter // 4:
            measured = arena.load(peer, "plain", connections=32, seconds=2, shape="varied")
            if measured.faults:
                raise BenchError("; ".join(measured.faults))
            made += measured.result.requests
            spent += 2
        for _ in range(_CHURN):
            arena.fetch(peer, "plain", "/churn")
        quarters.append(megabytes())
    growth = quarters[-1] - quarters[0]
    notebook.add("memory", case, peer.name, requests=made, MB_at_a_quarter=quarters[0], MB_at_the_end=quarters[-1])
    notebook.add("memory", case, peer.name, MB_grown_since_a_quarter=growth)
