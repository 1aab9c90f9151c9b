"""`doctor` as a command: its table, its JSON, its exit codes. What it finds is tests/credentials/test_doctor.py's."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
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


@pytest.fixture
def issuer() -> Iterator[ThreadingHTTPServer]:
    """An issuer that grants, and counts in `requests`."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.server.requests += 1
            body = b'{"access_token": "t", "expires_in": 3600}'
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.requests = 0
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        yield server
        server.shutdown()


def test_the_token_store_is_examined_first(tmp_path: Path, issuer: ThreadingHTTPServer) -> None:
    """It works, or it says why not; a doctor that shares no budget with the host's sidecar asks no issuer."""
    (tmp_path / "file").write_text("")
    stores = {
        f"type: file, directory: {tmp_path / 'store'}": ("ok", 1, "can be read and written"),
        f"type: file, directory: {tmp_path / 'file' / 'store'}": ("failed", 0, str(tmp_path / "file" / "store")),
        "type: redis, url: redis://127.0.0.1:1": ("failed", 0, "Redis"),
    }
    for store, (result, requests, said) in stores.items():
        text = config(tmp_path, issuer.server_port).read_text().replace("type: memory", store)
        issuer.requests = 0
        done = camunda_sidecar("doctor", "operate", "--json", "--config", configuration(tmp_path, text))
        assert done.exit_code == 1  # the upstream answers GET with 501
        findings = json.loads(done.stdout)
        assert (findings[0]["check"], findings[0]["result"]) == ("store", result)
        assert said in findings[0]["detail"]
        assert issuer.requests == requests
        asked = next(finding for finding in findings if finding["check"] == "issuer")
        assert asked["result"] == result
        assert requests or "The issuer is not asked" in asked["detail"]
