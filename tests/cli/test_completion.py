"""Shells complete commands, options and the names of routes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.support import camunda_sidecar, configuration

# A secret that nobody can read from here, as where root alone may: names are completed all the same.
UNREADABLE = """
credentials: {cluster: {type: client_credentials, client_id: "${NOT_SET}", client_secret_file: /nowhere}}
routes: {operate: {credential: cluster}, optimize: {credential: cluster}, zeebe: {credential: cluster}}
"""


def completed(shell: str, words: list[str], position: str, environ: dict[str, str] | None = None) -> str:
    asked = {"_CAMUNDA_SIDECAR_COMPLETE": f"{shell}_complete", "COMP_WORDS": " ".join(words), "COMP_CWORD": position}
    process = subprocess.run(
        [sys.executable, "-m", "sidecar"],
        env={**os.environ, **asked, **(environ or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.stderr == ""
    return process.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_script(shell: str) -> None:
    """Nothing but the script is on standard output, to be sourced."""
    script = camunda_sidecar("completion", shell)
    assert script.exit_code == 0
    assert f"_CAMUNDA_SIDECAR_COMPLETE={shell}_complete" in script.stdout


def test_another_shell_is_wrong_usage() -> None:
    """Exit code 2, as for all wrong usage."""
    assert camunda_sidecar("completion", "tcsh").exit_code == 2


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_routes_are_completed_without_their_secrets(tmp_path: Path, shell: str) -> None:
    """Those of the file that the command line names, or that the environment does."""
    file = configuration(tmp_path, UNREADABLE)
    words = ["camunda-sidecar", "token", "--config", str(file), "op"]
    told = completed(shell, words, "op" if shell == "fish" else "4")
    assert "operate" in told
    assert "optimize" in told
    assert "zeebe" not in told
    words = ["camunda-sidecar", "doctor", ""]
    told = completed(shell, words, "" if shell == "fish" else "2", {"CAMUNDA_SIDECAR_CONFIG": str(file)})
    assert "zeebe" in told


def test_a_file_that_cannot_be_read_completes_nothing(tmp_path: Path) -> None:
    """Nothing is written into the line that a person types."""
    words = ["camunda-sidecar", "token", "--config", str(tmp_path / "none"), "o"]
    assert completed("bash", words, "4").strip() == ""


def test_a_real_bash_completes(tmp_path: Path) -> None:
    """The script and the program speak the same protocol."""
    file = configuration(tmp_path, UNREADABLE)
    bin_directory = tmp_path / "bin"
    bin_directory.mkdir()
    program = bin_directory / "camunda-sidecar"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m sidecar "$@"\n')
    program.chmod(0o755)
    script = f"""
        source <(camunda-sidecar completion bash)
        COMP_WORDS=(camunda-sidecar token --config {file} opt) COMP_CWORD=4
        _camunda_sidecar_completion camunda-sidecar
        echo "${{COMPREPLY[@]}}"
        COMP_WORDS=(camunda-sidecar sta) COMP_CWORD=1 COMPREPLY=()
        _camunda_sidecar_completion camunda-sidecar
        echo "${{COMPREPLY[@]}}"
    """
    env = {**os.environ, "PATH": f"{bin_directory}:{os.environ['PATH']}"}
    process = subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True, check=True)
    assert process.stdout.split() == ["optimize", "status"]
