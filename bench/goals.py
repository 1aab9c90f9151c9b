"""What the project wants to reach in a run, beside what this run reached."""

from collections.abc import Iterator
from dataclasses import dataclass

from bench.record import Notebook, Record
from bench.stats import Figure, ratio

_MIDDLE = "32 connections"
_TARGETS = {"throughput": {"haproxy": 0.85, "envoy": 2.0}, "tls": {"haproxy": 0.9, "envoy": 2.0}}
_SECTIONS = {"throughput": "plain", "tls": "TLS"}


@dataclass(frozen=True, slots=True)
class Goal:
    """`at_least` says in which direction the target lies."""

    name: str
    ours: str
    """Which of ours: `sidecar` is pure Python, `compiled` has its data plane compiled."""
    target: float
    unit: str
    at_least: bool
    reached: Figure

    @property
    def met(self) -> bool:
        return self.reached.median >= self.target if self.at_least else self.reached.median <= self.target


def goals(notebook: Notebook) -> list[Goal]:
    """Those of which this run measured both sides."""
    found = []
    for ours in ("sidecar", "compiled"):
        one = _Ours(notebook, ours)
        found += [*one.throughput(), *one.latency(), *one.bodies(), *one.alone()]
    return found


@dataclass(frozen=True, slots=True)
class _Ours:
    notebook: Notebook
    name: str

    def _find(self, section: str, case: str, metric: str, peer: str) -> Record | None:
        wanted = (section, case, metric, peer)
        found = (r for r in self.notebook.records if (r.section, r.case, r.metric, r.peer) == wanted and r.rounds)
        return next(found, None)

    def _cases(self, section: str) -> list[str]:
        return list(dict.fromkeys(record.case for record in self.notebook.records if record.section == section))

    def _compare(self, section: str, case: str, metric: str, peer: str) -> Figure | None:
        ours, theirs = (self._find(section, case, metric, name) for name in (self.name, peer))
        return ratio(ours.rounds, theirs.rounds) if ours and theirs else None

    def throughput(self) -> Iterator[Goal]:
        for section, what in _SECTIONS.items():
            for case in self._cases(section):
                for peer, target in _TARGETS[section].items() if case.startswith(_MIDDLE) else ():
                    found = self._compare(section, case, "requests/s", peer)
                    if found:
                        name = f"requests/s, {what}, {case}, to {peer}'s"
                        yield Goal(name, self.name, target, "times", at_least=True, reached=found)

    def latency(self) -> Iterator[Goal]:
        for case in self._cases("latency"):
            found = self._compare("latency", case, "p99 added µs", "envoy")
            if found:
                name = f"p99 added latency, {case}, to envoy's"
                yield Goal(name, self.name, 1.0, "times", at_least=False, reached=found)

    def bodies(self) -> Iterator[Goal]:
        for case in self._cases("bodies"):
            found = self._compare("bodies", case, "MB/s", "nginx")
            if found:
                yield Goal(f"MB/s, {case}, to nginx's", self.name, 1.0, "times", at_least=True, reached=found)

    def alone(self) -> Iterator[Goal]:
        for section, case, metric, name, target, unit in (
            ("memory", "an hour's requests", "MB at the end", "resident after an hour's requests", 60.0, "MB"),
            ("connections", "10,000 idle", "KB a connection", "memory of an idle connection", 12.0, "KB"),
            ("startup", "cold", "ms to ready", "start to ready", 350.0, "ms"),
        ):
            record = self._find(section, case, metric, self.name)
            if record and record.figure:
                yield Goal(name, self.name, target, unit, at_least=False, reached=record.figure)
        one, two = (self._find("workers", case, "requests/s", self.name) for case in ("1 worker", "2 workers"))
        found = ratio(two.rounds, one.rounds) if one and two else None
        if found:
            yield Goal("two workers' requests/s, to one's", self.name, 1.8, "times", at_least=True, reached=found)
