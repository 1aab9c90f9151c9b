"""The import arrows of the design, and modules that stand on their own."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "sidecar"

# A room may import from itself, from the foundation, and from these. `service` composes, `cli` starts it, `workers` as
# several processes; these, and the stand-in for whoever shows the product, are imported by nobody else.
FOUNDATION = {"errors", "clock", "secret", "background", "build", "dial", "descriptors"}
ROOMS: dict[str, set[str]] = {
    "errors": set(),
    "clock": set(),
    "background": {"clock"},
    "build": set(),
    "dial": {"clock", "background"},
    "descriptors": set(),
    "listener": {"config", "systemd"},
    "listeners": {"config", "listener", "systemd"},
    "systemd": {"config"},
    "traces": {"proxy"},
    "secret": {"errors", "clock"},
    "config": set(),
    "tokens": {"config"},
    "credentials": {"config", "tokens", "proxy.authorizer"},
    "telemetry": {"config", "tokens"},
    "grpc": {"config", "telemetry.http", "proxy"},
    "proxy": {"config", "listener", "telemetry.http"},
    "authorize": {"config", "listener", "telemetry.http", "proxy", "admin.access", "admin.serving", "admin.web"},
    "admin": {"config", "listener", "telemetry", "tokens", "proxy"},
    "demo": {"config"},
    "status_report": {"config", "tokens", "credentials", "telemetry", "proxy", "admin"},
    "service": {
        "authorize",
        "systemd",
        "traces",
        "grpc",
        "status_report",
        "listener",
        "listeners",
        "config",
        "tokens",
        "credentials",
        "telemetry",
        "proxy",
        "admin",
    },
    "workers": {"systemd", "service", "listener", "listeners", "config", "telemetry", "admin"},
    "cli": {
        "config",
        "tokens",
        "credentials",
        "telemetry",
        "proxy",
        "admin",
        "demo",
        "service",
        "workers",
        "listeners",
    },
    "__main__": {"cli"},
    "__init__": set(),
}


def modules() -> Iterator[tuple[str, Path]]:
    """Every module, by its name below `sidecar`."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if len(parts) > 1 and parts[-1] == "__init__":
            parts = parts[:-1]
        yield ".".join(parts), path


def imported(path: Path) -> Iterator[str]:
    """The modules of `sidecar` that a file imports anywhere in it, below `sidecar`; for types alone too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the arrows"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name.removeprefix("sidecar.") for name in names if name.split(".")[0] == "sidecar")


def room_of(name: str) -> str:
    return name.partition(".")[0]


def allows(room: str, name: str) -> bool:
    """Whether something in `room` may import `name`."""
    granted = ROOMS[room] | {room, "__version__"} | (set() if room in FOUNDATION else FOUNDATION)
    return any(name == grant or name.startswith(f"{grant}.") for grant in granted)


MODULES = dict(modules())


@pytest.mark.parametrize("module", MODULES)
def test_arrows_point_one_way(module: str) -> None:
    """Errors ← config ← tokens ← credentials ← service; proxy has its Protocol for tokens; cli alone has service."""
    room = room_of(module)
    assert room in ROOMS, f"{room} is a new room: say in this test what it may import"
    assert [name for name in imported(MODULES[module]) if not allows(room, name)] == []


def test_no_module_imports_itself_by_a_roundabout_way() -> None:
    """There is an order in which the modules can be read; what is imported for types alone counts too."""
    uses = {module: set(map(module_of, imported(path))) - {module} for module, path in MODULES.items()}

    def reached(module: str) -> set[str]:
        found: set[str] = set()
        left = [module]
        while left:
            left += (more := uses.get(left.pop(), set()) - found)
            found |= more
        return found

    assert [module for module in MODULES if module in reached(module)] == []


def module_of(name: str) -> str:
    """The module that an imported name stands in."""
    while name not in MODULES and "." in name:
        name = name.rpartition(".")[0]
    return name


def test_only_config_reads_yaml() -> None:
    """One room knows what the user wrote, and how; nobody else parses YAML or looks into the environment."""
    readers = [
        module
        for module, path in MODULES.items()
        if room_of(module) not in {"config", "cli", "demo"}
        and any(word in path.read_text(encoding="utf-8") for word in ("import yaml", "os.environ", "getenv"))
    ]
    assert readers == [
        "grpc",
        "systemd",
        "telemetry.logs",
        "traces",
    ]  # GRPC_VERBOSITY is grpcio's, NO_COLOR every terminal's


def test_only_clock_reads_the_time() -> None:
    """Time comes from `sidecar/clock.py` and nowhere else, so that every wait can be tested without waiting."""
    words = ("time.time(", "time.monotonic(", "asyncio.sleep(", "datetime.now(", "time.sleep(", "utcnow(")
    readers = [
        f"{module}: {word}"
        for module, path in MODULES.items()
        if room_of(module) != "clock"
        for word in words
        if word in path.read_text(encoding="utf-8")
    ]
    assert readers == []


IMPORT_EACH = """
import os, sys, traceback
import aiohttp, cryptography, msgspec, prometheus_client, structlog  # once, and not in each child
for name in sys.argv[1:]:
    pid = os.fork()
    if not pid:
        try:
            __import__(name)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if os.waitpid(pid, 0)[1]:
        print(name)
"""


@pytest.mark.parametrize("room", sorted({room_of(module) for module in MODULES} - {"__main__"}))
def test_every_module_is_imported_alone(room: str) -> None:
    """Each module imports first and alone, with warnings as errors: no cycle, no hidden order."""
    names = [f"sidecar.{module}" for module in MODULES if room_of(module) == room]
    command = [sys.executable, "-W", "error", "-c", IMPORT_EACH, *names]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
