"""Runs a sidecar as a process, with a configuration for the stand-in."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, Process
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from sidecar.clock import Clock
from sidecar.demo.standin import AUDIENCES, StandIn
from sidecar.errors import SidecarError

START_TIMEOUT = 20.0
HOST = "127.0.0.1"


class DemoError(SidecarError):
    """The demo cannot go on; the detail says what the sidecar logged."""


class SidecarProcess:
    """`python -m sidecar run` in `directory`, which holds its configuration, secrets, tokens and log."""

    def __init__(self, directory: Path, standin: StandIn, clock: Clock, *, port: int, admin_port: int) -> None:
        self._clock = clock
        self._process: Process | None = None
        self.url = f"http://{HOST}:{port}"
        self.admin_url = f"http://{HOST}:{admin_port}"
        self.configuration = directory / "config.yaml"
        self._log = directory / "sidecar.log"
        for client in (standin.cluster_client, standin.organization_client):
            _write_private(directory / client.client_id, client.secret)
        configuration = configuration_for(standin, directory, port=port, admin_port=admin_port)
        _write_private(self.configuration, yaml.safe_dump(configuration, sort_keys=False))

    async def start(self) -> None:
        """Start it and wait until it is ready.

        Raises:
            DemoError: it ended, or was not ready in time.
        """
        deadline = self._clock.monotonic() + START_TIMEOUT
        env = {name: value for name, value in os.environ.items() if not _is_foreign(name)}
        command = (sys.executable, "-m", "sidecar", "run", "--config", str(self.configuration))
        with self._log.open("wb") as log:
            # In a session of its own: a Ctrl-C in the terminal is the demo's alone, which ends the sidecar in order.
            self._process = process = await asyncio.create_subprocess_exec(
                *command, stdin=DEVNULL, stdout=log, stderr=log, env=env, start_new_session=True
            )
        async with aiohttp.ClientSession() as session:
            while not await self._is_ready(session, process.pid):
                if process.returncode is not None or self._clock.monotonic() > deadline:
                    raise DemoError(f"The sidecar did not start:\n{self.log_tail()}")
                await self._clock.sleep(0.02)

    async def ended(self) -> int:
        """Wait until it ends by itself; return its exit code."""
        return await self._process.wait() if self._process is not None else 0

    async def stop(self) -> None:
        """Send SIGTERM, and SIGKILL if it takes much longer than its drain."""
        for number, patience in (signal.SIGTERM, 7.0), (signal.SIGKILL, None):
            with suppress(ProcessLookupError, TimeoutError):
                if self._process is not None:
                    self._process.send_signal(number)
                    await asyncio.wait_for(self._process.wait(), patience)

    def log_tail(self, lines: int = 15) -> str:
        """Return the last lines that it logged."""
        return "\n".join(self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])

    async def _is_ready(self, session: aiohttp.ClientSession, pid: int) -> bool:
        """Ask whether this very process is ready: another sidecar may have taken the port."""
        try:
            async with session.get(f"{self.admin_url}/status") as response:
                status = await response.json()
                return bool(status["ready"] and status["pid"] == pid)
        except (aiohttp.ClientError, OSError, KeyError, ValueError):
            return False


def configuration_for(standin: StandIn, directory: Path, *, port: int, admin_port: int) -> dict[str, Any]:
    """Return what a user would write for the stand-in: two credentials, a route for each product.

    Console, Hub and Modeler share one credential and one audience, and so one token.
    """
    clients = {"cluster": standin.cluster_client, "organization": standin.organization_client}
    owners = {audience: name for name, client in clients.items() for audience in client.audiences}
    return {
        "listen": f"{HOST}:{port}",
        "admin": {"listen": f"{HOST}:{admin_port}"},
        "credentials": {
            name: {
                "type": "client_credentials",
                "token_url": standin.token_url,
                "client_id": client.client_id,
                "client_secret_file": str(directory / client.client_id),
            }
            for name, client in clients.items()
        },
        "routes": {
            product: {"upstream": standin.upstream(product), "credential": owners[audience]}
            for product, audience in AUDIENCES.items()
        },
        "token_store": {"type": "file", "directory": str(directory / "tokens")},
        "logging": {"format": "console"},
        "drain_timeout": "2s",
    }


def free_port(preferred: int, taken: int = 0) -> int:
    """Return `preferred` where nobody has it, else any free port; never `taken`."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, preferred))
        except OSError:
            probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
    return port if port != taken else free_port(0, taken)


def _write_private(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)


def _is_foreign(variable: str) -> bool:
    """Tell whether a variable is hidden from the sidecar, so that the demo is the same everywhere."""
    return variable.upper().endswith("_PROXY") or variable.startswith(("CAMUNDA_", "ZEEBE_"))
