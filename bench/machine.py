"""What machine this is, which core the proxies get and which the load gets, and what a result says about both."""

import os
import platform
import resource
import socket
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Cores:
    """Where the processes run. The load and the origin share what is left: they never share the proxy's core."""

    proxy: tuple[int, ...]
    load: tuple[int, ...]

    @property
    def all(self) -> tuple[int, ...]:
        return self.proxy + self.load


def split_cores(available: list[int], workers: int = 1) -> Cores:
    """The first `workers` cores are the proxy's, the rest the load's; the least there can be are two.

    Raises:
        ValueError: there are too few cores for a proxy of its own.
    """
    if len(available) <= workers:
        message = f"{workers + 1} cores are needed ({workers} for the proxy), this machine offers {len(available)}"
        raise ValueError(message)
    return Cores(tuple(available[:workers]), tuple(available[workers:]))


def usable_cores() -> list[int]:
    return sorted(os.sched_getaffinity(0))


def raise_file_limit() -> int:
    """As many open files as this user may have, for the peers too, which inherit it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def free_port(host: str = "127.0.0.1") -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def _first_line(path: str, prefix: str) -> str:
    try:
        lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "unknown"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(prefix)), "unknown")


def output_of(argv: list[str]) -> str:
    """What a command prints (both streams), or nothing where it cannot run."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (done.stdout + done.stderr).strip()


def load_average() -> str:
    """Others' work on the same cores shows here."""
    return " ".join(f"{load:.2f}" for load in os.getloadavg())


def environment(cores: Cores) -> dict[str, str]:
    """What somebody needs to know to judge the figures."""
    return {
        "processor": _first_line("/proc/cpuinfo", "model name"),
        "cores": f"{len(cores.all)}; the proxy on {cores.proxy}, load and origin on {cores.load}",
        "memory": _first_line("/proc/meminfo", "MemTotal"),
        "kernel": platform.release(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "uvloop": metadata.version("uvloop"),
        "aiohttp": metadata.version("aiohttp"),
        "load average at the start": load_average(),
        "command": " ".join(["python -m bench", *sys.argv[1:]]),
    }
