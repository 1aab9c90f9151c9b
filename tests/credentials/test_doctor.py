"""`doctor`'s examination against real servers: what it finds, what it sends, and what it leaves on the store."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme
from aiohttp import web
from aiohttp.test_utils import TestServer
from msgspec import structs

from sidecar.clock import SystemClock
from sidecar.config.settings import (
    Admin,
    ClientCredentials,
    Credential,
    FileStore,
    Route,
    SessionLogin,
    Settings,
    StaticToken,
    TcpAddress,
    Timeouts,
    Tls,
    TokenRequests,
    Upstream,
)
from sidecar.credentials.build import build
from sidecar.credentials.doctor import Doctor, Finding
from sidecar.errors import CredentialRejectedError
from sidecar.secret import Secret, SecretSource
from sidecar.tokens.manager import TokenManager
from sidecar.tokens.observer import TokenObserver
from sidecar.tokens.stores import build_store
from tests.credentials import camunda_logins as camunda
from tests.credentials.forward_proxy import forward_proxy
from tests.credentials.support import answers, issuer

SECRET = SecretSource(value=Secret("the-secret"))
CLUSTER = "11111111-1111-1111-1111-111111111111"


def jwt(**claims: object) -> str:
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"e30.{payload}.c2ln"


def granting(token: str) -> bytes:
    return json.dumps({"access_token": token, "expires_in": 3600}).encode()


@contextlib.asynccontextmanager
async def upstream(accepted: str = "Bearer good-token", status: int = 200) -> AsyncIterator[Upstream]:
    """A server that lets one credential in."""

    async def answer(request: web.Request) -> web.Response:
        right = request.headers.get("Authorization") == accepted
        return web.Response(status=status if right else 401)

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    async with TestServer(app) as server:
        assert server.port is not None
        yield Upstream("http", "127.0.0.1", server.port, "/base")


def client(url: str, **changes: object) -> ClientCredentials:
    fields = {"name": "cluster", "token_url": url, "client_id": "c", "client_secret": SECRET}
    return ClientCredentials(**(fields | changes))  # type: ignore[arg-type]


def route(name: str, to: Upstream, credential: str = "cluster", audience: str | None = None) -> Route:
    return Route(
        name=name,
        product=name if name in {"operate", "zeebe"} else None,
        prefix=f"/{name}",
        upstream=to,
        credential=credential,
        audience=audience,
    )


class World:
    """Settings on a store directory, as one process after the other finds it."""

    def __init__(self, directory: Path, credentials: list[Credential], routes: list[Route]) -> None:
        self.settings = Settings(
            source="config.yaml",
            listen=TcpAddress("127.0.0.1", 0),
            admin=Admin(TcpAddress("127.0.0.1", 0)),
            credentials={credential.name: credential for credential in credentials},
            routes={route.name: route for route in routes},
            token_store=FileStore(directory / "store"),
            token_requests=TokenRequests(min_interval=0.0, max_wait=2.0),
        )

    async def doctor(self) -> list[Finding]:
        clock = SystemClock()
        store = build_store(self.settings.token_store, clock, TokenObserver())
        tokens = TokenManager(store, clock, self.settings.token_requests, shared_only=True)
        await tokens.start()
        try:
            doctor = Doctor(build(self.settings, clock), tokens.fetch_now, clock)
            return [finding async for finding in doctor.run(self.settings.all_routes)]
        finally:
            await tokens.close()

    async def token(self, name: str = "operate") -> bytes:
        """What a running sidecar would attach."""
        clock = SystemClock()
        store = build_store(self.settings.token_store, clock, TokenObserver())
        manager = TokenManager(store, clock, self.settings.token_requests)
        await manager.start()
        try:
            source = build(self.settings, clock).sources[name]
            return (await manager.authorizer(source, credential="cluster", audience=None).obtain()).header
        finally:
            await manager.close()


def results(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(finding.check, finding.result) for finding in findings]


def failed(findings: list[Finding]) -> list[str]:
    return [finding.detail for finding in findings if finding.result == "failed"]


async def test_a_setup_that_works(tmp_path: Path) -> None:
    """Every check passes, one token request is made, and the token is there for the sidecar."""
    async with issuer(answers()) as login, upstream() as server:
        world = World(tmp_path, [client(login.url)], [route("operate", server, audience="operate.camunda.io")])
        findings = await world.doctor()
        assert failed(findings) == []
        assert results(findings) == [
            ("dns", "ok"),
            ("connect", "ok"),
            ("issuer", "ok"),
            ("dns", "ok"),
            ("connect", "ok"),
            ("upstream", "ok"),
        ]
        assert "good-token" not in repr(findings)
        assert await world.token() == b"Authorization: Bearer good-token\r\n"
        assert len(login.received) == 1


async def test_success_ends_a_quarantine_and_a_refusal_does_not(tmp_path: Path) -> None:
    """A permission that was added in the Console changes no secret: `doctor` tells the whole host."""
    refusal = answers(b'{"error":"access_denied","error_description":"Unauthorized"}', status=403)
    async with issuer(refusal, refusal, answers()) as login, upstream() as server:
        world = World(tmp_path, [client(login.url)], [route("operate", server)])
        with pytest.raises(CredentialRejectedError):
            await world.token()
        assert ("issuer", "failed") in results(await world.doctor())
        with pytest.raises(CredentialRejectedError):
            await world.token()
        assert len(login.received) == 2, "the sidecar itself asks nobody in quarantine"
        assert failed(await world.doctor()) == []
        assert await world.token() == b"Authorization: Bearer good-token\r\n"
        assert len(login.received) == 3


async def test_a_429_is_a_cool_down_for_everybody(tmp_path: Path) -> None:
    """`doctor` asks by the same budget: a second one is told when, and asks nobody."""
    async with issuer(answers(b"", status=429, Retry_After="120")) as login, upstream() as server:
        world = World(tmp_path, [client(login.url)], [route("operate", server)])
        assert "answered 429" in failed(await world.doctor())[0]
        assert "budget" in failed(await world.doctor())[0]
    assert len(login.received) == 1


async def test_what_cannot_be_reached_is_not_asked(tmp_path: Path) -> None:
    """A refused connection and a name that does not exist each fail once; the rest is skipped."""
    async with issuer(answers()) as gone:
        pass
    world = World(
        tmp_path,
        [client(gone.url)],
        [
            route("operate", Upstream("http", "upstream.invalid", 80, "")),
            route("zeebe", Upstream("http", "upstream.invalid", 80, "")),
        ],
    )
    findings = await world.doctor()
    assert results(findings) == [
        ("dns", "ok"),
        ("connect", "failed"),
        ("issuer", "skipped"),
        ("dns", "failed"),
        ("upstream", "skipped"),
        ("upstream", "skipped"),
    ]
    assert ["refuses connections" in failed(findings)[0], "cannot be resolved" in failed(findings)[1]] == [True, True]


async def test_a_clock_that_is_off_and_another_audience_and_cluster(tmp_path: Path) -> None:
    """From the claims of a token that was granted this moment."""
    now = time.time()
    tokens = [
        jwt(iat=now - 6000, exp=now - 2400, aud="operate.camunda.io"),
        jwt(iat=now, exp=now + 3600, aud="account"),
        jwt(iat=now, exp=now + 3600, **{"https://camunda.com/clusterId": "2" + CLUSTER[1:]}),
    ]
    async with issuer(*(answers(granting(token)) for token in tokens)) as login, upstream() as server:
        there = Upstream("http", server.host, server.port, f"/{CLUSTER}")
        world = World(
            tmp_path,
            [client(login.url)],
            [route(name, there, audience=f"{name}.camunda.io") for name in ("operate", "zeebe", "optimize")],
        )
        said = failed(await world.doctor())
    assert re.fullmatch(
        r"`exp` is 40 min( \d+ s)? ago by this machine's clock: the clock is off. Set it \(NTP\).", said[0]
    )
    assert "not for zeebe.camunda.io" in said[1]
    assert "belongs to cluster 2" in said[2]
    assert all("refuses the credential (401" in text for text in said[3:])


async def test_an_upstream_without_a_limit_is_waited_for_all_the_same(tmp_path: Path) -> None:
    """0 is no limit, as Zeebe's default is, and not no time."""
    async with issuer(answers()) as login, upstream() as server:
        unlimited = structs.replace(route("zeebe", server), timeouts=Timeouts(response=0.0))
        said = failed(await World(tmp_path, [client(login.url)], [unlimited]).doctor())
    assert not [text for text in said if "in time" in text]


async def test_an_organization_client_for_a_clusters_route(tmp_path: Path) -> None:
    """What the same credential is granted tells whose it is."""
    refusal = answers(b'{"error":"access_denied"}', status=403)
    async with issuer(refusal, answers()) as login, upstream() as server:
        world = World(
            tmp_path,
            [client(login.url)],
            [
                route("operate", server, audience="operate.camunda.io"),
                route("hub", server, audience="api.cloud.camunda.io"),
            ],
        )
        said = failed(await world.doctor())
    assert len(said) == 1
    assert said[0].endswith("this is an organization client, the route wants a cluster client.")


async def test_an_intercepted_issuer_names_who_signed(tmp_path: Path) -> None:
    """And what is to be done; nothing is sent."""
    authority = trustme.CA(organization_name="Inspecting Firewall")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    async with issuer(answers(), context=context) as login, upstream() as server:
        routes = [route("operate", server)]
        said = failed(await World(tmp_path, [client(login.url)], routes).doctor())
        assert "tls.ca_file" in said[0]
        assert "Inspecting Firewall" in said[0]
        assert login.received == []
        trusted = World(tmp_path, [client(login.url, tls=Tls(ca_file=bundle))], routes)
        findings = await trusted.doctor()
    assert failed(findings) == []
    assert any(finding.check == "tls" and "TLSv1.3" in finding.detail for finding in findings)


async def test_the_way_through_a_forward_proxy(tmp_path: Path) -> None:
    """The proxy's own name is what is resolved, and its refusal is what is told."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    async with forward_proxy("user:right") as proxy, issuer(answers(), context=context) as login, upstream() as server:
        for user, wanted in (("user:right", []), ("user:wrong", ["HTTPS_PROXY"])):
            settings = client(login.url, tls=Tls(ca_file=bundle), proxy=proxy.url(user))
            said = failed(
                await World(tmp_path / user.replace(":", ""), [settings], [route("operate", server)]).doctor()
            )
            assert [word for text in said for word in wanted if word in text] == wanted
            assert len(said) == len(wanted)


async def test_sessions_and_static_tokens_are_examined_too(tmp_path: Path) -> None:
    """Every type of credential, as far as it goes."""
    fake = camunda.camunda_8_8()
    async with TestServer(fake.application()) as server, upstream("Bearer shared") as other:
        assert server.port is not None
        login = SessionLogin(
            "login", str(server.make_url("/login")), camunda.USER, SecretSource(value=Secret(camunda.PASSWORD))
        )
        here = Upstream("http", "127.0.0.1", server.port, "/v1/thing?x=")
        world = World(
            tmp_path,
            [login, StaticToken("static", SecretSource(value=Secret("shared"))), StaticToken("wrong", SECRET)],
            [route("tasklist", here, "login"), route("optimize", other, "static"), route("docs", other, "wrong")],
        )
        findings = await world.doctor()
    assert [finding.subject for finding in findings if finding.result == "failed"] == ["route docs"]


async def test_an_upstream_that_forbids_or_fails(tmp_path: Path) -> None:
    """403 and 5xx each with their own cure."""
    for status, said in ((403, "permission"), (503, "look at the upstream")):
        async with issuer(answers()) as login, upstream(status=status) as server:
            findings = await World(tmp_path / str(status), [client(login.url)], [route("operate", server)]).doctor()
        assert said in failed(findings)[0]
