"""A sidecar as its user has it: a process, a configuration file, sockets. Nothing of `sidecar` is looked into here."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from prometheus_client.parser import text_string_to_metric_families

PATIENCE = 30.0
SECRET = "acceptance-client-secret-71d0"  # what must never come out anywhere


@dataclass(frozen=True)
class Reply:
    """An answer as a client has it."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def problem(self) -> dict[str, Any]:
        """The problem document; that it is one (RFC 9457), and that it says so thrice alike, is checked here."""
        assert self.headers["content-type"] == "application/problem+json", self
        document = json.loads(self.body)
        assert document["code"] == self.headers["sidecar-error"]
        assert document["status"] == self.status
        assert document["title"]
        assert document["detail"].endswith(".")
        return document

    @property
    def retry_after(self) -> int:
        return int(self.headers["retry-after"])


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def connection(address: str, timeout: float = PATIENCE) -> http.client.HTTPConnection:
    """To `host:port`, or `unix:path`."""
    if address.startswith("unix:"):
        return _UnixConnection(address.removeprefix("unix:"), timeout)
    host, _, port = address.rpartition(":")
    return http.client.HTTPConnection(host, int(port), timeout=timeout)


def ask(
    address: str,
    path: str,
    method: str = "GET",
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    timeout: float = PATIENCE,
) -> Reply:
    """One request on a connection of its own, by the standard library's client."""
    client = connection(address, timeout)
    try:
        client.request(method, path, body=body, headers=dict(headers or {}))
        response = client.getresponse()
        fields = {name.lower(): value for name, value in response.getheaders()}
        return Reply(response.status, fields, response.read())
    finally:
        client.close()


def raw(address: str, request: bytes, timeout: float = PATIENCE) -> bytes:
    """What comes back for these very bytes, until the server ends the connection."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout) as client:
        client.sendall(request)
        received = b""
        while piece := client.recv(65536):
            received += piece
        return received


def until(condition: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    """The first true value of `condition`; for what other processes do, and tell nobody."""
    deadline = time.monotonic() + patience
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {patience} s: {what}"
        time.sleep(0.02)
    return value


def clean_environment(**more: str) -> dict[str, str]:
    """This process's, with nothing of Camunda's and no forward proxy in it."""
    foreign = re.compile(r"(?i)(CAMUNDA_|ZEEBE_|.*_PROXY$)")
    return {name: value for name, value in os.environ.items() if not foreign.match(name)} | more


def command(
    *arguments: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run `camunda-sidecar` with these arguments to its end. No traceback, whatever it was asked."""
    result = subprocess.run(
        [sys.executable, "-m", "sidecar", *map(str, arguments)],
        env=clean_environment(**(env or {})),
        cwd=cwd,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "Traceback" not in result.stderr + result.stdout, result.stderr
    return result


class Sidecar:
    """`camunda-sidecar run`, its addresses, and what it has logged."""

    def __init__(self, process: subprocess.Popen[bytes], file: Path | None) -> None:
        self.process = process
        self.file = file
        self.lines: list[str] = []
        self.address = self.admin = ""
        self._news = threading.Condition()
        self._ended = False
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    # --- the log -------------------------------------------------------------------------------------------------

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._news:
                self.lines.append(line.decode())
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    @property
    def log(self) -> str:
        """Everything on standard error until now."""
        return "".join(self.lines)

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in list(self.lines) if line.startswith("{")]

    def logged(self, event: str, *, after: int = 0, **context: object) -> dict[str, Any]:
        """Wait for the first log line of this event and context; `after` skips so many of the first."""

        def found() -> dict[str, Any] | None:
            wanted = {"event": event, **context}.items()
            matching = [
                line for line in self.events if wanted <= {k: v for k, v in line.items() if k in dict(wanted)}.items()
            ]
            return matching[after] if len(matching) > after else None

        with self._news:
            arrived = self._news.wait_for(lambda: found() or self._ended, PATIENCE)
        line = found()
        assert arrived, f"not logged in time: {event} {context}\n{self.log}"
        assert line, f"never logged: {event} {context}\n{self.log}"
        return line

    def started(self) -> Sidecar:
        """Wait until it is ready, and learn its addresses from its first line: both ports may be 0."""
        line = self.logged("ready")
        self.address, self.admin = line["listen"], line["admin"]
        return self

    # --- its clients ---------------------------------------------------------------------------------------------

    def ask(self, path: str, method: str = "GET", **rest: Any) -> Reply:
        return ask(self.address, path, method, **rest)

    def operate(self, path: str, **rest: Any) -> Reply:
        """Ask the admin listener."""
        return ask(self.admin, path, **rest)

    def status(self) -> dict[str, Any]:
        return json.loads(self.operate("/status").body)

    def metrics(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """Every sample, by name and labels, as Prometheus' own parser reads them."""
        text = self.operate("/metrics").body.decode()
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def metric(self, name: str, **labels: str) -> float:
        """One sample, `camunda_sidecar_` before its name; a missing one is an error."""
        return self.metrics()[f"camunda_sidecar_{name}", frozenset(labels.items())]

    def total(self, name: str, **labels: str) -> float:
        """The sum over the labels that are not given."""
        return sum(
            value
            for (found, having), value in self.metrics().items()
            if found == f"camunda_sidecar_{name}" and labels.items() <= set(having)
        )

    # --- its life ------------------------------------------------------------------------------------------------

    def write(self, configuration: Mapping[str, Any] | str) -> None:
        """Another configuration, as editors and Kubernetes do it: a new file in the old one's place."""
        assert self.file is not None
        write(self.file, configuration)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def ended(self, patience: float = PATIENCE) -> int:
        """Its exit code, once it has ended and everything that it said is here."""
        code = self.process.wait(patience)
        self.reader.join(patience)
        return code

    def end(self) -> int:
        self.signal(signal.SIGTERM)
        return self.ended()


def write(file: Path, configuration: Mapping[str, Any] | str) -> Path:
    """Put it into `file` in one step."""
    text = configuration if isinstance(configuration, str) else yaml.safe_dump(dict(configuration), sort_keys=False)
    beside = file.with_name(f".{file.name}.new")
    beside.write_text(text)
    beside.replace(file)
    return file


def spawn(
    *arguments: str,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    file: Path | None = None,
    wrap: Callable[[list[str]], list[str]] = lambda command: command,
) -> Sidecar:
    """Start it; `wrap` makes another command of the command, such as one that sets a limit first."""
    process = subprocess.Popen(
        wrap([sys.executable, "-m", "sidecar", *arguments]),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=clean_environment(**(env or {})),
        cwd=cwd,
    )
    return Sidecar(process, file)


@contextmanager
def ending(sidecar: Sidecar) -> Iterator[Sidecar]:
    """End it afterwards, and look through all that it said."""
    try:
        yield sidecar
    finally:
        sidecar.process.kill() if sidecar.process.poll() is None else None
        sidecar.process.wait(PATIENCE)
        sidecar.reader.join(PATIENCE)
        assert sidecar.process.stderr is not None
        sidecar.process.stderr.close()
    assert "Traceback" not in sidecar.log, sidecar.log
    assert SECRET not in sidecar.log


@contextmanager
def running(directory: Path, configuration: Mapping[str, Any], **env: str) -> Iterator[Sidecar]:
    """A sidecar that is ready, with its configuration in `directory`; killed at the end, if it is there still."""
    file = write(directory / "config.yaml", configuration)
    with ending(spawn("run", "--config", str(file), env=env, file=file)) as sidecar:
        yield sidecar.started()


def configuration(
    directory: Path, token_url: str, routes: Mapping[str, Mapping[str, Any]], **more: Any
) -> dict[str, Any]:
    """One credential called `cluster`, any free ports, a store in `directory`; `more` replaces whole sections."""
    return {
        "listen": "127.0.0.1:0",
        "admin": {"listen": "127.0.0.1:0"},
        "credentials": {
            "cluster": {
                "type": "client_credentials",
                "token_url": token_url,
                "client_id": "acceptance",
                "client_secret": SECRET,
            }
        },
        "routes": {name: {"credential": "cluster", **route} for name, route in routes.items()},
        "token_store": {"type": "file", "directory": str(directory / "store")},
        **more,
    }


def plain(directory: Path, upstream_url: str, **more: Any) -> dict[str, Any]:
    """One route called `api` with no credential; `more` as for `configuration`."""
    routes = {"api": {"upstream": upstream_url, "credential": "open"}}
    return configuration(directory, "http://127.0.0.1:1/t", routes, credentials={"open": {"type": "none"}}, **more)
