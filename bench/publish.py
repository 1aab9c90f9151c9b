"""Where the results go: bench/results/ always; README.md and docs/ after a complete run.

`python -m bench.publish` writes README.md and docs/ anew from bench/results/results.json, when only the tables changed.
"""

import json
from pathlib import Path

from bench import picture, report
from bench.peers.all import KINDS
from bench.record import Notebook

_ROOT = Path(__file__).parents[1]
_PANELS = {
    ("throughput", "32 connections, same"): "Plain HTTP upstream, one request over and over",
    ("throughput", "32 connections, varied"): "Plain HTTP upstream, each request with its own path and ids",
    ("tls", "32 connections, same"): "TLS upstream, one request over and over",
    ("tls", "32 connections, varied"): "TLS upstream, each request with its own path and ids",
}


def write(notebook: Notebook, environment: dict[str, str], labels: dict[str, str], *, published: bool) -> list[Path]:
    """Write everything; gives the files that were written."""
    folder = _ROOT / "bench" / "results"
    folder.mkdir(parents=True, exist_ok=True)
    tables = report.markdown(notebook, environment, labels)
    panels = [(title, rows) for case, title in _PANELS.items() if (rows := picture.bars(notebook, *case))]
    drawn = picture.draw(
        panels, labels, f"32 connections, small answers; {environment['processor']}; median, whiskers: all rounds"
    )
    files = {
        folder / "results.json": report.as_json(notebook, environment),
        folder / "results.md": tables,
        folder / "bench.svg": drawn,
    }
    if published:
        files[_ROOT / "docs" / "bench.svg"] = drawn
    for path, text in files.items():
        path.write_text(text, encoding="utf-8")
    written = list(files)
    if published:
        for path, text in (
            (_ROOT / "docs" / "performance.md", tables),
            (_ROOT / "README.md", report.short(notebook, labels)),
        ):
            if report.put(path, text):
                written.append(path)
    return written


def again() -> None:
    """The last run's figures in today's tables."""
    kept = json.loads((_ROOT / "bench" / "results" / "results.json").read_text(encoding="utf-8"))
    notebook = Notebook.read(kept["records"])
    measured = {record.peer for record in notebook.records}
    labels = {kind.name: kind.label for kind in KINDS if kind.name in measured}
    for path in write(notebook, kept["environment"], labels, published=True):
        print(f"written: {path}")


if __name__ == "__main__":
    again()
