"""Nothing outlives the benchmark."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from bench.processes import BenchError, Command, Processes, parse_rollup, parse_stat

_CORES = tuple(sorted(os.sched_getaffinity(0)))
# A parent with a child of its own, as nginx has workers.
_FAMILY = ["sh", "-c", "sleep 600 & echo started; wait"]


def _is_running(pid: int) -> bool:
    try:
        return parse_state(pid) != "Z"
    except OSError:
        return False


def parse_state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def _wait_for(condition, what):
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, what
        os.sched_yield()


def test_a_process_is_seen_and_ended_whole(tmp_path):
    """Workers count in the figures of their master, and end with it."""
    with Processes(tmp_path) as processes:
        process = processes.start("family", Command(_FAMILY, {}), _CORES)
        _wait_for(lambda: len(process.pids()) == 2, "the child never came")
        pids = process.pids()
        assert process.memory().rss > 0
        assert process.cpu_seconds() >= 0
    assert not any(map(_is_running, pids))


def test_an_error_ends_everything(tmp_path):
    """An exception on the way leaves nothing behind, Ctrl-C included."""
    started = []

    def interrupted():
        with Processes(tmp_path) as processes:
            started.append(processes.start("sleeper", Command(["sleep", "600"], {}), _CORES).popen.pid)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not _is_running(started[0])


def test_a_killed_benchmark_leaves_nothing_behind(tmp_path):
    """Even after `kill -9` the kernel ends what was started."""
    script = (
        "import sys, time; from pathlib import Path; from bench.processes import *\n"
        f"p = Processes(Path({str(tmp_path)!r})).start('s', Command(['sleep', '600'], {{}}), {_CORES!r})\n"
        "print(p.popen.pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as bench:
        pid = int(bench.stdout.readline())
        _wait_for(lambda: Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"sleep"), "it never started")
        bench.send_signal(signal.SIGKILL)
        bench.wait()
    _wait_for(lambda: not _is_running(pid), "the kernel did not end it")
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def test_a_command_that_fails_says_why(tmp_path):
    """Its last words are in the error."""
    with Processes(tmp_path) as processes, pytest.raises(BenchError, match="ended with 3: something is missing"):
        processes.run("failing", Command(["sh", "-c", "echo something is missing; exit 3"], {}), _CORES, timeout=10)


def test_a_command_that_hangs_is_ended(tmp_path):
    """No load runs without an end."""
    with Processes(tmp_path) as processes, pytest.raises(BenchError, match="did not end"):
        processes.run("hanging", Command(["sleep", "600"], {}), _CORES, timeout=0.05)


def test_stat_is_read_past_any_name():
    """A process may be called `a) b (c`."""
    fields = " ".join(["S", "1", "2", "77"] + ["0"] * 7 + ["150", "50", "9", "9"])
    session, seconds = parse_stat(f"12 (a) b (c) {fields}")
    assert session == 77
    assert seconds == 200 / os.sysconf("SC_CLK_TCK")


def test_memory_is_read_in_bytes():
    """smaps_rollup tells kB; its first line is a range of addresses."""
    found = parse_rollup("00-ff ---p 00:00 0 [rollup]\nRss:  2 kB\nPss:  1 kB\nPss_Dirty: 1 kB\n")
    assert (found.rss, found.pss) == (2048, 1024)
