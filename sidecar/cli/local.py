"""This module finds the sidecars that run on this machine as this user, by their command lines in /proc."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from sidecar.config import admin_address
from sidecar.config.load import ADMIN_VARIABLE
from sidecar.config.settings import Address
from sidecar.errors import SidecarError

_PROC = Path("/proc")
_OPTIONS = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
"""Those of `run` that say where the sidecar can be asked."""
_OPTIONS.add_argument("--config", "-c")
_OPTIONS.add_argument("--admin-listen")


@dataclass(frozen=True, slots=True)
class LocalSidecar:
    """A process that serves, and the address of its admin listener."""

    pid: int
    admin: Address


class NoSuchSidecarError(SidecarError):
    """There is no sidecar, or there are several."""


def only_sidecar() -> LocalSidecar:
    """Return the only sidecar that runs here.

    Raises:
        NoSuchSidecarError: there is none, or there are several.
    """
    found = list(local_sidecars())
    if len(found) == 1:
        return found[0]
    several = ", ".join(f"pid {each.pid} with admin.listen {each.admin}" for each in found)
    raise NoSuchSidecarError(
        f"Several sidecars of this user run here: {several}. Name one by --admin."
        if found
        else "No sidecar of this user runs here. Start one with: camunda-sidecar run"
    )


def local_sidecars() -> Iterator[LocalSidecar]:
    """Return every sidecar of this user, without this process itself and without workers."""
    pids = (int(entry.name) for entry in _PROC.glob("[0-9]*"))
    serving = {pid: arguments for pid in pids if (arguments := _run_arguments(pid)) is not None}
    for pid, arguments in sorted(serving.items()):
        if pid != os.getpid() and _parent(pid) not in serving:
            # What can no longer be read belongs to a process that has gone, or to a file that has changed.
            with suppress(OSError, SidecarError):
                yield LocalSidecar(pid, _admin(pid, arguments))


def _strings(pid: int, name: str) -> list[str]:
    return (_PROC / str(pid) / name).read_bytes().decode(errors="surrogateescape").split("\0")[:-1]


def _run_arguments(pid: int) -> list[str] | None:
    """Return what stands after `run` on the command line, or None where the process is no sidecar that serves."""
    try:
        words = _strings(pid, "cmdline")
    except OSError:
        return None
    for place, (name, command) in enumerate(pairwise(words)):
        is_program = Path(name).name == "camunda-sidecar" or words[place - 1 : place + 1] == ["-m", "sidecar"]
        if is_program and command == "run":
            return words[place + 2 :]
    return None


def _parent(pid: int) -> int:
    try:
        # The name before it may have spaces and parentheses of its own.
        return int((_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _admin(pid: int, arguments: list[str]) -> Address:
    environ = dict(entry.split("=", 1) for entry in _strings(pid, "environ") if "=" in entry)
    given, _ = _OPTIONS.parse_known_args(arguments)
    if given.admin_listen is not None:
        environ[ADMIN_VARIABLE] = given.admin_listen
    directory = (_PROC / str(pid) / "cwd").readlink()
    config = given.config and directory / given.config
    if environ.get("CAMUNDA_SIDECAR_CONFIG"):
        environ["CAMUNDA_SIDECAR_CONFIG"] = str(directory / environ["CAMUNDA_SIDECAR_CONFIG"])
    return admin_address(config, environ)
