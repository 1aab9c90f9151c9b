"""Processes that are pinned, measured and, whatever happens, ended.

Each runs in a session of its own: one that forks (nginx's workers, Envoy's threads) is measured and ended whole. Each
is also told by the kernel to end when this one dies, so that nothing is left behind by a `kill -9` either.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

_TICKS = os.sysconf("SC_CLK_TCK")


class BenchError(Exception):
    """The benchmark cannot go on; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes. `pss` counts a page that n processes share as 1/n of a page."""

    rss: int
    pss: int


@dataclass(frozen=True, slots=True)
class Command:
    """What to run."""

    argv: list[str]
    env: dict[str, str]
    cwd: Path | None = None


def parse_stat(text: str) -> tuple[int, float]:
    """Session id and CPU seconds of a line of /proc/PID/stat; the name in it may hold anything, `)` too."""
    fields = text.rpartition(")")[2].split()
    return int(fields[3]), (int(fields[11]) + int(fields[12])) / _TICKS


def parse_rollup(text: str) -> Memory:
    """Memory from /proc/PID/smaps_rollup."""
    sizes = {
        name: int(rest.split()[0]) << 10 for name, _, rest in (line.partition(":") for line in text.splitlines()[1:])
    }
    return Memory(sizes.get("Rss", 0), sizes.get("Pss", 0))


class Process:
    """A running command with all that it forked."""

    def __init__(self, name: str, popen: "subprocess.Popen[bytes]", log: Path) -> None:
        self.name = name
        self.popen = popen
        self.log = log

    def pids(self) -> list[int]:
        """This process and its descendants: everything in its session."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with suppress(OSError):
                    if parse_stat((entry / "stat").read_text())[0] == self.popen.pid:
                        found.append(int(entry.name))
        return found

    def cpu_seconds(self) -> float:
        """User and system time of all of them, threads included."""
        total = 0.0
        for pid in self.pids():
            with suppress(OSError):
                total += parse_stat(Path("/proc", str(pid), "stat").read_text())[1]
        return total

    def memory(self) -> Memory:
        parts = []
        for pid in self.pids():
            with suppress(OSError):
                parts.append(parse_rollup(Path("/proc", str(pid), "smaps_rollup").read_text()))
        return Memory(sum(part.rss for part in parts), sum(part.pss for part in parts))

    def check_alive(self) -> None:
        if self.popen.poll() is not None:
            words = self.log.read_text(errors="replace").strip().splitlines()[-2:]
            raise BenchError(f"{self.name} ended with {self.popen.returncode}: {' / '.join(words)[-600:]}")

    def stop(self, patience: float = 5.0) -> None:
        """SIGTERM, then SIGKILL, to the whole session."""
        with suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self.popen.wait(patience)
        with suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait()


class Processes:
    """Everything that was started, ended at the end of the `with`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._running: list[Process] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Ctrl-C while ending must not leave the rest running.
        while self._running:
            with suppress(KeyboardInterrupt):
                self.stop(self._running[-1], patience=2.0)

    def start(self, name: str, command: Command, cores: tuple[int, ...]) -> Process:
        """Start on these cores; output goes to a log file."""
        pinned = ["setpriv", "--pdeathsig", "TERM", "taskset", "-c", ",".join(map(str, cores))]
        log = self._directory / f"{name}.log"
        with log.open("wb") as output:
            popen = subprocess.Popen(
                [*pinned, *command.argv],
                env=os.environ | command.env,
                cwd=command.cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        process = Process(name, popen, log)
        self._running.append(process)
        return process

    def run(self, name: str, command: Command, cores: tuple[int, ...], *, timeout: float) -> str:
        """Run to its end and give what it printed.

        Raises:
            BenchError: it failed, or took longer than `timeout` seconds.
        """
        process = self.start(name, command, cores)
        try:
            process.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise BenchError(f"{name} did not end within {timeout:.0f} s") from None
        finally:
            self.stop(process)
        if process.popen.returncode:
            process.check_alive()
        return process.log.read_text(errors="replace")

    def stop(self, process: Process, patience: float = 5.0) -> None:
        process.stop(patience)
        if process in self._running:
            self._running.remove(process)


def eventually(what: str, check: Callable[[], bool], *, patience: float = 20.0) -> None:
    """Ask `check()` until it is true.

    Raises:
        BenchError: it was not within `patience` seconds; the error has the last exception's text.
    """
    end = time.monotonic() + patience
    last = ""
    while time.monotonic() < end:
        try:
            if check():
                return
        except OSError as error:
            last = f": {error}"
        time.sleep(0.005)
    raise BenchError(f"{what} within {patience:.0f} s: no{last}")
