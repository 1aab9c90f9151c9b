"""Upstreams that are down, slow, or broken: the sidecar's own errors, told from the upstream's."""

from __future__ import annotations

import socket
import time
from contextlib import closing, suppress

import pytest

from tests.acceptance.peers import Hang, grants, peer, resets, response, says
from tests.acceptance.support import ask, configuration, raw, running

QUICK = {"connect": "1s", "response": "1s", "idle": "1s"}


def nobody() -> str:
    """An address that refuses connections."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


def sends(*pieces: bytes, then=None):
    """These very bytes, and then perhaps something else."""

    def behave(request, client):
        for piece in pieces:
            client.sendall(piece)
        if then is not None:
            then(request, client)
        client.shutdown(socket.SHUT_RDWR)

    return behave


BROKEN = {
    "no-http": sends(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"),
    "two-lengths": sends(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
    "length-and-chunked": sends(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "switching": sends(b"HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n"),
    "closed": sends(),
    "half-a-head": sends(b"HTTP/1.1 200 OK\r\nContent-Le"),
    "reset": resets,
}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Routes to a server for each fault; what needs no token has none."""
    directory = tmp_path_factory.mktemp("world")
    hang, half = Hang(), Hang()
    servers = {name: peer(behaviour) for name, behaviour in BROKEN.items()} | {
        "hanging": peer(hang),
        "truncated": peer(sends(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this")),
        "truncated-chunked": peer(sends(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")),
        "stalled": peer(sends(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this", then=half)),
        "impostor": peer(says(503, b"mine", Sidecar_Error="draining", Content_Type="application/problem+json")),
        "error": peer(says(500, b"mine")),
    }
    urls = {"down": nobody(), "nameless": "http://no-such-host.invalid", "not-tls": None}
    opened = []
    try:
        for name, server in servers.items():
            urls[name] = server.__enter__().url
            opened.append(server)
        urls["not-tls"] = urls["error"].replace("http://", "https://")
        routes = {
            name: {"upstream": url, "timeouts": QUICK, "credential": "open", "max_body": "10B"}
            for name, url in urls.items()
        }
        written = configuration(directory, "http://127.0.0.1:1/t", routes)
        written["credentials"] = {"open": {"type": "none"}}
        with running(directory, written) as sidecar:
            yield sidecar
    finally:
        hang.release.set()
        half.release.set()
        for server in opened:
            server.__exit__(None, None, None)


def test_every_fault_has_its_code(world):
    """502 `upstream_unreachable`, 502 `upstream_protocol_error`, 504 `upstream_timeout`; a person learns what to do."""
    expected = {
        "down": (502, "upstream_unreachable"),
        "nameless": (502, "upstream_unreachable"),
        "not-tls": (502, "upstream_unreachable"),
        "hanging": (504, "upstream_timeout"),
        **dict.fromkeys(BROKEN, (502, "upstream_protocol_error")),
    }
    begun = time.monotonic()
    replies = {name: world.ask(f"/{name}/x") for name in expected}
    assert time.monotonic() - begun < 10.0
    assert {name: (reply.status, reply.problem["code"]) for name, reply in replies.items()} == expected
    for name, (status, _) in expected.items():
        assert world.metric("http_requests_total", route=name, method="GET", code=str(status), source="sidecar") == 1


@pytest.mark.parametrize("name", ["truncated", "truncated-chunked", "stalled"])
def test_a_truncated_body_never_looks_whole(world, name):
    """After the head is sent, an error ends the connection abruptly: a real reset, and no end of a chunked body."""
    host, _, port = world.address.rpartition(":")
    received = b""
    with socket.create_connection((host, int(port)), 10) as client:
        client.sendall(b"GET /%s/x HTTP/1.1\r\nHost: localhost\r\n\r\n" % name.encode())
        with suppress(ConnectionResetError):
            while piece := client.recv(65536):
                received += piece
            raise AssertionError("the body looked whole")
    assert b"\r\n0\r\n" not in received
    assert b"Sidecar-Error" not in received


def test_an_upstreams_error_is_the_upstreams(world):
    """Its 500 goes through untouched; its own `Sidecar-Error` does not, so that nobody is misled."""
    reply = world.ask("/error/x")
    assert (reply.status, reply.body) == (500, b"mine")
    reply = world.ask("/impostor/x")
    assert (reply.status, reply.body) == (503, b"mine")
    assert "sidecar-error" not in reply.headers
    assert world.metric("http_requests_total", route="impostor", method="GET", code="503", source="upstream") == 1


def test_the_other_codes(world):
    """404, 413, 501, 400: each a problem document with its header."""
    assert world.ask("/nowhere").problem["code"] == "no_route"
    assert world.ask("/errors").problem["code"] == "no_route"  # prefixes end at a segment
    assert world.ask("/error/x", "POST", body=b"x" * 11).problem["code"] == "body_too_large"
    assert world.ask("/error/x", "TRACE").problem["code"] == "unsupported"
    assert world.ask("/error/x/%2e%2e/secret").problem["code"] == "bad_request"
    assert world.ask("/error/" + "x" * 70_000).status == 414
    assert world.ask("/error/x", headers={"X-Large": "x" * 70_000}).status == 431
    both = b"POST /error/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = raw(world.address, both + b"0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"Sidecar-Error: bad_request\r\n" in answer


def test_a_head_that_does_not_come_is_408(tmp_path):
    """`limits.head_timeout` is heeded; so is silence before a head, which gets no answer."""
    with peer(says(200)) as upstream:
        routes = {"api": {"upstream": upstream.url, "credential": "open"}}
        written = configuration(tmp_path, "http://127.0.0.1:1/t", routes, limits={"head_timeout": "500ms"})
        written["credentials"] = {"open": {"type": "none"}}
        with running(tmp_path, written) as sidecar:
            begun = time.monotonic()
            answer = raw(sidecar.address, b"GET /api/x HTTP/1.1\r\nHost: loc")
            assert answer.startswith(b"HTTP/1.1 408 ")
            assert b"Sidecar-Error: request_timeout\r\n" in answer
            assert 0.4 < time.monotonic() - begun < 6.0


def test_too_many_connections_are_told_so(tmp_path):
    """Beyond `limits.connections`: 503 `overloaded` with `Retry-After`; the others are served on."""
    with peer(says(200, b"ok")) as upstream:
        routes = {"api": {"upstream": upstream.url, "credential": "open"}}
        written = configuration(tmp_path, "http://127.0.0.1:1/t", routes, limits={"connections": 2})
        written["credentials"] = {"open": {"type": "none"}}
        with running(tmp_path, written) as sidecar:
            host, _, port = sidecar.address.rpartition(":")
            held = [socket.create_connection((host, int(port))) for _ in range(2)]
            for client in held:
                client.sendall(b"GET /api/x HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
            reply = ask(sidecar.address, "/api/x")
            assert (reply.status, reply.problem["code"]) == (503, "overloaded")
            assert reply.retry_after >= 1
            held[0].sendall(b"GET /api/x HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert held[0].recv(65536).startswith(b"HTTP/1.1 200 ")
            for client in held:
                client.close()


def test_what_goes_out_is_the_request_and_the_token_alone(tmp_path):
    """What a client must not decide is dropped, what it sends is kept; the body and path arrive byte for byte."""
    with peer(grants("the-token")) as issuer, peer(says(200, b"ok", Set_Cookie="a=b", X_Kept="1")) as upstream:
        written = configuration(tmp_path, issuer.url + "/t", {"operate": {"upstream": upstream.url + "/base"}})
        with running(tmp_path, written) as sidecar:
            headers = {
                "Authorization": "",
                "Cookie": "session=1",
                "X-Forwarded-For": "1.2.3.4",
                "X_Forwarded_For": "1.2.3.4",
                "Forwarded": "for=1.2.3.4",
                "X-Real-IP": "1.2.3.4",
                "Proxy-Authorization": "Basic eDp5",
                "Connection": "X-Hop",
                "X-Hop": "1",
                "X-Kept": "kept",
                "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                "X-Request-ID": "my-id",
            }
            reply = sidecar.ask("/operate/a%20b/c;d?q=%2F&r=1", "PUT", headers=headers, body=bytes(range(256)))
            assert (reply.status, reply.body, reply.headers["x-kept"]) == (200, b"ok", "1")
            assert "set-cookie" not in reply.headers
            [request] = upstream.requests
            assert (request.method, request.target) == ("PUT", "/base/a%20b/c;d?q=%2F&r=1")
            assert request.body == bytes(range(256))
            assert request.headers == {
                "host": upstream.url.removeprefix("http://"),
                "accept-encoding": "identity",
                "content-length": "256",
                "x-kept": "kept",
                "traceparent": headers["traceparent"],
                "x-request-id": "my-id",
                "authorization": "Bearer the-token",
            }


def test_redirects_are_not_followed_and_stay_local(tmp_path):
    """A `Location` inside the upstream's base becomes a local one; one elsewhere is the client's to judge."""

    def redirects(request, client):
        where = "/base/there" if request.target == "/base/inside" else "https://elsewhere.example/x"
        client.sendall(response(302, b"", Location=where))

    with peer(redirects) as upstream:
        routes = {"api": {"upstream": upstream.url + "/base", "credential": "open"}}
        written = configuration(tmp_path, "http://127.0.0.1:1/t", routes)
        written["credentials"] = {"open": {"type": "none"}}
        with running(tmp_path, written) as sidecar:
            assert sidecar.ask("/api/inside").headers["location"].endswith("/api/there")
            assert sidecar.ask("/api/outside").headers["location"] == "https://elsewhere.example/x"
            assert len(upstream.requests) == 2
