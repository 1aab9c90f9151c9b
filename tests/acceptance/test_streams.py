"""Standard streams that are full, closed, or that nobody reads any more; signals in the first moments."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.acceptance.peers import peer, says
from tests.acceptance.support import PATIENCE, ask, clean_environment, plain, until, write
from tests.needs import program


def free_addresses() -> list[str]:
    """Two: whoever has closed standard error cannot say which it has got."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        return [f"127.0.0.1:{free.getsockname()[1]}" for free in (one, other)]


class Silent:
    """A sidecar whose log nobody follows, at addresses that are known beforehand."""

    def __init__(self, directory: Path, upstream_url: str, **more) -> None:
        self.address, self.admin = free_addresses()
        written = plain(directory, upstream_url, listen=self.address, admin={"listen": self.admin}, **more)
        self.file = write(directory / "config.yaml", written)

    @contextmanager
    def started(self, shell: str, *prefix: str, workers: str = "1", **streams):
        """Run it by a shell that `shell`, redirections, tells what to do with its streams."""
        command = [*prefix, sys.executable, "-m", "sidecar", "run", "--workers", workers, "--config", str(self.file)]
        shell = f'exec "$@" {shell}'
        self.process = subprocess.Popen(["/bin/sh", "-c", shell, "sh", *command], env=clean_environment(), **streams)
        try:
            yield self
        finally:
            self.process.kill()
            self.process.wait(PATIENCE)

    def is_ready(self) -> bool:
        try:
            return ask(self.admin, "/readyz").status == 200
        except OSError:
            return False

    def dropped(self) -> int:
        """The lines that standard error did not take."""
        found = re.search(
            rb"^camunda_sidecar_log_lines_dropped_total (.+)$", ask(self.admin, "/metrics").body, re.MULTILINE
        )
        assert found
        return int(float(found[1]))

    def drop_lines(self) -> None:
        """Ask, a log line each time, until more lines are dropped than before: pipe and queue are full then."""
        before = self.dropped()
        for _ in range(60):
            for _ in range(100):
                assert ask(self.address, "/api/" + "x" * 1000).status == 200
            if self.dropped() > before:
                return
        raise AssertionError("no line was dropped")

    def end(self) -> int:
        self.process.terminate()
        return self.process.wait(PATIENCE)


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("shell", ["2>&-", "0<&- 1>&-", "0<&- 1>&- 2>&-"])
def test_closed_streams(tmp_path, shell, workers):
    """It runs, ends with 0, and none of the three numbers is a socket's: log lines would go into it."""
    with peer(says(200, b"ok")) as upstream, Silent(tmp_path, upstream.url).started(shell, workers=workers) as sidecar:
        until(sidecar.is_ready, "ready")
        assert ask(sidecar.address, "/api/x").body == b"ok"
        assert ask(sidecar.address, "/none").status == 404
        for descriptor in range(3):
            target = Path(f"/proc/{sidecar.process.pid}/fd/{descriptor}").readlink()
            assert not str(target).startswith("socket:"), (descriptor, target)
        assert sidecar.end() == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_reader_that_has_gone(tmp_path, workers):
    """Whoever read standard error ends: the sidecar serves on, counts the lines, and ends with 0."""
    end, written = os.pipe()
    with peer(says(200, b"ok")) as upstream:
        silent = Silent(tmp_path, upstream.url, logging={"access": "all"})
        with silent.started("", workers=workers, stderr=written) as sidecar:
            os.close(written)
            until(sidecar.is_ready, "ready")
            os.close(end)
            for _ in range(3):
                assert ask(sidecar.address, "/api/x").body == b"ok"
            until(lambda: sidecar.dropped() >= 3, "the lines are counted")
            assert sidecar.end() == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_full_standard_error_stops_nothing(tmp_path, workers):
    """Nobody reads: requests, reload and drain go on, and what was dropped is counted; its end is not held up."""
    end, written = os.pipe()
    with peer(says(200, b"ok")) as upstream:
        silent = Silent(tmp_path, upstream.url, logging={"access": "all"})
        with silent.started("", workers=workers, stderr=written) as sidecar:
            os.close(written)
            until(sidecar.is_ready, "ready")
            sidecar.drop_lines()
            sidecar.process.send_signal(signal.SIGHUP)
            sidecar.drop_lines()
            assert sidecar.end() == 0
    os.close(end)


def test_what_was_dropped_is_said_when_the_reader_is_back(tmp_path):
    """In one line, with the number that the metric has."""
    end, written = os.pipe()
    with peer(says(200, b"ok")) as upstream:
        silent = Silent(tmp_path, upstream.url, logging={"access": "all"})
        with silent.started("", stderr=written) as sidecar, os.fdopen(end, "rb") as stream:
            os.close(written)
            until(sidecar.is_ready, "ready")
            sidecar.drop_lines()
            dropped = sidecar.dropped()
            said = next(line for line in stream if b"log lines were dropped" in line)
            assert b'"lines": %d}' % dropped in said
            assert sidecar.end() == 0


# --- the first moments -------------------------------------------------------------------------------------------


def has_handlers(pid: int) -> bool:
    """Whether the process has come so far that it handles SIGTERM."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return bool(int(status["SigCgt"], 16) >> (signal.SIGTERM - 1) & 1)


def test_a_hangup_in_the_first_moments(tmp_path):
    """Whoever reloads what is just starting does not kill it."""
    with peer(says(200, b"ok")) as upstream, Silent(tmp_path, upstream.url).started("2>&-") as sidecar:
        until(lambda: has_handlers(sidecar.process.pid), "handlers")
        while not sidecar.is_ready():
            sidecar.process.send_signal(signal.SIGHUP)
        assert ask(sidecar.address, "/api/x").body == b"ok"
        assert sidecar.end() == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_termination_in_the_first_moments(tmp_path, workers):
    """Nothing is served yet: it ends with 0."""
    with Silent(tmp_path, "http://127.0.0.1:9").started("2>&-", workers=workers) as sidecar:
        until(lambda: has_handlers(sidecar.process.pid), "handlers")
        assert sidecar.end() == 0


@pytest.mark.parametrize("early", [True, False])
def test_the_first_process_of_a_container(tmp_path, early):
    """The kernel gives process 1 no signal that it does not handle: it does, and ends with 0."""
    unshare = program("unshare", package="util-linux")
    namespace = [unshare, "--user", "--map-root-user", "--pid", "--fork", "--kill-child"]
    if subprocess.run([*namespace, "true"], check=False, capture_output=True).returncode:
        pytest.skip("no namespaces may be made here")
    with Silent(tmp_path, "http://127.0.0.1:9").started("2>&-", *namespace) as sidecar:
        children = Path(f"/proc/{sidecar.process.pid}/task/{sidecar.process.pid}/children")
        first = int(until(children.read_text, "its child").split()[0])
        until(lambda: has_handlers(first) if early else sidecar.is_ready(), "handlers")
        os.kill(first, signal.SIGTERM)
        assert sidecar.process.wait(PATIENCE) == 0
