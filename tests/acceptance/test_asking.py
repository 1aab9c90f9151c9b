"""`status --watch` and `doctor` beside a running sidecar."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.acceptance.peers import Behaviour, Peer, grants, peer, refuses, says
from tests.acceptance.support import PATIENCE, Sidecar, clean_environment, command, configuration, running


@contextmanager
def beside(tmp_path: Path, behaviour: Behaviour) -> Iterator[tuple[Sidecar, Peer]]:
    """A running sidecar, which can be found by its configuration, and its issuer."""
    with peer(behaviour) as issuer, peer(says(200)) as upstream:
        routes = {"operate": {"upstream": upstream.url}}
        admin = {"listen": f"unix:{tmp_path / 'admin'}"}
        limits = {"min_interval": "0s"}
        written = configuration(tmp_path, f"{issuer.url}/t", routes, admin=admin, token_requests=limits)
        with running(tmp_path, written) as sidecar:
            yield sidecar, issuer


def watching(*arguments: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "sidecar", "status", "--watch", *map(str, arguments)],
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_script_reads_a_line_each_second_until_it_has_enough(tmp_path: Path) -> None:
    """One JSON object a line; Ctrl-C is the usual end, with exit code 0."""
    with beside(tmp_path, grants()) as (sidecar, _):
        with watching("--json", "--admin", sidecar.admin) as process:
            assert process.stdout is not None
            first, second = (json.loads(process.stdout.readline()) for _ in range(2))
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=PATIENCE)
        assert (process.returncode, errors) == (0, "")
        assert first["pid"] == second["pid"] == sidecar.process.pid
        assert second["uptime"] > first["uptime"]


def test_a_person_sees_a_sidecar_go(tmp_path: Path) -> None:
    """Watching goes on; a pipe gets no colours and no codes that clear a screen."""
    with beside(tmp_path, grants()) as (sidecar, _):
        with watching("--admin", sidecar.admin) as process:
            assert process.stdout is not None
            seen = [process.stdout.readline()]
            assert sidecar.end() == 0
            while "No sidecar answers" not in seen[-1]:
                seen.append(process.stdout.readline())
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=PATIENCE)
        assert process.returncode == 0
        assert "ready" in seen[0]
        assert not [line for line in seen if "\x1b" in line]


def test_watching_and_checking_are_two_things(tmp_path: Path) -> None:
    """Wrong usage: exit code 2."""
    assert command("status", "--watch", "--check", "--admin", "127.0.0.1:1").returncode == 2


@pytest.mark.parametrize("again", [False, True])
def test_doctor_asks_no_issuer_for_what_a_running_sidecar_has(tmp_path: Path, again: bool) -> None:
    """Every token request counts against the address's limit; `--ask-issuer` spends one."""
    with beside(tmp_path, grants("shared")) as (sidecar, issuer):
        assert sidecar.ask("/operate/x").status == 200
        assert sidecar.file is not None
        result = command("doctor", "--json", "--config", sidecar.file, *["--ask-issuer"] * again)
        assert result.returncode == 0, result.stdout
        assert len(issuer.requests) == 1 + again
        told = {each["check"]: each["detail"] for each in json.loads(result.stdout)}
        assert ("running sidecar" in told["issuer"]) is not again
        assert "shared" not in result.stdout


def test_doctor_asks_for_what_a_running_sidecar_is_refused(tmp_path: Path) -> None:
    """That is what a person wants to know, and what ends the quarantine."""
    with beside(tmp_path, refuses()) as (sidecar, issuer):
        assert sidecar.ask("/operate/x").problem["code"] == "credential_rejected"
        issuer.behaviour = grants()
        assert sidecar.file is not None
        assert command("doctor", "--config", sidecar.file).returncode == 0
        assert len(issuer.requests) == 2
