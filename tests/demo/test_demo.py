"""The demo as its user runs it: a process of its own, from the start to the last file."""

import os
import random
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from sidecar.demo.process import free_port


@pytest.fixture
def demo(tmp_path):
    """Starts `camunda-sidecar demo` with a temporary directory of its own; kills what a failed test leaves."""
    started = []

    def start(*arguments, port=0, **environment):
        child = subprocess.Popen(
            [sys.executable, "-m", "sidecar", "demo", "--port", str(port), *arguments],
            env={**os.environ, "TMPDIR": str(tmp_path), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(child)
        return child

    yield start
    for child in started:
        child.kill()
        child.communicate()
    for pid in sidecars(tmp_path):
        os.kill(pid, signal.SIGKILL)


def sidecars(directory: Path) -> list[int]:
    """The processes whose configuration lies in `directory`."""
    found = []
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(directory).encode() in line.read_bytes():
                found.append(int(line.parent.name))
        except OSError:
            continue
    return found


def read_until(child: subprocess.Popen, words: str) -> str:
    text = ""
    for line in child.stdout:
        text += line
        if words in line:
            return text
    raise AssertionError(f"{words!r} never came in:\n{text}")


def test_once_shows_the_main_job_and_leaves_nothing(demo, tmp_path):
    """Hundreds of requests over four prefixes for three tokens, exit code 0, no process, no file."""
    child = demo("--once", "--requests", "200")
    text, _ = child.communicate(timeout=60)
    assert child.returncode == 0, text
    words = " ".join(text.split())
    assert "Requests served 200 of 200" in words
    assert "Tokens requested 3 without a cache 200, with a cache in each of the 8 programs 24" in words
    assert "Tokens refused 0" in words
    for prefix in ("/operate", "/optimize", "/console", "/hub"):
        assert f"{prefix} " in words
    apart = [float(seconds) for seconds in re.findall(r"\((\d\.\d\d) s after the one before\)", text)]
    assert len(apart) == 2
    assert min(apart) >= 1.0  # the issuer's own limit; what is kept beyond it is for delays such as this machine's
    assert list(tmp_path.iterdir()) == []
    assert sidecars(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_stays_until_told_to_end(demo, tmp_path, number):
    """After the table both can be tried by hand; Ctrl-C ends them, with exit code 0 and nothing left."""
    child = demo("--requests", "8")
    text = read_until(child, "Ctrl-C ends both.")
    urls = re.findall(r"curl (http://\S+)", text)
    with urllib.request.urlopen(urls[0], timeout=10) as answer:
        assert answer.status == 200
    with_own_hands = re.search(r"401:\n\n  curl -i (\S+)", text)[1]
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(with_own_hands, timeout=10)
    child.send_signal(number)
    rest, _ = child.communicate(timeout=30)
    assert (child.returncode, "Traceback" in rest) == (0, False), rest
    assert list(tmp_path.iterdir()) == []
    assert sidecars(tmp_path) == []


def test_an_interruption_in_the_middle_leaves_nothing(demo, tmp_path):
    """Ctrl-C while it works is the usual 130, and the sidecar and its files go all the same."""
    child = demo()
    read_until(child, "token for operate.camunda.io")
    child.send_signal(signal.SIGINT)
    rest, _ = child.communicate(timeout=30)
    assert (child.returncode, "Traceback" in rest) == (130, False), rest
    assert list(tmp_path.iterdir()) == []
    assert sidecars(tmp_path) == []


def test_a_taken_port_and_foreign_settings_do_not_matter(demo):
    """The friendly port is a wish, and proxies and Camunda variables of the user's shell do not reach the sidecar."""
    with socket.create_server(("127.0.0.1", 0)) as squatter:
        taken = squatter.getsockname()[1]
        foreign = {"HTTP_PROXY": "http://127.0.0.1:9", "ZEEBE_CLIENT_ID": "x", "CAMUNDA_SIDECAR_CONFIG": "/nowhere"}
        child = demo("--once", "--requests", "8", port=taken, **foreign)
        text, _ = child.communicate(timeout=60)
    assert child.returncode == 0, text
    assert f"http://127.0.0.1:{taken} " not in text


def test_the_wished_port_is_taken_where_it_is_free(demo):
    """An address that a person can remember from one demo to the next."""
    # Below the range from which this machine's other tests are given theirs.
    wished = next(port for port in random.sample(range(20_000, 30_000), 100) if free_port(port) == port)
    text, _ = (child := demo("--once", "--requests", "4", port=wished)).communicate(timeout=60)
    assert child.returncode == 0, text
    assert f"sidecar            http://127.0.0.1:{wished} " in text


def test_a_sidecar_that_ends_is_said_with_its_log(demo, tmp_path):
    """When the sidecar dies, the demo says so and exits 1 instead of waiting for ever."""
    child = demo("--requests", "8")
    read_until(child, "Ctrl-C ends both.")
    for pid in sidecars(tmp_path):
        os.kill(pid, signal.SIGKILL)
    rest, _ = child.communicate(timeout=30)
    assert child.returncode == 1
    assert "The sidecar ended by itself, with exit code -9" in rest
    assert "Traceback" not in rest
    assert list(tmp_path.iterdir()) == []
