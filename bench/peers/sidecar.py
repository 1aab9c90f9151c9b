"""This project, with the defaults that it ships: only what the job itself needs is configured."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from bench.fetch import fetch
from bench.machine import output_of
from bench.peers.kind import HttpKind, Target
from bench.processes import Command
from bench.site import BASE_PATH, HOST, Route, Site
from bench.tools import Toolbox

_HOW_BUILT = "import sidecar.proxy.h1 as m; print('pure Python' if m.__file__.endswith('.py') else 'compiled')"
_ROOT = Path(__file__).parents[2]


def configuration(site: Site, directory: Path, port: int) -> dict[str, Any]:
    """What a user would write for these upstreams; the admin listener is at the port after the proxy's."""
    return {
        "listen": f"{HOST}:{port}",
        "admin": {"listen": f"{HOST}:{port + 1}"},
        "credentials": {
            "bench": {
                "type": "client_credentials",
                "token_url": site.token_url,
                "client_id": site.client_id,
                "client_secret": site.client_secret,
            }
        },
        "routes": {route.name: _route(site, route) for route in site.routes},
        "token_store": {"type": "file", "directory": str(directory / "store")},
    }


def _route(site: Site, route: Route) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "prefix": route.prefix,
        "upstream": f"{'https' if route.tls else 'http'}://{route.authority}{BASE_PATH}",
        "credential": "bench",
        "audience": "bench.example",
    }
    return settings | ({"tls": {"ca_file": str(site.ca_file)}} if route.tls else {})


class Sidecar(HttpKind):
    name = "sidecar"
    label = "camunda-sidecar"

    def __init__(self) -> None:
        self._program = ""

    def find(self, tools: Toolbox) -> str | None:  # noqa: ARG002 (the Protocol's)
        return self._find_in(Path(sys.executable).parent)

    def _find_in(self, folder: Path) -> str | None:
        program = shutil.which("camunda-sidecar", path=str(folder))
        if program is None:
            return None
        self._program = program
        kind = output_of([str(folder / "python"), "-P", "-c", _HOW_BUILT]).splitlines()[-1:]
        version = output_of([program, "--version"]).split()[-1:]
        return " ".join([*version, *kind])

    def command(self, site: Site, directory: Path, port: int, workers: int) -> Command:
        path = directory / "config.yaml"
        path.write_text(yaml.safe_dump(configuration(site, directory, port)))
        more = ["--workers", str(workers)] if workers > 1 else []
        return Command([self._program, "run", "--config", str(path), *more], {})

    def ready(self, port: int) -> bool:
        try:
            return fetch(Target(port + 1, "", {}), "GET", "/readyz").status == 200
        except ConnectionError:
            return False


class CompiledSidecar(Sidecar):
    """The same program with its data plane compiled, as `make compiled` builds it."""

    name = "compiled"
    label = "camunda-sidecar, compiled"

    def find(self, tools: Toolbox) -> str | None:
        if tools.allowed and shutil.which("cc") and shutil.which("make"):
            done = subprocess.run(
                ["make", "--silent", "compiled"], cwd=_ROOT, capture_output=True, text=True, check=False
            )
            if done.returncode:
                tools.say(f"`make compiled` failed: {' / '.join((done.stdout + done.stderr).splitlines()[-12:])}")
                return None
        version = self._find_in(_ROOT / ".venv-compiled" / "bin")
        return version if version and version.endswith("compiled") else None
