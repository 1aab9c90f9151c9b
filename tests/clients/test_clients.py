"""Real clients through the proxy to a real server: none of them written here, each with habits of its own."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
import requests

from tests import needs
from tests.clients.support import Setting, run, settings
from tests.clients.upstream import pattern
from tests.proxy.origin import Origin
from tests.proxy.support import RunningProxy

HERE = Path(__file__).parent
SIZES = (0, 1, 1000, 100_000, 3_000_000)


def check_echo(seen: dict, method: str, body: bytes) -> None:
    """The upstream saw this method and body, and our token alone."""
    assert seen["method"] == method
    assert (seen["length"], seen["sha256"]) == (len(body), hashlib.sha256(body).hexdigest())
    assert seen["headers"]["authorization"] == ["Bearer token-1"]
    assert not {"cookie", "upgrade", "http2-settings", "proxy-authorization"} & set(seen["headers"])


@pytest.fixture(scope="session")
def java_client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled class's folder."""
    javac = needs.program("javac", package="default-jdk-headless")
    folder = tmp_path_factory.mktemp("java")

    async def compile_it() -> tuple[int, bytes, bytes]:
        return await run(javac, "-d", folder, HERE / "java" / "Client.java")

    code, out, err = asyncio.run(compile_it())
    assert code == 0, (out + err).decode()
    return folder


@settings
def test_jdk_http_client(setting: Setting, java_client: Path) -> None:
    """The JDK's HttpClient offers h2c with every request, bodies included: each arrives as a body; WebSocket works."""
    java = needs.program("java", package="default-jdk-headless")

    async def play(proxy: RunningProxy) -> None:
        code, out, err = await run(java, "-XX:TieredStopAtLevel=1", "-cp", java_client, "Client", f"{proxy.url}/op")
        assert (code, out.decode().strip()) == (0, "all right"), err.decode()

    setting.run(play)


async def test_jdk_http_client_offers_h2c(java_client: Path) -> None:
    """The client of the test above really does offer it, with a body: the test would be worth little otherwise."""
    async with Origin() as origin:
        await run(needs.program("java", package="default-jdk-headless"), "-cp", java_client, "Client", origin.url)
        raw = bytes(origin.connections[0].raw)
    assert b"\r\nUpgrade: h2c\r\n" in raw
    assert b"HTTP2-Settings" in raw


@settings
def test_node(setting: Setting) -> None:
    """Node's http and fetch: keep-alive, uploads of known and unknown length, downloads, WebSocket where it has it."""
    node = needs.program("node", package="nodejs")

    async def play(proxy: RunningProxy) -> None:
        flags = ["--experimental-websocket"] if await _knows_flag(node) else []
        code, out, err = await run(node, *flags, HERE / "node" / "client.mjs", f"{proxy.url}/op")
        assert code == 0, err.decode()
        assert out.startswith(b"all right")

    setting.run(play)


async def _knows_flag(node: str) -> bool:
    code, _, _ = await run(node, "--experimental-websocket", "-e", "0")
    return code == 0


@settings
def test_curl(setting: Setting, tmp_path: Path) -> None:
    """curl: every kind of upload, ranges of versions, an h2c offer, several URLs on one connection."""
    curl = needs.program("curl", package="curl")
    body = pattern(3_000_000)
    (tmp_path / "body").write_bytes(body)

    async def play(proxy: RunningProxy) -> None:
        base = f"{proxy.url}/op"

        async def fetch(*arguments: str, data: bytes = b"") -> bytes:
            code, out, err = await run(curl, "-sS", "--max-time", "60", *arguments, data=data)
            assert code == 0, err.decode()
            return out

        check_echo(json.loads(await fetch(f"{base}/echo")), "GET", b"")
        check_echo(json.loads(await fetch("-u", "user:password", f"{base}/echo")), "GET", b"")
        check_echo(json.loads(await fetch("-b", "a=b", "-x", "", f"{base}/echo")), "GET", b"")
        check_echo(json.loads(await fetch("--http2", "-d", "x=1", f"{base}/echo")), "POST", b"x=1")
        check_echo(json.loads(await fetch("--http1.0", "-d", "x=1", f"{base}/echo")), "POST", b"x=1")
        upload = f"@{tmp_path / 'body'}"
        check_echo(json.loads(await fetch("--data-binary", upload, f"{base}/echo")), "POST", body)
        check_echo(json.loads(await fetch("-T", str(tmp_path / "body"), f"{base}/echo")), "PUT", body)
        check_echo(json.loads(await fetch("-T", "-", f"{base}/echo", data=body)), "PUT", body)
        expect = ("-H", "Expect: 100-continue", "-T", "-")
        check_echo(json.loads(await fetch(*expect, f"{base}/echo", data=b"hello")), "PUT", b"hello")
        for size in SIZES:
            assert await fetch(f"{base}/download/{size}") == pattern(size)
            assert await fetch(f"{base}/download/{size}?length") == pattern(size)
            assert await fetch("--http1.0", f"{base}/download/{size}") == pattern(size)
        head = await fetch("-I", f"{base}/download/5?length")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"content-length: 5\r\n" in head.lower()
        assert await fetch("-w", "%{num_connects}", *[f"{base}/download/1"] * 3) == b"h1h0h0".replace(b"h", pattern(1))
        assert await fetch("-o", "/dev/null", "-w", "%{http_code}", "--path-as-is", f"{base}/../echo") == b"400"
        assert await fetch(f"{base}/events") == b"data: 0\n\ndata: 1\n\ndata: 2\n\n"

    setting.run(play)


def _with_requests(base: str) -> None:
    def pieces(body: bytes) -> Iterator[bytes]:
        for start in range(0, len(body), 10_000):
            yield body[start : start + 10_000]

    with requests.Session() as session:
        for number in range(20):
            check_echo(session.get(f"{base}/echo", params={"i": number}).json(), "GET", b"")
        session.cookies.set("a", "b")
        session.auth = ("user", "password")
        for size in SIZES:
            body = pattern(size)
            check_echo(session.post(f"{base}/echo", data=body).json(), "POST", body)
            if body:
                check_echo(session.put(f"{base}/echo", data=pieces(body)).json(), "PUT", body)
            assert session.get(f"{base}/download/{size}").content == body
            with session.get(f"{base}/download/{size}?length", stream=True) as response:
                assert b"".join(response.iter_content(5000)) == body
        assert session.head(f"{base}/download/5?length").headers["Content-Length"] == "5"
        assert session.post(f"{base}/echo", json={"a": "ü"}).json()["length"] == 15


@settings
def test_requests(setting: Setting) -> None:
    """A requests session, in a thread, with credentials and cookies of its own, which do not arrive."""

    async def play(proxy: RunningProxy) -> None:
        await asyncio.to_thread(_with_requests, f"{proxy.url}/op")

    setting.run(play)


@settings
def test_aiohttp(setting: Setting) -> None:
    """The client of aiohttp: uploads, downloads, a hundred at once, WebSocket closed from either side."""

    async def play(proxy: RunningProxy) -> None:
        base = f"{proxy.url}/op"
        async with aiohttp.ClientSession() as session:

            async def echo(body: bytes) -> None:
                async with session.post(f"{base}/echo", data=io.BytesIO(body)) as response:
                    check_echo(await response.json(), "POST", body)

            for size in SIZES:
                await echo(pattern(size))
                async with session.get(f"{base}/download/{size}") as response:
                    assert await response.read() == pattern(size)
            await asyncio.gather(*(echo(pattern(37 * i)) for i in range(100)))
            async with session.ws_connect(f"{base}/ws", max_msg_size=1 << 24) as socket:
                assert await socket.receive_str() == "Bearer token-1"
                for size in SIZES:
                    await socket.send_bytes(pattern(size))
                    assert await socket.receive_bytes() == pattern(size)
                await socket.send_str("close")
                message = await socket.receive()
                assert (message.type, message.data, message.extra) == (aiohttp.WSMsgType.CLOSE, 4000, "as told")
            async with session.ws_connect(f"{base}/ws") as socket:
                await socket.close(code=4001)
                assert socket.close_code == 1000  # the server answers with its own

    setting.run(play)
