"""What a service manager, a Job and a ConfigMap do with it."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.peers import peer, says
from tests.acceptance.support import (
    PATIENCE,
    Sidecar,
    ask,
    clean_environment,
    ending,
    plain,
    running,
    spawn,
    until,
    write,
)

WORKERS = pytest.mark.parametrize("workers", ["1", "2"])


@contextmanager
def serving(file: Path, workers: str, **env: str) -> Iterator[Sidecar]:
    with ending(spawn("run", "--config", str(file), "--workers", workers, env=env, file=file)) as sidecar:
        yield sidecar.started()


def written(tmp_path: Path, **more: Any) -> Path:
    return write(tmp_path / "config.yaml", plain(tmp_path, "http://127.0.0.1:1", **more))


# --- POST /quitquitquit ----------------------------------------------------------------------------------------------


def test_nobody_ends_it_by_a_request_unless_that_is_wanted(tmp_path: Path) -> None:
    """The path does not exist by default."""
    with running(tmp_path, plain(tmp_path, "http://127.0.0.1:1")) as sidecar:
        assert sidecar.operate("/quitquitquit", method="POST").problem["code"] == "no_route"
        assert sidecar.end() == 0


@WORKERS
def test_a_jobs_program_ends_its_sidecar(tmp_path: Path, workers: str) -> None:
    """By POST alone, with exit code 0: a Job with a sidecar that is no native one ends then."""
    listen = {"listen": "127.0.0.1:0", "quitquitquit": True}
    with serving(written(tmp_path, admin=listen), workers) as sidecar:
        refused = sidecar.operate("/quitquitquit")
        assert (refused.problem["code"], refused.headers["allow"]) == ("method_not_allowed", "POST")
        page = {"Origin": "http://evil.example"}
        assert sidecar.operate("/quitquitquit", method="POST", headers=page).problem["code"] == "cross_site"
        assert sidecar.operate("/quitquitquit", method="POST").status == 200
        assert sidecar.ended() == 0


# --- a changed configuration file ------------------------------------------------------------------------------------


@WORKERS
def test_a_changed_file_is_taken_into_force(tmp_path: Path, workers: str) -> None:
    """Within some seconds and without a signal; one with a mistake is told and left alone."""
    with peer(says(200, b"ok")) as upstream, serving(written(tmp_path, reload_on_change=True), workers) as sidecar:
        assert sidecar.ask("/api/x").status == 502
        sidecar.write("routes: 7")
        sidecar.logged("configuration not reloaded, the old one stays in force")
        sidecar.write(plain(tmp_path, upstream.url, reload_on_change=True))
        until(lambda: sidecar.ask("/api/x").status == 200, "the new upstream is in force")


def test_a_config_maps_swap_of_links_is_noticed(tmp_path: Path) -> None:
    """Kubernetes replaces the directory that `..data` leads to; the file's own name and link stay as they are."""
    with peer(says(200, b"ok")) as upstream:
        for name, url in (("..1", "http://127.0.0.1:1"), ("..2", upstream.url)):
            (tmp_path / name).mkdir()
            write(tmp_path / name / "config.yaml", plain(tmp_path, url, reload_on_change=True))
        (tmp_path / "..data").symlink_to("..1")
        (tmp_path / "config.yaml").symlink_to("..data/config.yaml")
        with serving(tmp_path / "config.yaml", "1") as sidecar:
            (tmp_path / "..data_tmp").symlink_to("..2")
            (tmp_path / "..data_tmp").rename(tmp_path / "..data")
            sidecar.logged("configuration reloaded")
            assert sidecar.ask("/api/x").status == 200


# --- sd_notify -------------------------------------------------------------------------------------------------------


@WORKERS
def test_a_service_manager_is_told(tmp_path: Path, workers: str) -> None:
    """Ready, reloading, alive and stopping, by the process that it started."""
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(PATIENCE)

        def told(wanted: str) -> str:
            while not (message := manager.recv(4096).decode()).startswith(wanted):
                assert message == "WATCHDOG=1", message
            return message

        env = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "400000"}
        with serving(written(tmp_path), workers, **env) as sidecar:
            told("READY=1")
            told("WATCHDOG=1")
            told("WATCHDOG=1")
            sidecar.signal(signal.SIGHUP)
            assert "MONOTONIC_USEC=" in told("RELOADING=1")
            told("READY=1")
            sidecar.signal(signal.SIGTERM)
            told("STOPPING=1")
            assert sidecar.ended() == 0


# --- socket activation -----------------------------------------------------------------------------------------------

ACTIVATE = """
import os, sys
for target, descriptor in enumerate(map(int, sys.argv[1].split(",")), 3):
    os.dup2(descriptor, target)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(sys.argv[1].count(",") + 1)}
os.execv(sys.executable, [sys.executable, "-m", "sidecar", *sys.argv[2:]])
"""


def activated(sockets: list[socket.socket], *arguments: str) -> Sidecar:
    """Start it as systemd does, with these sockets as its descriptors from 3 on."""
    passed = [fcntl.fcntl(sock.fileno(), fcntl.F_DUPFD, 20) for sock in sockets]
    try:
        numbers = ",".join(map(str, passed))
        command = [sys.executable, "-c", ACTIVATE, numbers, *arguments]
        env = clean_environment()
        null, pipe = subprocess.DEVNULL, subprocess.PIPE
        return Sidecar(subprocess.Popen(command, stdin=null, stdout=null, stderr=pipe, env=env, pass_fds=passed), None)
    finally:
        for descriptor in passed:
            os.close(descriptor)


@WORKERS
def test_a_client_may_come_before_the_process(tmp_path: Path, workers: str) -> None:
    """The service manager listens, and a request from before the start is answered."""
    with peer(says(200, b"ok")) as upstream, closing(socket.create_server(("127.0.0.1", 0))) as admin:
        proxy = socket.socket(socket.AF_UNIX)
        proxy.bind(str(tmp_path / "proxy"))
        proxy.listen()
        address = f"127.0.0.1:{admin.getsockname()[1]}"
        listen = f"unix:{tmp_path / 'proxy'}"
        file = write(tmp_path / "config.yaml", plain(tmp_path, upstream.url, listen=listen, admin={"listen": address}))
        with closing(socket.socket(socket.AF_UNIX)) as early, closing(proxy):
            early.settimeout(PATIENCE)
            early.connect(str(tmp_path / "proxy"))
            early.sendall(b"GET /api/x HTTP/1.1\r\nHost: localhost\r\n\r\n")
            with ending(activated([admin, proxy], "run", "--config", str(file), "--workers", workers)) as sidecar:
                sidecar.started()
                assert (sidecar.address, sidecar.admin) == (listen, address)
                assert early.recv(4096).startswith(b"HTTP/1.1 200")
                assert ask(address, "/readyz").status == 200
                assert sidecar.end() == 0
        assert (tmp_path / "proxy").exists()  # it is the service manager's


def test_a_socket_at_another_address_is_refused(tmp_path: Path) -> None:
    """Otherwise a socket that other machines reach would be served although `guard.allow_remote` is false."""
    run = "run", "--config", str(written(tmp_path))
    with closing(socket.create_server(("127.0.0.1", 0))) as sock, ending(activated([sock], *run)) as sidecar:
        assert sidecar.ended() == 1
        assert str(sock.getsockname()[1]) in sidecar.log
