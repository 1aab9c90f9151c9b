import json
from typing import Any

import pytest
from msgspec.structs import replace

from sidecar.cli.explain import explain
from sidecar.config import load
from sidecar.config.settings import Client, Rule, Settings, TokenEndpoint
from sidecar.errors import Problem
from sidecar.proxy.guard import Guard
from sidecar.proxy.routing import CompiledRoute, RoutingTable
from tests.cli.support import camunda_sidecar, configuration
from tests.proxy.heads import resolved

FORWARDED = [
    ("GET", "/operate/v1/x?a=1&b", "operate", "https://bru-2.operate.camunda.io/abc/v1/x?a=1&b", "operate.camunda.io"),
    ("POST", "/operate", "operate", "https://bru-2.operate.camunda.io/abc", "operate.camunda.io"),
    (
        "HEAD",
        "/optimize/api/public/a/b",
        "optimize",
        "https://bru-2.optimize.camunda.io/abc/api/public/a/b",
        "optimize.camunda.io",
    ),
    ("GET", "/docs/", "docs", "https://docs.example.com/base/", "none"),
    ("GET", "http://127.0.0.1:8600/docs/x", "docs", "https://docs.example.com/base/x", "none"),
    ("GET", "/optimize/api/readyz", "optimize", "https://bru-2.optimize.camunda.io/abc/api/readyz", None),
]
REFUSED = [
    ("GET", "/nowhere", "404 no_route", "/operate, /optimize, /docs"),
    ("GET", "/operated", "404 no_route", "No route"),
    ("DELETE", "/optimize/api/public/x", "403 forbidden_by_policy", "does not allow"),
    ("GET", "/operate/../docs", "400 bad_request", "segment"),
    ("GET", "/operate/%252e%252e/docs", "400 bad_request", "segment"),
    ("GET", "operate", "400 bad_request", "neither a path"),
    ("GET", "/operate/ x", "400 bad_request", ""),
    ("GET", "/operate/ü", "400 bad_request", ""),
    ("G(T", "/operate", "400 bad_request", ""),
    ("CONNECT", "/operate", "501 unsupported", "CONNECT"),
]


@pytest.fixture(name="settings")
def _settings(tmp_path) -> Settings:
    return load(configuration(tmp_path), {})


@pytest.mark.parametrize("row", FORWARDED, ids=lambda row: " ".join(row[:2]))
def test_what_is_forwarded(settings, row):
    """Route, URL, credential and audience are told."""
    method, path, route, url, audience = row
    lines = explain(settings, method, path)
    assert lines["route"].startswith(f"{route} (prefix /{route})")
    assert lines["upstream"] == f"{method} {url}"
    assert lines.get("audience") == audience
    assert lines["credential"].startswith("cluster: a bearer token for client id" if audience else "none")
    assert "outcome" not in lines


@pytest.mark.parametrize(("method", "path", "outcome", "why"), REFUSED)
def test_what_is_refused(settings, method, path, outcome, why):
    """The status and code that a client would see, and the reason."""
    lines = explain(settings, method, path)
    assert lines["outcome"] == f"refused: {outcome}"
    assert why in lines["why"]


def test_a_url_of_another_host_is_refused(settings):
    """The host is judged where it is told, as the listener does."""
    assert explain(settings, "GET", "http://sidecar.team:8600/docs/x")["outcome"] == "refused: 421 unknown_host"


def outcome_of(table: RoutingTable, method: str, path: str) -> str:
    """What the data plane does with a request: a status, or the request line's target and origin."""
    try:
        request = resolved(table, f"{method} {path} HTTP/1.1".encode())
        if request.refusal is not None:
            raise request.refusal[1]
    except Problem as problem:
        return f"refused: {problem.status} {problem.code}"
    assert request.route is not None
    origin = request.route.settings.upstream.origin
    return f"{method} {origin}{request.head.split(b' ')[1].decode()} {'public' if request.public else ''}"


@pytest.mark.parametrize(("method", "path"), [row[:2] for row in (*FORWARDED, *REFUSED)])
def test_it_says_what_the_data_plane_does(settings, method, path):
    """The explanation is checked against the data plane's own table."""
    nothing: Any = None
    table = RoutingTable(
        [CompiledRoute(route, nothing, nothing, nothing) for route in settings.routes.values()], Guard()
    )
    lines = explain(settings, method, path)
    public = "public" if lines.get("policy", "").startswith("public") else ""
    assert outcome_of(table, method, path) == lines.get("outcome", f"{lines.get('upstream')} {public}")


def test_the_command(tmp_path):
    """A table for people, JSON for scripts, an exit code for both; the method may be written in lower case."""
    file = configuration(tmp_path)
    result = camunda_sidecar("explain", "get", "/optimize/api/readyz", "--config", file)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0] == "GET /optimize/api/readyz"
    assert "public by `GET /api/readyz`" in result.stdout
    result = camunda_sidecar("explain", "PUT", "/optimize/x", "--config", file)
    assert (result.exit_code, "does not allow" in result.stdout) == (1, True)
    result = camunda_sidecar("explain", "PUT", "/optimize/x", "--json", "--config", file)
    assert result.exit_code == 1
    assert json.loads(result.stdout)["outcome"] == "refused: 403 forbidden_by_policy"
    assert camunda_sidecar("explain", "GET", "/x", "--config", tmp_path / "none").exit_code == 2


def test_which_clients_may(settings):
    """Where only clients come in, those that may make this request are named; the token endpoint is no route."""
    clients = {
        "all": Client("all"),
        "some": Client("some", allow={"docs": (Rule("GET", "/x"),)}),
        "tokens": Client("tokens", routes=()),
    }
    assert "clients" not in explain(settings, "GET", "/docs/x")
    narrowed = replace(settings, clients=clients, token_endpoint=TokenEndpoint())
    assert explain(narrowed, "GET", "/docs/x")["clients"] == "all, some"
    assert explain(narrowed, "GET", "/docs/y")["clients"] == "all"
    assert explain(replace(settings, clients={"t": clients["tokens"]}), "GET", "/docs/x")["clients"] == "none may"
    assert list(explain(narrowed, "POST", "/oauth/token")) == ["route"]
