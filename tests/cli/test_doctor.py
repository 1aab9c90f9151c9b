"""`doctor` as a command: its table, its JSON, its exit codes. What it finds is tests/credentials/test_doctor.py's."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.support import camunda_sidecar, configuration


@pytest.fixture
def refused() -> Iterator[int]:
    """A port where nothing listens, and nobody else will."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


def config(directory: Path, port: int) -> Path:
    return configuration(
        directory,
        f"""
credentials:
  cluster: {{type: client_credentials, client_id: id, client_secret: s3cr3t, token_url: "http://127.0.0.1:{port}/t"}}
routes:
  operate: {{credential: cluster, upstream: "http://127.0.0.1:{port}"}}
  zeebe: {{credential: cluster, upstream: "http://127.0.0.1:{port}"}}
token_store: {{type: memory}}
""",
    )


def test_the_table_has_each_failure_with_its_cure(tmp_path: Path, refused: int) -> None:
    """Exit code 1, and a sum at the end."""
    result = camunda_sidecar("doctor", "--config", config(tmp_path, refused), environ={"COLUMNS": "200"})
    assert result.exit_code == 1
    assert f"issuer http://127.0.0.1:{refused}\n" in result.stdout
    assert "  connect   FAILED  " in result.stdout
    assert "Check host and port." in result.stdout
    assert result.stdout.endswith("2 of 8 checks failed.\n")
    assert "s3cr3t" not in result.output


def test_json_for_programs_and_one_route_alone(tmp_path: Path, refused: int) -> None:
    """Nothing but JSON on standard output."""
    result = camunda_sidecar("doctor", "zeebe", "--json", "--config", config(tmp_path, refused))
    assert result.exit_code == 1
    findings = json.loads(result.stdout)
    assert {finding["result"] for finding in findings} == {"ok", "failed", "skipped"}
    assert [finding["subject"] for finding in findings if finding["check"] == "upstream"] == ["route zeebe"]


def test_an_unknown_route_is_wrong_usage(tmp_path: Path, refused: int) -> None:
    """It tells those that there are."""
    result = camunda_sidecar("doctor", "nowhere", "--config", config(tmp_path, refused))
    assert result.exit_code == 2
    assert "operate, zeebe" in result.stderr
