"""`token`: a token for scripts, out of the cache that the host shares."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.cli.support import camunda_sidecar, configuration


class Issuer(ThreadingHTTPServer):
    """Answers as it is told, and counts."""

    def __init__(self) -> None:
        self.answer = 200, b'{"access_token":"the-token","expires_in":3600}'
        self.requests = 0
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/oauth/token"


class Handler(BaseHTTPRequestHandler):
    server: Issuer

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests += 1
        status, body = self.server.answer
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with Issuer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def config(directory: Path, issuer: Issuer) -> Path:
    (directory / "static").write_text("shared-secret\n")
    return configuration(
        directory,
        f"""
credentials:
  cluster: {{type: client_credentials, client_id: id, client_secret: s3cr3t, token_url: "{issuer.url}"}}
  static: {{type: static_token, token_file: {directory / "static"}}}
  login: {{type: session, login_url: "{issuer.url}", username: demo, password: pa55}}
routes:
  operate: {{credential: cluster, upstream: "http://127.0.0.1:1"}}
  optimize: {{credential: static, upstream: "http://127.0.0.1:1"}}
  tasklist: {{credential: login, upstream: "http://127.0.0.1:1"}}
token_store: {{type: file, directory: {directory / "store"}}}
token_requests: {{min_interval: 0s, max_wait: 3s}}
""",
    )


def test_it_prints_the_token_and_nothing_else_and_asks_once(tmp_path: Path, issuer: Issuer) -> None:
    """Two processes, one token request: the second finds it in the shared cache."""
    file = config(tmp_path, issuer)
    for _ in range(2):
        result = camunda_sidecar("token", "operate", "--config", file)
        assert (result.exit_code, result.stdout) == (0, "the-token\n")
    assert issuer.requests == 1


def test_a_static_token_is_printed_too(tmp_path: Path, issuer: Issuer) -> None:
    """It needs no issuer."""
    result = camunda_sidecar("token", "optimize", "--config", config(tmp_path, issuer))
    assert (result.exit_code, result.stdout, issuer.requests) == (0, "shared-secret\n", 0)


@pytest.mark.parametrize(("route", "said"), [("tasklist", "has no token"), ("nowhere", "there are: operate")])
def test_what_has_no_token_is_wrong_usage(tmp_path: Path, issuer: Issuer, route: str, said: str) -> None:
    """A session's cookie is no token; an unknown route is told the known ones."""
    result = camunda_sidecar("token", route, "--config", config(tmp_path, issuer))
    assert (result.exit_code, result.stdout, issuer.requests) == (2, "", 0)
    assert said in result.stderr


def test_a_refusal_is_said_on_standard_error(tmp_path: Path, issuer: Issuer) -> None:
    """Exit code 1, the issuer's code and the cure, nothing on standard output; the second try asks nobody."""
    issuer.answer = 401, b'{"error":"invalid_client"}'
    file = config(tmp_path, issuer)
    for _ in range(2):
        result = camunda_sidecar("token", "operate", "--config", file)
        assert (result.exit_code, result.stdout) == (1, "")
        assert "invalid_client" in result.stderr
        assert "check both at the issuer" in result.stderr
        assert len(result.stderr.splitlines()) == 1, "said once: not as a log line too"
        assert "s3cr3t" not in result.stderr
    assert issuer.requests == 1


def test_a_broken_secret_file_is_a_mistake(tmp_path: Path, issuer: Issuer) -> None:
    """Exit code 2, with the key's path."""
    file = config(tmp_path, issuer)
    (tmp_path / "static").write_text("two\nlines\n")
    result = camunda_sidecar("token", "optimize", "--config", file)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "credentials.static.token_file" in result.stderr


def test_without_the_shared_budget_no_issuer_is_asked(tmp_path: Path, issuer: Issuer) -> None:
    """A script that runs often would get the whole host throttled, beside the sidecar's own budget."""
    (tmp_path / "store").write_text("in the way")
    result = camunda_sidecar("token", "operate", "--config", config(tmp_path, issuer))
    assert (result.exit_code, result.stdout, issuer.requests) == (1, "", 0)
    assert str(tmp_path / "store") in result.stderr
