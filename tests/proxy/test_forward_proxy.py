"""An upstream behind a forward proxy: CONNECT with credentials, TLS through the tunnel, and every way to be refused."""

from __future__ import annotations

import asyncio
import base64

import pytest

from sidecar.config.settings import Timeouts
from tests.credentials.forward_proxy import forward_proxy
from tests.proxy.certificates import client_context, server_context, told
from tests.proxy.lab import Lab, echo, head_of, lab, request, until
from tests.proxy.origin import Connection, Origin


def through(url: str, *, tls: bool = False, **more: object) -> object:
    """A lab whose upstream is reached through the forward proxy at `url`."""
    changes: dict[str, object] = {"proxy": url, **more}
    if tls:
        origin = Origin(echo, tls=server_context())
        return lab(origin=origin, contexts={"app": client_context()}, route_changes=changes, explain=told)
    return lab(echo, route_changes=changes, explain=told)


@pytest.mark.parametrize("tls", [False, True])
async def test_a_request_through_the_proxy(tls: bool) -> None:
    """By CONNECT, to http upstreams too: the proxy sees a name and a port, and no token over TLS."""
    async with forward_proxy() as proxy, through(proxy.url(), tls=tls) as it:  # type: ignore[attr-defined]
        assert (await it.ask(request(b"POST", body=b"hello"))).body == b"/x hello"
        assert (await it.ask(request())).status == 200
        host = "localhost" if tls else "127.0.0.1"
        assert proxy.seen == [f"CONNECT {host}:{it.origin.port} HTTP/1.1"]


async def test_credentials_of_the_proxy() -> None:
    """Sent to the proxy, percent-decoded, and to nobody else."""
    async with forward_proxy("us er:pa:ss@") as proxy, through(proxy.url("us%20er:pa%3Ass%40"), tls=True) as it:  # type: ignore[attr-defined]
        assert (await it.ask(request())).status == 200
        (seen,) = it.origin.requests
        assert seen.values(b"proxy-authorization") == []


@pytest.mark.parametrize("user", ["", "us%20er:wrong"])
async def test_wrong_credentials(user: str) -> None:
    """502 that names the cure; no secret in it, and no retry."""
    async with forward_proxy("us er:right") as proxy, through(proxy.url(user), tls=True) as it:  # type: ignore[attr-defined]
        answer = await it.ask(request())
        assert (answer.status, answer.value(b"sidecar-error")) == (502, b"upstream_unreachable")
        assert b"407" in answer.body
        for secret in (b"wrong", b"right", base64.b64encode(b"us er:wrong"), b"token-1"):
            assert secret not in answer.body
        assert len(proxy.seen) == 1
        assert it.origin.connections == []


async def test_a_proxy_that_refuses() -> None:
    """502 that says so."""
    async with forward_proxy(refuses=True) as proxy, through(proxy.url(), tls=True) as it:  # type: ignore[attr-defined]
        answer = await it.ask(request())
        assert (answer.status, answer.value(b"sidecar-error")) == (502, b"upstream_unreachable")
        assert b"403" in answer.body


async def test_a_proxy_that_is_down() -> None:
    """502, after the retries for what may just be restarting."""
    async with Origin() as gone:
        await gone.stop()
        async with through(gone.url) as it:  # type: ignore[attr-defined]
            answer = await it.ask(request())
        assert (answer.status, answer.value(b"sidecar-error")) == (502, b"upstream_unreachable")


BAD = [
    b"",
    b"HTTP/1.1 200",
    b"HTTP/1.1 200 OK\r\nX: " + b"a" * 20_000,
    b"SSH-2.0-OpenSSH\r\n\r\n",
    b"HTTP/1.1 abc\r\n\r\n",
    b"HTTP/1.1\r\n\r\n",
    b"HTTP/1.1 302 Found\r\nLocation: https://login.example\r\n\r\n",
    b"HTTP/1.1 2xx OK\r\n\r\n",
]


@pytest.mark.parametrize("said", BAD, ids=range(len(BAD)))
async def test_a_proxy_that_does_not_answer_connect(said: bytes) -> None:
    """Whatever it says instead of a 2xx: 502, the socket closed, nothing of the request sent."""

    async def greet(connection: Connection) -> None:
        await head_of(connection)
        await connection.send(said)
        connection.finish()

    async with Origin(greet=greet) as proxy, through(proxy.url, tls=True) as it:  # type: ignore[attr-defined]
        answer = await it.ask(request())
        assert (answer.status, answer.value(b"sidecar-error")) == (502, b"upstream_unreachable")
        await proxy.idle()
        assert all(b"token-1" not in connection.raw for connection in proxy.connections)


async def test_a_proxy_that_says_nothing() -> None:
    """`connect` is the limit for all of it."""

    async def greet(connection: Connection) -> None:
        await connection.lost

    times = Timeouts(connect=0.05)
    async with Origin(greet=greet) as proxy, through(proxy.url, timeouts=times) as it:  # type: ignore[attr-defined]
        answer = await it.ask(request())
        assert (answer.status, answer.value(b"sidecar-error")) == (502, b"upstream_unreachable")
        await proxy.idle()


async def test_many_connections_through_the_proxy() -> None:
    """Each of them by a CONNECT of its own."""
    async with forward_proxy("a:b") as proxy, through(proxy.url("a:b"), tls=True) as it:  # type: ignore[attr-defined]
        assert isinstance(it, Lab)
        answers = await asyncio.gather(*(it.ask(request(b"GET", b"/app/%d" % n)) for n in range(30)))
        assert [answer.body for answer in answers] == [b"/%d " % n for n in range(30)]
        await until(lambda: not it.stats.connections()[0] and len(it.origin.connections) == len(proxy.seen))
