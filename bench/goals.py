"""What DESIGN's goals ask for, beside what this run reached."""

from collections.abc import Iterator
from dataclasses import dataclass

from bench.record import Notebook, Record
from bench.stats import Figure, ratio

_MIDDLE = "32 connections"


@dataclass(frozen=True, slots=True)
class Goal:
    """`at_least` says in which direction the target lies."""

    name: str
    target: float
    unit: str
    at_least: bool
    reached: Figure

    @property
    def met(self) -> bool:
        return self.reached.median >= self.target if self.at_least else self.reached.median <= self.target


def goals(notebook: Notebook) -> list[Goal]:
    """Those of which this run measured both sides."""
    return [*_throughput(notebook), *_latency(notebook), *_bodies(notebook), *_alone(notebook)]


def _find(notebook: Notebook, section: str, case: str, metric: str, peer: str) -> Record | None:
    wanted = (section, case, metric, peer)
    return next((r for r in notebook.records if (r.section, r.case, r.metric, r.peer) == wanted and r.rounds), None)


def _cases(notebook: Notebook, section: str) -> list[str]:
    return list(dict.fromkeys(record.case for record in notebook.records if record.section == section))


def _compare(notebook: Notebook, section: str, case: str, metric: str, peer: str) -> Figure | None:
    ours, theirs = (_find(notebook, section, case, metric, name) for name in ("sidecar", peer))
    return ratio(ours.rounds, theirs.rounds) if ours and theirs else None


def _throughput(notebook: Notebook) -> Iterator[Goal]:
    for section, what, targets in (
        ("throughput", "plain", {"haproxy": 0.85, "envoy": 2.5}),
        ("tls", "TLS", {"haproxy": 0.8, "envoy": 2.0}),
    ):
        for case in _cases(notebook, section):
            for peer, target in targets.items() if case.startswith(_MIDDLE) else ():
                found = _compare(notebook, section, case, "requests/s", peer)
                if found:
                    yield Goal(
                        f"requests/s, {what}, {case}, to {peer}'s", target, "times", at_least=True, reached=found
                    )


def _latency(notebook: Notebook) -> Iterator[Goal]:
    for case in _cases(notebook, "latency"):
        found = _compare(notebook, "latency", case, "p99 added µs", "envoy")
        if found:
            yield Goal(f"p99 added latency, {case}, to envoy's", 1.0, "times", at_least=False, reached=found)


def _bodies(notebook: Notebook) -> Iterator[Goal]:
    for case in _cases(notebook, "bodies"):
        found = _compare(notebook, "bodies", case, "MB/s", "nginx")
        if found:
            yield Goal(f"{case}, to nginx's", 1.0, "times", at_least=True, reached=found)


def _alone(notebook: Notebook) -> Iterator[Goal]:
    for section, case, metric, name, target, unit in (
        ("memory", "an hour's requests", "MB at the end", "resident after an hour's requests", 60.0, "MB"),
        ("connections", "10,000 idle", "KB a connection", "memory of an idle connection", 12.0, "KB"),
        ("startup", "cold", "ms to ready", "start to ready", 600.0, "ms"),
    ):
        record = _find(notebook, section, case, metric, "sidecar")
        if record and record.figure:
            yield Goal(name, target, unit, at_least=False, reached=record.figure)
    one, two = (_find(notebook, "workers", case, "requests/s", "sidecar") for case in ("1 worker", "2 workers"))
    found = ratio(two.rounds, one.rounds) if one and two else None
    if found:
        yield Goal("two workers' requests/s, to one's", 1.8, "times", at_least=True, reached=found)
