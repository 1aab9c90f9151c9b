"""How several processes end together."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.acceptance.peers import request_under_way
from tests.acceptance.support import clean_environment, until, write
from tests.workers.support import children, plain, running


def one_request_under_way(tmp_path, **env):
    """With a sidecar of two workers."""
    return request_under_way(lambda url: running(tmp_path, plain(tmp_path, url), **env))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("everybody", [False, True])
def test_a_drain_lets_requests_finish(tmp_path, number, everybody):
    """An idle worker stops, the other one serves who comes, and probes are answered; a signal to all counts once."""
    with one_request_under_way(tmp_path) as (sidecar, hang, future):
        for pid in children(sidecar) if everybody else []:
            os.kill(pid, number)
        sidecar.signal(number)
        sidecar.logged("stopped")
        assert [sidecar.operate(path).status for path in ("/readyz", "/livez", "/status")] == [503, 200, 200]
        with ThreadPoolExecutor() as pool:
            new = pool.submit(sidecar.ask, "/api/new")
            hang.wait_for_one()
            hang.release.set()
        assert [one.result(30).body for one in (future, new)] == [b"finished"] * 2
        assert sidecar.ended() == 0


def test_a_second_signal_ends_at_once(tmp_path):
    """The drain is not waited for."""
    with one_request_under_way(tmp_path) as (sidecar, _hang, future):
        sidecar.signal(signal.SIGTERM)
        sidecar.logged("stopped")
        sidecar.signal(signal.SIGTERM)
        assert sidecar.ended() == 0
        with pytest.raises(OSError):  # noqa: PT011 (whichever way a connection breaks)
            future.result(30)


def test_a_stopped_worker_is_killed_in_the_end(tmp_path):
    """It cannot drain; its sidecar ends without it, and says that not all was well."""
    with running(tmp_path, plain(tmp_path, "http://127.0.0.1:9", drain_timeout="100ms")) as sidecar:
        os.kill(children(sidecar)[1], signal.SIGSTOP)
        assert sidecar.end() == 1
        assert sidecar.logged("worker does not end; killing it")["worker"] == 1


def test_workers_end_with_their_parent(tmp_path):
    """A parent that is killed: they finish what is under way, end, and leave no directory behind."""
    with (
        tempfile.TemporaryDirectory(dir="/tmp") as temporary,
        one_request_under_way(tmp_path, TMPDIR=temporary) as (sidecar, hang, future),
    ):
        [directory] = Path(temporary).iterdir()
        assert directory.stat().st_mode & 0o777 == 0o700
        sidecar.process.kill()
        for index in (0, 1):
            sidecar.logged("the supervisor is gone", worker=index)
        hang.release.set()
        assert future.result(30).body == b"finished"
        sidecar.ended()  # standard error has ended: nobody holds it any more
        assert not sidecar.reader.is_alive()
        assert list(Path(temporary).iterdir()) == []


def test_a_temporary_directory_of_no_use_is_not_the_end(tmp_path):
    """Its name may be too long for a socket's path; there is another place, which is left as it was found."""
    temporary = tmp_path / ("d" * 80)
    temporary.mkdir()
    before = set(Path("/dev/shm").iterdir())
    with running(tmp_path, plain(tmp_path, "http://127.0.0.1:9"), TMPDIR=str(temporary)) as sidecar:
        until(lambda: sidecar.operate("/readyz").status == 200, "all are ready")
        [directory] = set(Path("/dev/shm").glob("camunda-sidecar-*")) - before
        assert sidecar.end() == 0
        assert not directory.exists()
    assert list(temporary.iterdir()) == []


FAILING = """\
import sys
from sidecar.cli import main
from sidecar.errors import ListenError
from sidecar.workers import supervisor
right = supervisor.serve
def serve(settings, load, clock, spec, loop_factory):
    if spec.index == 1:
        raise ListenError("The fault that the test wants.")
    right(settings, load, clock, spec, loop_factory)
supervisor.serve = serve
main(sys.argv[1:])
"""


def test_a_worker_that_cannot_start_ends_everything(tmp_path):
    """At the first start there is nothing to keep up: exit code 1, and why."""
    file = write(tmp_path / "config.yaml", plain(tmp_path, "http://127.0.0.1:9"))
    result = subprocess.run(
        [sys.executable, "-c", FAILING, "run", "--config", str(file), "--workers", "3"],
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert result.returncode == 1
    assert "The fault that the test wants." in result.stderr
    assert "a worker did not start; ending" in result.stderr
