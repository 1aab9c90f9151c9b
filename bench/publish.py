"""Where the results go: bench/results/ always; README.md and docs/ after a complete run."""

from pathlib import Path

from bench import picture, report
from bench.record import Notebook

_ROOT = Path(__file__).parents[1]
_CASE = "32 connections, varied"


def write(notebook: Notebook, environment: dict[str, str], labels: dict[str, str], *, published: bool) -> list[Path]:
    """Write everything; gives the files that were written."""
    folder = _ROOT / "bench" / "results"
    folder.mkdir(parents=True, exist_ok=True)
    tables = report.markdown(notebook, environment, labels)
    panels = [
        (title, rows)
        for section, title in (("throughput", "Plain HTTP upstream"), ("tls", "TLS upstream"))
        if (rows := picture.bars(notebook, section, _CASE))
    ]
    drawn = picture.draw(
        panels, labels, f"{_CASE} requests, small answers; {environment['processor']}; median, whiskers: all rounds"
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
