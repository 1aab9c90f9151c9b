"""Several processes, one sidecar: what clients, the issuer and the operator see of it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.acceptance.peers import grants, peer, says
from tests.acceptance.support import ask, clean_environment, command, configuration, ending, spawn, until, write
from tests.workers.support import MANY, ask_often, become_ready, children, plain, running, who_served


def test_every_worker_serves_and_the_numbers_are_of_all(tmp_path):
    """Both answer, each with request ids of its own; metrics and status count every request, in both formats."""
    with peer(says(200, b"ok")) as upstream, running(tmp_path, plain(tmp_path, upstream.url)) as sidecar:
        assert {reply.body for reply in ask_often(sidecar, "/api/x")} == {b"ok"}
        until(lambda: sum(map(len, who_served(sidecar, "/api/x").values())) == MANY, "all are logged")
        assert sorted(who_served(sidecar, "/api/x")) == [0, 1]
        until(lambda: sidecar.total("http_requests_total", route="api", code="200") == MANY, "all are counted")
        assert sidecar.total("http_request_duration_seconds_count", route="api") == MANY
        assert sidecar.metric("http_requests_in_flight", route="api") == 0
        assert sidecar.total("build_info") == sidecar.metric("store_up") == 1
        asked = {"Accept": "application/openmetrics-text;version=1.0.0"}
        modern = sidecar.operate("/metrics", headers=asked)
        assert modern.headers["content-type"].startswith("application/openmetrics-text")
        assert modern.body.endswith(b"# EOF\n")
        [route] = sidecar.status()["routes"]
        assert (route["requests"], route["errors"], route["in_flight"]) == (MANY, 0, 0)
        assert sidecar.status()["pid"] == sidecar.process.pid
        assert all("worker" in line for line in sidecar.events if line["event"] != "ready")


def test_one_token_for_all_workers(tmp_path):
    """A cold burst over all of them costs one token request, and every request has that token."""
    with peer(grants()) as issuer, peer(says(200)) as upstream:
        written = configuration(tmp_path, issuer.url + "/t", {"operate": {"upstream": upstream.url}})
        with running(tmp_path, written | {"logging": {"access": "all"}}, workers=3) as sidecar:
            assert {reply.status for reply in ask_often(sidecar, "/operate/x")} == {200}
            until(lambda: len(who_served(sidecar, "/operate/x")) > 1, "more than one has served")
            assert len(issuer.requests) == 1
            assert {request.bearer for request in upstream.requests} == {"token-1"}
            until(lambda: sidecar.total("token_requests_total", outcome="success") == 1, "it is counted")
            [token] = sidecar.status()["tokens"]
            assert token["state"] == "fresh"


def test_the_parent_has_one_thread_and_the_workers_are_its_children(tmp_path):
    """Forking is safe only from a process with no other thread."""
    with running(tmp_path, plain(tmp_path, "http://127.0.0.1:9"), workers=3) as sidecar:
        assert len(children(sidecar)) == 3
        assert len(list(Path(f"/proc/{sidecar.process.pid}/task").iterdir())) == 1


@pytest.mark.parametrize("index", [0, 1])
def test_a_worker_that_is_killed_is_replaced(tmp_path, index):
    """Under load: only its own requests are lost, the next ones wait in its queue; counters do not fall."""
    with peer(says(200, b"ok")) as upstream, running(tmp_path, plain(tmp_path, upstream.url)) as sidecar:
        ask_often(sidecar, "/api/before")
        until(lambda: sidecar.total("http_requests_total", route="api") == MANY, "all are counted")
        with ThreadPoolExecutor(4) as pool:
            load = [pool.submit(sidecar.ask, "/api/during") for _ in range(200)]
            os.kill(children(sidecar)[index], signal.SIGKILL)
            died = sidecar.logged("a worker died; starting another", worker=index)
        assert died["signal"] == "SIGKILL"
        sidecar.logged("worker is ready", worker=index, after=1)
        lost = [future.exception() for future in load if future.exception() is not None]
        assert len(lost) <= 8
        assert all(isinstance(error, OSError) for error in lost)
        become_ready(sidecar)
        assert {reply.status for reply in ask_often(sidecar, "/api/after")} == {200}
        until(lambda: len(who_served(sidecar, "/api/after")) == 2, "both serve again")
        until(lambda: sidecar.total("http_requests_total", route="api") >= 2 * MANY, "nothing is forgotten")
        [route] = sidecar.status()["routes"]
        assert route["requests"] >= 2 * MANY
        assert (sidecar.status()["workers"], sidecar.status()["workers_missing"]) == (2, 0)
        assert sidecar.end() == 0


def test_a_worker_that_does_not_answer_is_missed(tmp_path):
    """Readiness names it, the log says so, and all is well when it is back."""
    with running(tmp_path, plain(tmp_path, "http://127.0.0.1:9")) as sidecar:
        become_ready(sidecar)
        stopped = children(sidecar)[1]
        os.kill(stopped, signal.SIGSTOP)
        until(lambda: sidecar.operate("/readyz").body == b"waiting for: worker 1\n", "it is missed")
        assert sidecar.status()["ready"] is False
        assert sidecar.logged("a worker does not answer")["peer"] == 1
        os.kill(stopped, signal.SIGCONT)
        become_ready(sidecar)


# --- reload ------------------------------------------------------------------------------------------------------


def test_a_reload_reaches_all_and_those_to_come(tmp_path):
    """Each worker takes the new configuration; so does one that is forked afterwards."""
    with peer(says(200, b"new")) as upstream, running(tmp_path, plain(tmp_path, upstream.url)) as sidecar:
        changed = plain(tmp_path, upstream.url)
        changed["routes"]["renamed"] = changed["routes"].pop("api")
        sidecar.write(changed)
        sidecar.signal(signal.SIGHUP)
        for index in (0, 1):
            sidecar.logged("configuration reloaded", worker=index)
        assert {reply.body for reply in ask_often(sidecar, "/renamed/x")} == {b"new"}
        os.kill(children(sidecar)[1], signal.SIGKILL)
        sidecar.logged("worker is ready", worker=1, after=1)
        assert {reply.body for reply in ask_often(sidecar, "/renamed/y")} == {b"new"}
        until(lambda: len(who_served(sidecar, "/renamed/y")) == 2, "both serve")
        sidecar.write("routes: [")
        sidecar.signal(signal.SIGHUP)
        until(lambda: sidecar.metric("config_last_reload_success") == 0, "the reload is refused")
        assert {reply.body for reply in ask_often(sidecar, "/renamed/z")} == {b"new"}
        assert sidecar.end() == 0


# --- listeners and commands ----------------------------------------------------------------------------------------


def test_unix_sockets_are_shared_and_removed(tmp_path):
    """Both listeners on Unix sockets: they serve, with 0660, and are gone at the end."""
    listen, admin = tmp_path / "p.sock", tmp_path / "a.sock"
    with peer(says(200, b"ok")) as upstream:
        written = plain(tmp_path, upstream.url, listen=f"unix:{listen}", admin={"listen": f"unix:{admin}"})
        with running(tmp_path, written) as sidecar:
            assert {reply.body for reply in ask_often(sidecar, "/api/x")} == {b"ok"}
            assert [path.stat().st_mode & 0o777 for path in (listen, admin)] == [0o660, 0o660]
            become_ready(sidecar)
            assert sidecar.end() == 0
    assert not listen.exists()
    assert not admin.exists()


@pytest.mark.parametrize("key", ["listen", "admin"])
def test_an_address_in_use_is_one_clear_line(tmp_path, key):
    """SO_REUSEPORT is for the workers of one sidecar, not for two, nor for another program beside them."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        check_refused(tmp_path, key, f"127.0.0.1:{taken.getsockname()[1]}")
    with running(tmp_path, plain(tmp_path, "http://127.0.0.1:9")) as first:
        check_refused(tmp_path, key, first.address if key == "listen" else first.admin)


def check_refused(tmp_path, key, address):
    section = {"listen": address} if key == "listen" else {"admin": {"listen": address}}
    file = write(tmp_path / "second.yaml", plain(tmp_path, "http://127.0.0.1:9", **section))
    alone = command("run", "--config", file)
    result = command("run", "--config", file, "--workers", "2")
    assert (result.returncode, len(result.stderr.splitlines())) == (1, 1), result.stderr
    assert address in result.stderr
    assert "in use" in result.stderr.lower()
    assert result.stderr.split(":")[1] == alone.stderr.split(":")[1]


def test_the_commands_find_it(tmp_path):
    """`wait`, `status` and `shutdown` need not know of the workers."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        admin = f"127.0.0.1:{free.getsockname()[1]}"
    file = write(tmp_path / "config.yaml", plain(tmp_path, "http://127.0.0.1:9", admin={"listen": admin}))
    with ending(spawn("run", "--config", str(file), "--workers", "2", file=file)) as sidecar:
        assert command("wait", "--config", file).returncode == 0
        assert ask(admin, "/readyz").status == 200
        status = command("status", "--config", file)
        assert f"ready, up 0 s, pid {sidecar.process.pid}" in status.stdout.replace("up 1 s", "up 0 s")
        ended = command("shutdown", "--config", file)
        assert (ended.returncode, ended.stdout) == (0, f"ended (pid {sidecar.process.pid})\n"), ended.stderr
        assert sidecar.ended() == 0


def test_a_memory_store_is_refused(tmp_path):
    """Each worker would have tokens of its own: exit code 2, and the cure."""
    file = write(tmp_path / "config.yaml", plain(tmp_path, "http://127.0.0.1:9") | {"token_store": {"type": "memory"}})
    result = command("run", "--config", file, "--workers", "2")
    [line] = result.stderr.splitlines()
    assert result.returncode == 2
    assert str(file) in line
    assert "token_store.type to file or redis" in line


@pytest.mark.parametrize("number", ["0", "65", "auto", "1.5"])
def test_workers_is_a_number_from_1_to_64(number):
    """Anything else is wrong usage."""
    assert command("run", "--workers", number).returncode == 2


IMPORTS = """\
import sys
from sidecar.cli import main
try:
    main(sys.argv[1:])
finally:
    print([name for name in sys.modules if name.startswith("sidecar.workers")], "sidecar.service" in sys.modules)
"""


def test_one_process_has_nothing_of_this(tmp_path):
    """Without `--workers` no code of this room is loaded."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        file = write(tmp_path / "config.yaml", plain(tmp_path, "http://127.0.0.1:9", listen=address))
        run = [sys.executable, "-c", IMPORTS, "run", "--config", str(file)]
        result = subprocess.run(run, env=clean_environment(), capture_output=True, text=True, check=False, timeout=60)
    assert (result.returncode, result.stdout) == (1, "[] True\n"), result.stderr
