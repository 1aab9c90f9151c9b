"""Latency in an open loop, at rates that every proxy can bear: half of its own best, and one that is common to all.

Half of a peer's own best is cut to what the load can send without being late itself; the rate is part of the result.
"""

from dataclasses import dataclass

from bench.arena import Arena, Peer
from bench.options import Options
from bench.processes import BenchError
from bench.record import Notebook

_CONNECTIONS = 32
_PERCENTILES = ("p50", "p99", "p99.9")
_WHAT_ALL_CAN_BEAR = 8000.0
_SHARE = 0.4
"""Of the most that the load can send to the origin with nobody between."""

Found = dict[str, object]


def run(arena: Arena, peers: list[Peer], options: Options, notebook: Notebook) -> None:
    section = _Section(arena, peers, notebook, options.rounds, 2 if options.quick else 8)
    for route in ("plain", "tls"):
        section.run(route)


@dataclass(frozen=True, slots=True)
class _Section:
    arena: Arena
    peers: list[Peer]
    notebook: Notebook
    rounds: int
    seconds: int

    def run(self, route: str) -> None:
        proxies = [peer for peer in self.peers if peer.name != "direct"]
        best = {peer.name: self._best(peer, route) for peer in proxies}
        most = self._most()
        half = {name: min(rate / 2, most) for name, rate in best.items()}
        self._measure(f"half its own rate, {route}", route, proxies, half)
        common = min(best.get("envoy", _WHAT_ALL_CAN_BEAR) / 2, most)
        fit = [peer for peer in proxies if best[peer.name] > 1.25 * common]
        self._measure(f"half of Envoy's rate, {route}", route, fit, dict.fromkeys(best, common))

    def _best(self, peer: Peer, route: str) -> float:
        """Requests a second at 32 connections: the throughput section's figure, or a second's measurement."""
        wanted = ("throughput" if route == "plain" else "tls", "requests/s", peer.name)
        for record in self.notebook.records:
            known = (record.section, record.metric, record.peer) == wanted and record.figure
            if known and record.case == f"{_CONNECTIONS} connections, varied":
                return known.median
        return self.arena.load(peer, route, connections=_CONNECTIONS, seconds=1, shape="varied", warm=1).result.rate

    def _most(self) -> float:
        """What the load may be asked for: it is far from its own limit then."""
        direct = self._direct()
        if direct is None:
            return _WHAT_ALL_CAN_BEAR
        found = self._once(direct, "plain", 200_000.0, seconds=0.3)
        return _SHARE * float(str(found["most"])) if isinstance(found, dict) else _WHAT_ALL_CAN_BEAR

    def _direct(self) -> Peer | None:
        return next((peer for peer in self.peers if peer.name == "direct"), None)

    def _measure(self, case: str, route: str, peers: list[Peer], rates: dict[str, float]) -> None:
        direct = self._direct()
        for number in range(self.rounds):
            for peer in peers if number % 2 == 0 else reversed(peers):
                # The same rate without a proxy, right beside it: the difference is what the proxy adds.
                rate = rates[peer.name]
                base = self._once(direct, "plain", rate, seconds=self.seconds) if direct else None
                self._note(case, peer.name, rate, self._once(peer, route, rate, seconds=self.seconds), base)
        self.arena.say(summary(self.notebook, case))

    def _once(self, peer: Peer, route: str, rate: float, *, seconds: float) -> Found | str:
        how = {"rate": rate, "seconds": seconds, "connections": _CONNECTIONS}
        try:
            found = self.arena.client("openloop", peer, route, timeout=seconds + 60, **how)
        except BenchError as error:
            return str(error)
        return str(found["faults"]) if found["faults"] else found

    def _note(self, case: str, peer: str, rate: float, found: Found | str, base: Found | str | None) -> None:
        if isinstance(found, str):
            self.notebook.fault("latency", case, peer, "p50 µs", [found])
            return
        times: dict[str, float] = found["microseconds"]  # type: ignore[assignment]
        self.notebook.add("latency", case, peer, **{f"{name} µs": times[name] for name in _PERCENTILES})
        if isinstance(base, dict):
            without: dict[str, float] = base["microseconds"]  # type: ignore[assignment]
            added = {f"{name} added µs": times[name] - without[name] for name in _PERCENTILES}
            self.notebook.add("latency", case, peer, **added)
        lag = float(str(found["lag_p99"]))
        self.notebook.add("latency", case, peer, **{"rate, requests/s": rate, "the load's own p99 lag µs": lag})


def summary(notebook: Notebook, case: str) -> str:
    lines = [f"latency: {case}"]
    mine = [r for r in notebook.records if (r.section, r.case) == ("latency", case)]
    for peer in dict.fromkeys(r.peer for r in mine):
        cells = [f"{r.metric} {r.figure.median:,.0f}" for r in mine if r.peer == peer and r.figure]
        faults = [fault for r in mine if r.peer == peer for fault in r.faults]
        lines.append(f"  {peer:<8} {'  '.join(cells)} {'; '.join(faults)}".rstrip())
    return "\n".join(lines)
