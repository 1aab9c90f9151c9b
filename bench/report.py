"""The tables, as Markdown and JSON, and where they are put."""

import json
import re
from itertools import product
from pathlib import Path

from bench.goals import Goal, goals
from bench.record import Notebook, Record
from bench.stats import Figure, human, ratio

_BEGIN, _END = "<!-- bench:begin -->", "<!-- bench:end -->"
_TITLES = {
    "throughput": "Requests, plain HTTP upstream",
    "tls": "Requests, TLS upstream",
    "latency": "Latency in an open loop, 32 connections",
    "bodies": "Large bodies",
    "connections": "Many connections",
    "memory": "Resident memory",
    "startup": "Start",
    "lookup": "Handing out a token",
    "workers": "Workers",
}
_OURS = ("sidecar", "compiled")
_COMPARED = {
    "requests/s": ("haproxy", "envoy"),
    "CPU ms per 1,000 requests": ("haproxy", "envoy", "relay"),
    "MB/s": ("nginx",),
    "p99 added µs": ("envoy",),
}


def _unique(values: list[str]) -> list[str]:
    return list(dict.fromkeys(values))


def cell(found: Figure | None) -> str:
    """`12,345 ±3 %`; a dash where nothing was measured."""
    if found is None:
        return "-"
    spread = f" ±{found.spread:.0%}".replace("%", " %") if found.low != found.high else ""
    return f"{human(found.median)}{spread}"


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; all columns but the first are aligned right."""
    lines = [header, ["---"] + ["--:"] * (len(header) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _pivot(records: list[Record], labels: dict[str, str]) -> str:
    """Peers down, cases across, for one metric."""
    cases = _unique([record.case for record in records])
    peers = _unique([record.peer for record in records])
    found = {(record.peer, record.case): record for record in records}
    rows = [
        [labels.get(peer, peer), *(cell(r.figure if (r := found.get((peer, case))) else None) for case in cases)]
        for peer in peers
    ]
    return table([records[0].metric, *cases], rows)


def _ratios(records: list[Record], labels: dict[str, str]) -> str:
    """The sidecar to others, for one metric."""
    others = _COMPARED.get(records[0].metric, ())
    rounds = {(record.peer, record.case): record.rounds for record in records}
    cases = _unique([record.case for record in records])
    rows = []
    for ours, other in product(_OURS, others):
        cells = [ratio(rounds.get((ours, case), []), rounds.get((other, case), [])) for case in cases]
        if any(cells):
            name = f"{labels.get(ours, ours)} to {labels.get(other, other)}"
            rows.append([name, *(_range(found) for found in cells)])
    return table([f"ratio of {records[0].metric}", *cases], rows) if rows else ""


def _range(found: Figure | None) -> str:
    return f"{found.median:.2f} ({found.low:.2f} to {found.high:.2f})" if found else "-"


def goal_table(found: list[Goal]) -> str:
    rows = [
        [
            goal.name,
            "pure Python" if goal.ours == "sidecar" else "compiled",
            f"{'≥' if goal.at_least else '≤'} {goal.target:g} {goal.unit}",
            f"{human(goal.reached.median)} {goal.unit} ({human(goal.reached.low)} to {human(goal.reached.high)})",
            "yes" if goal.met else "**no**",
        ]
        for goal in found
    ]
    return table(["goal", "build", "target", "reached", "met"], rows)


def markdown(notebook: Notebook, environment: dict[str, str], labels: dict[str, str]) -> str:
    """Everything: goals, the tables of each section, what failed, and the environment."""
    parts = []
    reached = goals(notebook)
    if reached:
        parts += ["### Goals", goal_table(reached)]
    for section in _unique([record.section for record in notebook.records]):
        parts.append(f"### {_TITLES[section]}")
        mine = [record for record in notebook.records if record.section == section]
        for metric in _unique([record.metric for record in mine]):
            of_metric = [record for record in mine if record.metric == metric]
            parts.append(_pivot(of_metric, labels))
            ratios = _ratios(of_metric, labels)
            if ratios:
                parts.append(ratios)
        failed = [f"- {r.peer}, {r.case}: {fault}" for r in mine for fault in _unique(r.faults)]
        if failed:
            parts += ["Rounds that were thrown away:", "\n".join(failed)]
    parts += ["### Environment", table(["what", "value"], [[name, value] for name, value in environment.items()])]
    return "\n\n".join(parts) + "\n"


def short(notebook: Notebook, labels: dict[str, str]) -> str:
    """The README's table: the best and the worst case of plain and of TLS."""
    columns = (
        ("throughput", "32 connections, same", "requests/s", "plain, same"),
        ("throughput", "32 connections, varied", "requests/s", "plain, varied"),
        ("tls", "32 connections, same", "requests/s", "TLS, same"),
        ("tls", "32 connections, varied", "requests/s", "TLS, varied"),
        ("memory", "an hour's requests", "MB at the end", "resident MB"),
    )
    found = {(r.section, r.case, r.metric, r.peer): r.figure for r in notebook.records}
    peers = [peer for peer in labels if peer != "direct" and any(key[3] == peer for key in found)]
    rows = [[labels[peer], *(cell(found.get((*column[:3], peer))) for column in columns)] for peer in peers]
    return table(["requests/s on one core", *(column[3] for column in columns)], rows)


def as_json(notebook: Notebook, environment: dict[str, str]) -> str:
    records = [record.as_json() for record in notebook.records]
    return json.dumps({"environment": environment, "records": records}, indent=1) + "\n"


def between_markers(document: str, text: str) -> str:
    """The document with `text` between its markers; as it is, where it has none."""
    pattern = re.compile(f"{re.escape(_BEGIN)}.*?{re.escape(_END)}", re.DOTALL)
    return pattern.sub(lambda _: f"{_BEGIN}\n\n{text.strip()}\n\n{_END}", document)


def put(path: Path, text: str) -> bool:
    """Put `text` between a file's markers; says whether the file has them."""
    if not path.exists() or _BEGIN not in (document := path.read_text(encoding="utf-8")):
        return False
    path.write_text(between_markers(document, text), encoding="utf-8")
    return True
