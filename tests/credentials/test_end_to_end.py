"""Every type of credential through a whole sidecar: a client without credentials, an upstream that wants them."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Self

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from sidecar.clock import SystemClock
from sidecar.config import load
from sidecar.listeners import bound
from sidecar.service import Service
from tests.credentials import camunda_logins as camunda
from tests.credentials import pki
from tests.credentials.test_pem import UNSUPPORTED
from tests.proxy.support import off_the_loop


@contextlib.asynccontextmanager
async def sidecar(directory: Path, text: str) -> AsyncIterator[str]:
    """Its base URL."""
    async with running(directory, text, SystemClock()) as service:
        yield f"http://{service.listeners.proxy.address}"


@contextlib.asynccontextmanager
async def running(directory: Path, text: str, clock: SystemClock) -> AsyncIterator[Service]:
    file = directory / "config.yaml"
    file.write_text(
        f"listen: 127.0.0.1:0\nadmin: {{listen: '127.0.0.1:0'}}\ntoken_store: {{type: memory}}\n"
        f"token_requests: {{min_interval: 0s}}\nlogging: {{level: error}}\n{text}"
    )

    def read() -> object:
        return load(file, {})

    settings = load(file, {})
    async with off_the_loop(bound(settings)) as [listeners]:
        service = Service(settings, read, clock, listeners)  # type: ignore[arg-type]
        await service.start()
        try:
            yield service
        finally:
            await service.close()


class Client:
    """Plain HTTP, no credentials, no cookies kept; it sends some of its own, which must not get through."""

    def __init__(self, base: str) -> None:
        self._base = base
        self._session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def ask(self, method: str, path: str) -> tuple[int, list[str]]:
        own = {"Cookie": "OPERATE-SESSION=clients-own; theme=dark", "Authorization": "Bearer clients-own"}
        async with self._session.request(method, self._base + path, headers=own, data=b"x") as response:
            await response.read()
            return response.status, response.headers.getall("Set-Cookie", [])


def session_config(fake: camunda.CamundaLogin, base: str) -> str:
    return f"""
credentials:
  login: {{type: session, login_url: "{base}{fake.path}", username: {camunda.USER}, password: "{camunda.PASSWORD}"}}
routes:
  app: {{credential: login, upstream: "{base}"}}
  other: {{credential: login, upstream: "{base}"}}
"""


@contextlib.asynccontextmanager
async def logged_in(fake: camunda.CamundaLogin, directory: Path) -> AsyncIterator[Client]:
    async with TestServer(fake.application()) as server:
        base = str(server.make_url("")).rstrip("/")
        async with sidecar(directory, session_config(fake, base)) as url, Client(url) as client:
            yield client


@pytest.mark.parametrize("version", camunda.VERSIONS)
async def test_one_login_serves_every_route_and_method(version: str, tmp_path: Path) -> None:
    """Twenty clients at once, two routes, reads and writes: one session, and no cookie of a client's in it."""
    fake = camunda.VERSIONS[version]()
    async with logged_in(fake, tmp_path) as client:
        paths = [f"/{route}/v1/thing" for route in ("app", "other")]
        asked = [client.ask(method, path) for path in paths for method in ("GET", "POST", "PUT", "DELETE", "PATCH")]
        answers = await asyncio.gather(*asked, *(client.ask("POST", path) for path in paths * 5))
    assert {status for status, _ in answers} == {200}
    assert len(fake.sessions) == 1


@pytest.mark.parametrize("version", camunda.VERSIONS)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_lost_session_is_logged_in_again_and_the_request_replayed(
    version: str, method: str, tmp_path: Path
) -> None:
    """The server forgets all sessions; the client notices nothing."""
    fake = camunda.VERSIONS[version]()
    async with logged_in(fake, tmp_path) as client:
        assert (await client.ask("GET", "/app/v1/thing"))[0] == 200
        fake.sessions.clear()
        assert (await client.ask(method, "/app/v1/thing"))[0] == 200
        assert (await client.ask("POST", "/other/v1/thing"))[0] == 200
    assert len(fake.sessions) == 1


class ForgetsCsrf(camunda.CamundaLogin):
    """Spring's CSRF filter comes first: without a session, an unsafe request is a 403."""

    async def api(self, request: web.Request) -> web.StreamResponse:
        if request.method not in camunda.SAFE and request.cookies.get(self.session_cookie) not in self.sessions:
            return web.Response(status=403)
        return await super().api(request)


async def test_a_403_to_an_unsafe_request_is_a_lost_session(tmp_path: Path) -> None:
    """And to a safe one it is not: that 403 is passed on, and nobody logs in again."""
    fake = ForgetsCsrf(csrf="OPERATE-X-CSRF-TOKEN")
    async with logged_in(fake, tmp_path) as client:
        assert (await client.ask("POST", "/app/v1/thing"))[0] == 200
        fake.sessions.clear()
        assert (await client.ask("POST", "/app/v1/thing"))[0] == 200
    assert len(fake.logins) == 2


class Forbids(camunda.CamundaLogin):
    """A user without permissions."""

    async def api(self, request: web.Request) -> web.StreamResponse:
        return web.Response(status=403)


async def test_a_403_to_a_safe_request_is_a_permission(tmp_path: Path) -> None:
    """Passed on as it is; one login, however often it is asked."""
    fake = Forbids()
    async with logged_in(fake, tmp_path) as client:
        assert [(await client.ask("GET", "/app/v1/thing"))[0] for _ in range(5)] == [403] * 5
    assert len(fake.logins) == 1


async def test_a_user_without_permission_to_write_does_not_log_in_for_ever(tmp_path: Path) -> None:
    """A 403 to an unsafe request that a new session does not help is passed on, and backed off."""
    fake = Forbids()
    async with logged_in(fake, tmp_path) as client:
        assert [(await client.ask("POST", "/app/v1/thing"))[0] for _ in range(5)] == [403] * 5
    assert len(fake.logins) == 2


class Rotates(camunda.CamundaLogin):
    """Each answer renews the session's id, and the old one is worth nothing a moment later."""

    async def api(self, request: web.Request) -> web.StreamResponse:
        response = await super().api(request)
        if response.status == 200:
            self.sessions.pop(request.cookies[self.session_cookie])
            response.headers.add("Set-Cookie", f"{self.session_cookie}={self.begin().cookie}; Path=/; HttpOnly")
        return response


async def test_a_rotated_session_is_taken_over_and_kept_from_clients(tmp_path: Path) -> None:
    """Ten requests one after the other, each with the cookie that the one before brought; one login."""
    fake = Rotates()
    async with logged_in(fake, tmp_path) as client:
        answers = [await client.ask("GET", "/app/v1/thing") for _ in range(10)]
    assert answers == [(200, [])] * 10
    assert len(fake.logins) == 1


async def test_basic_static_and_none(tmp_path: Path) -> None:
    """What reaches the upstream is the credential's header and nothing of the client's."""
    seen: list[tuple[str | None, str | None]] = []

    async def remember(request: web.Request) -> web.Response:
        seen.append((request.headers.get("Authorization"), request.headers.get("Cookie")))
        return web.Response()

    app = web.Application()
    app.router.add_get("/x", remember)
    (tmp_path / "token").write_text("shared-secret\n")
    async with TestServer(app) as server:
        base = str(server.make_url("")).rstrip("/")
        text = f"""
credentials:
  run: {{type: basic, username: demo, password: demo}}
  optimize: {{type: static_token, token_file: {tmp_path / "token"}}}
  open: {{type: none}}
routes:
  a: {{credential: run, upstream: "{base}"}}
  b: {{credential: optimize, upstream: "{base}"}}
  c: {{credential: open, upstream: "{base}"}}
"""
        async with sidecar(tmp_path, text) as url, Client(url) as client:
            for route in "abc":
                assert (await client.ask("GET", f"/{route}/x"))[0] == 200
    assert seen == [("Basic ZGVtbzpkZW1v", None), ("Bearer shared-secret", None), (None, None)]


class ImpatientClock(SystemClock):
    """Never sleeps for long: what happens every two seconds happens at once."""

    async def sleep(self, seconds: float) -> None:
        await super().sleep(min(seconds, 0.01))


async def metric(service: Service, line: str) -> None:
    """Wait until `/metrics` has this line."""
    async with asyncio.timeout(10), aiohttp.ClientSession() as session:
        while True:
            async with session.get(f"http://{service.admin.address}/metrics") as response:
                if line in (await response.text()).splitlines():
                    return


@pytest.mark.parametrize("odd", [UNSUPPORTED, None, b"-----BEGIN PRIVATE KEY-----\n"])
async def test_no_file_ends_the_watching_of_files(tmp_path: Path, odd: bytes | None) -> None:
    """A key on a curve that nobody supports, a pipe, half a key: the metric has it, and the repair is noticed."""
    key = tmp_path / "key.pem"
    key.write_bytes(pki.key_pem(pki.new_key()))
    text = f"""
credentials:
  c: {{type: client_credentials, token_url: "http://localhost:9/t", client_id: x,
       client_authentication: private_key_jwt, private_key_file: {key}}}
routes:
  x: {{credential: c, upstream: "http://localhost:9"}}
"""
    setting = 'camunda_sidecar_secret_file_errors{setting="credentials.c.private_key_file"}'
    async with running(tmp_path, text, ImpatientClock()) as service:
        await metric(service, f"{setting} 0.0")
        key.unlink()
        if odd is None:
            os.mkfifo(key)
        else:
            key.write_bytes(odd)
        await metric(service, f"{setting} 1.0")
        key.unlink()
        key.write_bytes(pki.key_pem(pki.new_key()))
        await metric(service, f"{setting} 0.0")
