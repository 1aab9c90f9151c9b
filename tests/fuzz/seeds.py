"""Where fuzzing begins: the corpora's own bytes, and what fuzzing has found that was worth keeping (`corpus/`)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.proxy.corpus import answers, requests

KEPT = Path(__file__).parent / "corpus"
MAX_SEED = 2048


def seeds(target: str) -> Iterator[bytes]:
    """For one target, small ones only."""
    for raw in _of_the_corpora(target):
        if len(raw) <= MAX_SEED:
            yield raw
    if (KEPT / target).is_dir():
        for file in sorted((KEPT / target).iterdir()):
            yield file.read_bytes()


def _of_the_corpora(target: str) -> Iterator[bytes]:
    asked, answered = [case.raw for case in requests.CASES], [case.raw for case in answers.CASES]
    match target:
        case "downstream":
            yield from (how + raw.replace(b"/operate", b"/op") for raw in asked for how in (b"\0", b"\1", b"\x90"))
        case "upstream":
            yield from (how + raw for raw in answered for how in (b"\0", b"\1", b"\x90"))
        case "request_head":
            yield from (raw.partition(b"\r\n\r\n")[0] + b"\r\n" for raw in asked)
        case "scanners":
            yield from (raw.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" for raw in (*asked, *answered))
        case "response_head":
            yield from (raw.partition(b"\r\n\r\n")[0] + b"\r\n" for raw in answered)
        case "target":
            yield from (raw.split(b" ")[1] for raw in asked if raw.count(b" ") > 1)
        case "location":
            lines = [raw.partition(b"Location: ")[2].partition(b"\r\n")[0] for raw in answered if b"Location: " in raw]
            yield from (line.replace(b"ORIGIN", b"origin.test") for line in lines)
        case "chunks":
            bodies = [raw.partition(b"\r\n\r\n")[2] for raw in asked + answered if b"hunked" in raw]
            yield from (how + body for body in bodies for how in (b"\0", b"\1", b"\x90"))
