"""Starting, draining, reloading: signals and exit codes."""

from __future__ import annotations

import itertools
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager

import pytest

from tests.acceptance.peers import peer, request_under_way, says
from tests.acceptance.support import PATIENCE, ask, command, connection, ending, plain, running, spawn, until, write


@contextmanager
def serving(tmp_path, workers, upstream_url, **more):
    """A sidecar of so many processes, ready."""
    file = write(tmp_path / "config.yaml", plain(tmp_path, upstream_url, **more))
    with ending(spawn("run", "--config", str(file), "--workers", workers, file=file)) as sidecar:
        yield sidecar.started()


def one_request_under_way(tmp_path, **more):
    """With a sidecar of one process."""
    return request_under_way(lambda url: running(tmp_path, plain(tmp_path, url, **more)))


def is_cut_off(future) -> bool:
    """Whether a client was told that its request did not finish: never something that could look like an answer."""
    try:
        return future.result(30).problem["status"] >= 500
    except OSError:
        return True


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_drain_lets_requests_finish(tmp_path, number):
    """Readiness fails; what is under way finishes, and what comes meanwhile is served; the exit code is 0."""
    with one_request_under_way(tmp_path) as (sidecar, hang, future), ThreadPoolExecutor() as pool:
        host, _, port = sidecar.address.rpartition(":")
        with socket.create_connection((host, int(port)), PATIENCE) as kept:
            sidecar.signal(number)
            until(lambda: sidecar.operate("/readyz").status == 503, "readiness fails")
            kept.sendall(b"GET /api/kept HTTP/1.1\r\nHost: localhost\r\n\r\n")
            new = pool.submit(sidecar.ask, "/api/new")
            for _ in range(2):
                hang.wait_for_one()
            assert sidecar.operate("/livez").status == 200
            assert sidecar.status()["ready"] is False
            assert sidecar.process.poll() is None
            hang.release.set()
            answer = kept.recv(65536)
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert b"\r\nConnection: close\r\n" in answer
        assert (new.result(30).body, new.result().headers["connection"]) == (b"finished", "close")
        assert future.result(30).body == b"finished"
        assert sidecar.ended() == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_last_calls_of_an_application(tmp_path, workers):
    """It gets SIGTERM with its sidecar, and goes on calling all through `drain_delay`, on kept and new connections."""
    with ExitStack() as stack:
        upstream = stack.enter_context(peer(says(200, b"ok")))
        sidecar = stack.enter_context(serving(tmp_path, workers, upstream.url, drain_delay="1s"))
        kept = stack.enter_context(closing(connection(sidecar.address)))
        sidecar.signal(signal.SIGTERM)
        until(lambda: sidecar.operate("/readyz").status == 503, "readiness fails")
        assert sidecar.operate("/readyz").body == b"draining\n"
        begun, calls = time.monotonic(), 0
        while time.monotonic() < begun + 0.7:
            kept.request("GET", "/api/kept")
            answer = kept.getresponse()
            assert (answer.read(), answer.getheader("connection")) == (b"ok", None)
            assert sidecar.ask("/api/new").body == b"ok"
            calls += 2
        assert len(upstream.requests) == calls
        assert sidecar.ended() == 0


def test_nobody_is_turned_away_while_there_is_time(tmp_path):
    """Clients that call without a pause meet answers, then a closed door; whatever reached an upstream is answered."""
    with peer(says(200, b"ok")) as upstream:
        with running(tmp_path, plain(tmp_path, upstream.url, drain_timeout="2s")) as sidecar:

            def call() -> int:
                for calls in itertools.count():
                    try:
                        assert sidecar.ask("/api/x").status == 200
                    except ConnectionError:
                        return calls
                raise AssertionError

            with ThreadPoolExecutor() as pool:
                callers = [pool.submit(call) for _ in range(8)]
                upstream.wait_for(50)
                begun = time.monotonic()
                assert sidecar.end() == 0
                assert time.monotonic() - begun < 10.0
        assert sum(caller.result(30) for caller in callers) == len(upstream.requests)


def test_an_idle_sidecar_ends_at_once(tmp_path):
    """Idle connections, to clients and upstreams, hold nothing up."""
    with peer(says(200)) as upstream, running(tmp_path, plain(tmp_path, upstream.url)) as sidecar:
        host, _, port = sidecar.address.rpartition(":")
        with socket.create_connection((host, int(port))) as idle:
            idle.sendall(b"GET /api/x HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert idle.recv(65536).startswith(b"HTTP/1.1 200")
            begun = time.monotonic()
            assert sidecar.end() == 0
            assert time.monotonic() - begun < 5.0
            assert idle.recv(1) == b""


def test_drain_timeout_is_the_longest(tmp_path):
    """A request that does not finish is cut off after `drain_timeout`; drained or not, SIGTERM is exit code 0."""
    with one_request_under_way(tmp_path, drain_timeout="500ms") as (sidecar, _hang, future):
        begun = time.monotonic()
        assert sidecar.end() == 0
        assert 0.4 < time.monotonic() - begun < 5.0
        assert is_cut_off(future)


def test_a_second_signal_ends_at_once(tmp_path):
    """The drain is not waited for."""
    with one_request_under_way(tmp_path) as (sidecar, _hang, future):
        sidecar.signal(signal.SIGTERM)
        sidecar.logged("draining")
        begun = time.monotonic()
        sidecar.signal(signal.SIGTERM)
        sidecar.ended()
        assert time.monotonic() - begun < 5.0
        assert is_cut_off(future)


# --- SIGHUP ------------------------------------------------------------------------------------------------------


def test_a_reload_takes_the_new_configuration_whole(tmp_path):
    """New routes serve, old ones are gone, the same process and port; a request under way is not disturbed."""
    with one_request_under_way(tmp_path) as (sidecar, hang, future), peer(says(200, b"new")) as upstream:
        before = sidecar.metric("config_last_reload_success_timestamp_seconds")
        changed = plain(tmp_path, upstream.url, listen=sidecar.address, admin={"listen": sidecar.admin})
        changed["routes"]["renamed"] = changed["routes"].pop("api")
        sidecar.write(changed)
        sidecar.signal(signal.SIGHUP)
        sidecar.logged("configuration reloaded")
        assert sidecar.ask("/renamed/x").body == b"new"
        assert sidecar.ask("/api/x").problem["code"] == "no_route"
        assert sidecar.metric("config_last_reload_success") == 1
        assert sidecar.metric("config_last_reload_success_timestamp_seconds") > before
        assert [route["name"] for route in sidecar.status()["routes"]] == ["renamed"]
        hang.release.set()
        assert future.result(30).body == b"finished"
        assert sidecar.end() == 0


def test_an_invalid_file_leaves_the_old_configuration_in_force(tmp_path):
    """It goes on serving, says every mistake in the log, shows it in the metric, and takes the mended file."""
    with peer(says(200, b"ok")) as upstream, running(tmp_path, plain(tmp_path, upstream.url)) as sidecar:
        good = plain(tmp_path, upstream.url)
        bad = plain(tmp_path, upstream.url, drain_timeout="soon", unknown_key=1)
        for content in (bad, "routes: [", None):
            if content is None:
                sidecar.file.unlink()
            else:
                sidecar.write(content)
            sidecar.signal(signal.SIGHUP)
            until(lambda: sidecar.metric("config_last_reload_success") == 0, "the reload is refused")
            assert sidecar.ask("/api/x").body == b"ok"
            assert sidecar.operate("/readyz").status == 200
            sidecar.write(good)
            sidecar.signal(signal.SIGHUP)
            until(lambda: sidecar.metric("config_last_reload_success") == 1, "the reload is taken")
        told = [line["mistake"] for line in sidecar.events if "mistake" in line]
        assert any("drain_timeout" in mistake for mistake in told)
        assert any("unknown_key" in mistake for mistake in told)
        assert all(str(sidecar.file) in mistake for mistake in told)
        assert sidecar.end() == 0


def test_what_needs_a_restart_says_so(tmp_path):
    """Another address cannot be taken while running: it is told, and the rest of the file is in force.

    What counts is the address that is listened on: changing it back is nothing to be told of.
    """
    with peer(says(200, b"ok")) as upstream, running(tmp_path, plain(tmp_path, upstream.url)) as sidecar:
        changed = plain(tmp_path, upstream.url, listen="127.0.0.1:1")
        changed["routes"]["more"] = changed["routes"]["api"]
        sidecar.write(changed)
        sidecar.signal(signal.SIGHUP)
        assert sidecar.logged("a changed setting takes effect at the next start only")["key"] == "listen"
        sidecar.logged("configuration reloaded")
        assert sidecar.ask("/more/x").body == b"ok"
        assert sidecar.status()["listen"] == sidecar.address
        sidecar.write(plain(tmp_path, upstream.url))
        sidecar.signal(signal.SIGHUP)
        sidecar.logged("configuration reloaded", after=1)
        assert sidecar.ask("/more/x").status == 404
        assert len([line for line in sidecar.events if "at the next start only" in line["event"]]) == 1


# --- starting ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["listen", "admin"])
def test_an_address_in_use_is_one_clear_line(tmp_path, key):
    """Exit code 1 and a sentence with the key and the address."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        section = {"listen": address} if key == "listen" else {"admin": {"listen": address}}
        file = write(tmp_path / "config.yaml", plain(tmp_path, "http://127.0.0.1:9", **section))
        result = command("run", "--config", file)
        assert result.returncode == 1
        [line] = result.stderr.splitlines()
        assert address in line
        assert "in use" in line
        assert ("admin.listen" if key == "admin" else "listen") in line


def test_wait_status_and_shutdown_find_it(tmp_path):
    """The commands for scripts, by the configuration alone: ready, seen, ended, gone."""
    with peer(says(200)) as upstream:
        with socket.create_server(("127.0.0.1", 0)) as free:
            admin = f"127.0.0.1:{free.getsockname()[1]}"
        file = write(tmp_path / "config.yaml", plain(tmp_path, upstream.url, admin={"listen": admin}))
        begun = time.monotonic()
        not_there = command("wait", "--config", file, "--timeout", "300ms")
        assert (not_there.returncode, len(not_there.stderr.splitlines())) == (1, 1)
        assert time.monotonic() - begun < 10.0
        with ending(spawn("run", "--config", str(file), file=file)) as sidecar:
            assert command("wait", "--config", file).returncode == 0
            sidecar.started()
            status = command("status", "--config", file)
            assert status.returncode == 0
            assert "/api" in status.stdout
            assert ask(sidecar.admin, "/readyz").status == 200
            ended = command("shutdown", "--config", file)
            assert (ended.returncode, sidecar.ended()) == (0, 0), ended.stderr
            for name in ("status", "shutdown"):
                gone = command(name, "--config", file)
                assert (gone.returncode, len(gone.stderr.splitlines())) == (1, 1)
