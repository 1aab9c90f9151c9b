"""Every type of credential, over TLS too, and every way a connection lives."""

from __future__ import annotations

import base64
import json
import socket
import ssl
import threading
import time
from contextlib import contextmanager

import pytest
import trustme

from tests.acceptance.peers import Peer, Request, grants, peer, response, says
from tests.acceptance.support import PATIENCE, SECRET, configuration, running, until


def told(request: Request, client: socket.socket) -> None:
    """An upstream that tells which credentials came."""
    heard = {name: request.headers.get(name) for name in ("authorization", "cookie", "x-csrf-token")}
    client.sendall(response(200, json.dumps(heard).encode()))


@contextmanager
def with_credential(tmp_path, upstream: Peer, credential: dict, **more):
    written = configuration(tmp_path, "http://127.0.0.1:1/t", {"api": {"upstream": upstream.url}}, **more)
    written["credentials"] = {"cluster": credential}
    with running(tmp_path, written) as sidecar:
        yield sidecar


def test_a_static_token_and_its_file_that_changes(tmp_path):
    """What somebody else renews is noticed within five seconds, without a signal."""
    file = tmp_path / "token"
    file.write_text("first-token\n")
    with (
        peer(told) as upstream,
        with_credential(tmp_path, upstream, {"type": "static_token", "token_file": str(file)}) as sidecar,
    ):
        assert sidecar.ask("/api/x").body.count(b"Bearer first-token") == 1
        beside = tmp_path / "next"
        beside.write_text("second-token\n")
        beside.replace(file)
        changed = time.monotonic()
        until(lambda: b"Bearer second-token" in sidecar.ask("/api/x").body, "the new token is used", 10.0)
        assert time.monotonic() - changed <= 5.0
        file.unlink()  # for a moment there is none: the one in use stays
        assert b"Bearer second-token" in sidecar.ask("/api/x").body


def test_http_basic(tmp_path):
    """RFC 7617."""
    credential = {"type": "basic", "username": "demo", "password": SECRET}
    with peer(told) as upstream, with_credential(tmp_path, upstream, credential) as sidecar:
        expected = base64.b64encode(f"demo:{SECRET}".encode()).decode()
        assert json.loads(sidecar.ask("/api/x").body)["authorization"] == f"Basic {expected}"


def test_none_attaches_nothing_and_still_drops_the_clients(tmp_path):
    """`type: none` is no way to send one's own."""
    with peer(told) as upstream, with_credential(tmp_path, upstream, {"type": "none"}) as sidecar:
        reply = sidecar.ask("/api/x", headers={"Authorization": "Bearer mine", "Cookie": "a=b"})
        assert json.loads(reply.body) == {"authorization": None, "cookie": None, "x-csrf-token": None}


class Operate:
    """A self-managed Operate with its cookie login; sessions can be ended."""

    def __init__(self) -> None:
        self.sessions: list[str] = []
        self.logins: list[Request] = []

    def __call__(self, request: Request, client: socket.socket) -> None:
        if request.target.startswith("/api/login"):
            self.logins.append(request)
            self.sessions = [f"session-{len(self.logins)}"]
            cookie = f"OPERATE-SESSION={self.sessions[0]}; Path=/; HttpOnly"
            client.sendall(response(204, Set_Cookie=cookie))
        elif request.headers.get("cookie") in {f"OPERATE-SESSION={session}" for session in self.sessions}:
            client.sendall(response(200, b"in"))
        else:
            client.sendall(response(401, b"out"))


def test_a_cookie_login(tmp_path):
    """One login for many requests; a session that ended is replaced, and the request sent once more."""
    operate = Operate()
    with peer(operate) as upstream:
        credential = {
            "type": "session",
            "login_url": upstream.url + "/api/login",
            "username": "demo",
            "password": SECRET,
        }
        with with_credential(tmp_path, upstream, credential, token_requests={"min_interval": "0s"}) as sidecar:
            assert [sidecar.ask("/api/x").body for _ in range(5)] == [b"in"] * 5
            [login] = operate.logins
            assert (login.method, login.form) == ("POST", {"username": "demo", "password": SECRET})
            operate.sessions = []
            assert sidecar.ask("/api/x").body == b"in"
            assert len(operate.logins) == 2
            reply = sidecar.ask("/api/x", headers={"Cookie": "OPERATE-SESSION=mine"})
            assert (reply.body, "set-cookie" in reply.headers) == (b"in", False)


def test_a_login_that_is_refused_is_said(tmp_path):
    """A wrong password is a rejected credential, by its name."""
    with peer(says(401, b"")) as upstream:
        credential = {
            "type": "session",
            "login_url": upstream.url + "/api/login",
            "username": "demo",
            "password": SECRET,
        }
        with with_credential(tmp_path, upstream, credential) as sidecar:
            reply = sidecar.ask("/api/x")
            assert (reply.status, reply.problem["code"]) == (502, "credential_rejected")
            assert "cluster" in reply.problem["detail"]


# --- TLS ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """A CA of one's own, and its certificate's file."""
    ca = trustme.CA()
    file = tmp_path_factory.mktemp("ca") / "ca.pem"
    ca.cert_pem.write_to_path(file)
    return ca, file


@contextmanager
def tls_server(ca: trustme.CA, name: str):
    """Answers every connection with one 200 over TLS, as `name`; the port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(name).configure_cert(context)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                try:
                    with context.wrap_socket(client, server_side=True) as wrapped:
                        head = b""
                        while b"\r\n\r\n" not in head:
                            head += wrapped.recv(65536)
                        body = b'{"access_token": "over-tls", "token_type": "Bearer", "expires_in": 3600}'
                        wrapped.sendall(
                            b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body
                        )
                        wrapped.unwrap()
                except OSError:
                    continue

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(PATIENCE)


def test_tls_with_an_own_ca_to_issuer_and_upstream(tmp_path, authority):
    """Verified by the CA that the configuration names, under the host's name."""
    ca, file = authority
    with tls_server(ca, "localhost") as port:
        url = f"https://localhost:{port}"
        routes = {"operate": {"upstream": url, "tls": {"ca_file": str(file)}}}
        written = configuration(tmp_path, url + "/t", routes)
        written["credentials"]["cluster"]["tls"] = {"ca_file": str(file)}
        with running(tmp_path, written) as sidecar:
            assert b"over-tls" in sidecar.ask("/operate/x").body


@pytest.mark.parametrize(("name", "trusted"), [("localhost", False), ("other.example", True)])
def test_a_certificate_that_is_not_right_is_not_spoken_to(tmp_path, authority, name, trusted):
    """Neither an unknown CA nor another's name; the issuer gets no secret, the upstream no token."""
    ca, file = authority
    with tls_server(ca, name) as port, peer(grants()) as issuer:
        url = f"https://localhost:{port}"
        tls = {"tls": {"ca_file": str(file)}} if trusted else {}
        written = configuration(
            tmp_path,
            issuer.url + "/t",
            {"a": {"upstream": url, **tls}, "b": {"upstream": issuer.url, "credential": "b"}},
            token_requests={"min_interval": "0s", "max_wait": "5s"},
        )
        written["credentials"]["b"] = written["credentials"]["cluster"] | {"token_url": url + "/t", **tls}
        with running(tmp_path, written) as sidecar:
            upstream = sidecar.ask("/a/x")
            assert (upstream.status, upstream.problem["code"]) == (502, "upstream_unreachable")
            assert "certificate" in upstream.problem["detail"].lower()
            token = sidecar.ask("/b/x")
            assert (token.status, token.problem["code"]) == (503, "token_unavailable")
            line = sidecar.logged("a token request failed")
            assert "certificate" in line["detail"].lower()


# --- bodies ------------------------------------------------------------------------------------------------------


def test_large_bodies_go_through_in_bounded_memory(tmp_path):
    """64 MB up and 64 MB down, byte for byte, and the process grows by a fraction of that."""
    size = 64 << 20
    content = bytes(range(256)) * (size // 256)

    def echo(request: Request, client: socket.socket) -> None:
        client.sendall(response(200, request.body))

    with peer(echo) as upstream, with_credential(tmp_path, upstream, {"type": "none"}) as sidecar:
        sidecar.ask("/api/x", "POST", body=content[:1000])
        before = sidecar.metrics()["process_resident_memory_bytes", frozenset()]
        reply = sidecar.ask("/api/x", "POST", body=content)
        assert reply.body == content
        assert sidecar.metrics()["process_resident_memory_bytes", frozenset()] - before < 24 << 20


def test_server_sent_events_are_not_delayed(tmp_path):
    """Each event is at the client before the next is sent."""
    heard = threading.Semaphore(0)

    def events(_request: Request, client: socket.socket) -> None:
        client.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for number in range(3):
            event = b"data: %d\n\n" % number
            client.sendall(b"%x\r\n%b\r\n" % (len(event), event))
            assert heard.acquire(timeout=PATIENCE)
        client.sendall(b"0\r\n\r\n")

    with peer(events) as upstream, with_credential(tmp_path, upstream, {"type": "none"}) as sidecar:
        host, _, port = sidecar.address.rpartition(":")
        with socket.create_connection((host, int(port)), PATIENCE) as client:
            client.sendall(b"GET /api/x HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")
            received = b""
            for number in range(3):
                while b"data: %d\n\n" % number not in received:
                    received += client.recv(65536)
                heard.release()
            while not received.endswith(b"0\r\n\r\n"):
                received += client.recv(65536)


def test_a_websocket_is_a_tunnel(tmp_path):
    """The handshake with the credential attached, then bytes both ways, until one ends."""

    def switches(request: Request, client: socket.socket) -> None:
        assert request.headers["upgrade"] == "websocket"
        assert request.headers["authorization"].startswith("Basic ")
        head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        client.sendall(head + b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")
        while data := client.recv(65536):
            client.sendall(data.upper())

    credential = {"type": "basic", "username": "demo", "password": SECRET}
    with peer(switches) as upstream, with_credential(tmp_path, upstream, credential) as sidecar:
        host, _, port = sidecar.address.rpartition(":")
        with socket.create_connection((host, int(port)), PATIENCE) as client:
            client.sendall(
                b"GET /api/ws HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"
                b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            )
            received = client.recv(65536)
            assert received.startswith(b"HTTP/1.1 101 ")
            for word in (b"one", b"two"):
                client.sendall(word)
                assert client.recv(65536) == word.upper()
