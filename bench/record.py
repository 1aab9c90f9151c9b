"""What the sections report: one flat list, so that one table maker serves them all."""

from dataclasses import asdict, dataclass, field
from typing import Any, Self

from bench.stats import Figure, figure


@dataclass(slots=True)
class Record:
    """One figure of one peer in one case."""

    section: str
    case: str
    metric: str
    peer: str
    rounds: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    """Why rounds are missing."""

    @property
    def figure(self) -> Figure | None:
        return figure(self.rounds) if self.rounds else None

    def as_json(self) -> dict[str, object]:
        found = self.figure
        return asdict(self) | ({"figure": found.as_json()} if found else {})


class Notebook:
    """Collects records; asking for one that is not there yet makes it."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    @classmethod
    def read(cls, records: list[dict[str, Any]]) -> Self:
        """What `Record.as_json` gave."""
        notebook = cls()
        for one in records:
            known = {name: one[name] for name in ("section", "case", "metric", "peer", "rounds", "faults")}
            notebook.records.append(Record(**known))
        return notebook

    def record(self, section: str, case: str, metric: str, peer: str) -> Record:
        key = (section, case, metric, peer)
        for record in self.records:
            if (record.section, record.case, record.metric, record.peer) == key:
                return record
        self.records.append(Record(*key))
        return self.records[-1]

    def add(self, section: str, case: str, peer: str, **metrics: float) -> None:
        """A round's figures; a metric's name is its keyword with spaces for underscores."""
        for metric, value in metrics.items():
            self.record(section, case, metric.replace("_", " "), peer).rounds.append(value)

    def fault(self, section: str, case: str, peer: str, metric: str, faults: list[str]) -> None:
        self.record(section, case, metric.replace("_", " "), peer).faults.extend(faults)
