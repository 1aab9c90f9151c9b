"""Closed-loop load from wrk: as fast as it goes, and every answer checked."""

import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bench.peers.kind import Target
from bench.processes import BenchError, Command, Processes

Shape = Literal["same", "varied", "post"]
SHAPES: dict[Shape, str] = {
    "same": "the same GET over and over",
    "varied": "GETs of unique path, X-Request-ID and traceparent",
    "post": "POSTs of an 85-byte JSON body, unique in the same way",
}

_runs = itertools.count(1)
_SCRIPT = Path(__file__).with_name("load.lua")


@dataclass(frozen=True, slots=True)
class Result:
    """What one run of wrk saw."""

    requests: int
    seconds: float
    bytes: int
    errors: dict[str, int]
    p50: float
    """Milliseconds, of the closed loop: no more than a hint."""
    p99: float

    @property
    def rate(self) -> float:
        return self.requests / self.seconds


def parse(text: str) -> Result:
    """
    Raises:
        BenchError: wrk printed no figures.
    """
    line = next((line for line in reversed(text.splitlines()) if line.startswith('{"requests"')), None)
    if line is None:
        raise BenchError(f"wrk printed no figures but: {text[-500:]!r}")
    fields = json.loads(line)
    errors = {name: fields[name] for name in ("connect", "read", "write", "status", "timeout") if fields[name]}
    return Result(
        requests=fields["requests"],
        seconds=fields["microseconds"] / 1e6,
        bytes=fields["bytes"],
        errors=errors,
        p50=fields["p50"] / 1e3,
        p99=fields["p99"] / 1e3,
    )


def faults(result: Result, *, connections: int, answer_bytes: int, counted: int) -> list[str]:
    """What is wrong with a run: errors, answers of another length, requests that never reached the origin.

    `answer_bytes` is the length of an answer that was checked byte by byte; heads may differ by a few digits
    (Envoy's service time), and what is in flight at the end is read in part. `counted` is the origin's own count.
    """
    found = [f"{count} {name} errors" for name, count in result.errors.items()]
    if not result.requests:
        return [*found, "no request was answered"]
    slack = result.requests * 4 + (connections + 1) * answer_bytes
    if abs(result.bytes - result.requests * answer_bytes) > slack:
        found.append(f"{result.bytes / result.requests:.1f} bytes an answer instead of {answer_bytes}")
    if counted < result.requests:
        found.append(f"{result.requests} answers, but only {counted} requests reached the origin")
    return found


def run(
    processes: Processes, program: Path, env: dict[str, str], cores: tuple[int, ...], target: Target, **how: object
) -> Result:
    """One run. `how`: connections, seconds, shape.

    Raises:
        BenchError: wrk failed.
    """
    connections, seconds, shape = int(str(how["connections"])), float(str(how["seconds"])), str(how["shape"])
    threads = max(1, min(len(cores), connections))
    headers = [part for name, value in target.headers.items() for part in ("-H", f"{name}: {value}")]
    # wrk's -d takes whole seconds.
    argv = [
        str(program),
        "-t",
        str(threads),
        "-c",
        str(connections),
        "-d",
        f"{max(1, round(seconds))}s",
        "--timeout",
        "30s",
    ]
    script = ["-s", str(_SCRIPT), target.url, "--", shape, target.base, str(next(_runs))]
    command = Command([*argv, *headers, *script], env)
    return parse(processes.run("wrk", command, cores, timeout=seconds + 60))
