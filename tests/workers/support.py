"""A sidecar of several processes, as its user has it."""

from __future__ import annotations

import http.client
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from tests.acceptance import support
from tests.acceptance.support import PATIENCE, Sidecar, ending, spawn, until, write

MANY = 48
"""Connections; that the kernel gives all of them to one of two workers happens once in 2^47 times."""


def plain(tmp_path: Path, upstream_url: str, **more):
    """One route called `api` with no credential; every request is logged."""
    return support.plain(tmp_path, upstream_url, logging={"access": "all"}, **more)


@contextmanager
def running(directory: Path, configuration, workers: int = 2, **env: str):
    """A sidecar with workers that are all ready."""
    file = write(directory / "config.yaml", configuration)
    with ending(spawn("run", "--config", str(file), "--workers", str(workers), env=env, file=file)) as sidecar:
        yield sidecar.started()


def children(sidecar: Sidecar) -> list[int]:
    """The workers' pids; in the order of their birth."""
    pid = sidecar.process.pid
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def ask_often(sidecar: Sidecar, path: str, times: int = MANY) -> list:
    """So many requests at once, each on a connection of its own."""
    with ThreadPoolExecutor(times) as pool:
        return list(pool.map(lambda _: sidecar.ask(path), range(times)))


def who_served(sidecar: Sidecar, path: str) -> dict[int, set[str]]:
    """By worker: the request ids with which it has answered requests for `path`."""
    served: dict[int, set[str]] = {}
    for line in sidecar.events:
        if line["event"] == "request" and line["path"] == path:
            served.setdefault(line["worker"], set()).add(line["request_id"])
    return served


def is_ready(sidecar: Sidecar) -> bool:
    """Whether it is; while the first worker is being replaced, the connection may be lost."""
    try:
        return sidecar.operate("/readyz").status == 200
    except (OSError, http.client.HTTPException):
        return False


def become_ready(sidecar: Sidecar) -> None:
    until(lambda: is_ready(sidecar), "all are ready", PATIENCE)
