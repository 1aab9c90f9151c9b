"""Cookie logins against servers that behave as Camunda's versions do."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from sidecar.clock import SystemClock
from sidecar.config.settings import SessionLogin
from sidecar.credentials import cookies
from sidecar.credentials.classification import IssuerResponse
from sidecar.credentials.file_watching import Watched
from sidecar.credentials.session import LIFETIME, SessionSource, session_grant, wants_token
from sidecar.credentials.token_request import Endpoint
from sidecar.errors import GrantFailedError, GrantInterruptedError, GrantRefusedError, GrantThrottledError
from sidecar.secret import Secret
from sidecar.tokens.grant import Grant
from tests.credentials import camunda_logins as camunda
from tests.credentials.support import Behaviour, CountingGate, answers, issuer


def login(url: str, *, password: str = camunda.PASSWORD, **changes: object) -> SessionSource:
    settings = SessionLogin(
        name="operate-login",
        login_url=url,
        username=camunda.USER,
        password=None,  # type: ignore[arg-type]
        **changes,  # type: ignore[arg-type]
    )
    return SessionSource(
        settings,
        password=Watched("password", (), lambda: Secret(password)),
        endpoint=Endpoint(url, 5.0),
        clock=SystemClock(),
    )


@contextlib.asynccontextmanager
async def serving(fake: camunda.CamundaLogin) -> AsyncIterator[str]:
    async with TestServer(fake.application()) as server:
        yield str(server.make_url("/"))


async def call(base: str, method: str, grant: Grant) -> int:
    """A request with exactly the header lines that the grant brings."""
    lines = grant.header + (b"" if method == "GET" else grant.unsafe_header)
    pairs = [line.split(": ", 1) for line in lines.decode().split("\r\n") if line]
    async with (
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as client,
        client.request(method, f"{base}v1/thing", headers=dict(pairs)) as response,
    ):
        return response.status


@pytest.mark.parametrize("version", camunda.VERSIONS)
@pytest.mark.parametrize("request_format", ["form", "query"])
async def test_a_login_serves_reads_and_writes(version: str, request_format: str) -> None:
    """Session cookie and CSRF token of every version are found and sent back in the way that it wants."""
    fake = camunda.VERSIONS[version]()
    async with serving(fake) as base:
        source = login(base.rstrip("/") + fake.path, request_format=request_format)
        grant = await source.fetch(CountingGate(), attempts=2)
        assert grant.lifetime == LIFETIME
        assert [await call(base, method, grant) for method in ("GET", "POST", "DELETE")] == [200, 200, 200]


@pytest.mark.parametrize("version", [version for version in camunda.VERSIONS if version != "operate_8_4"])
async def test_the_csrf_token_is_what_lets_writes_pass(version: str) -> None:
    """Without it these servers answer 403: the fakes are strict, so the test above proves something."""
    fake = camunda.VERSIONS[version]()
    async with serving(fake) as base:
        grant = await login(base.rstrip("/") + fake.path).fetch(CountingGate(), attempts=2)
        bare = Grant(grant.header, grant.lifetime)
        assert await call(base, "GET", bare) == 200
        assert await call(base, "POST", bare) == 403


async def test_a_login_that_wants_a_token_is_learnt_once() -> None:
    """The first refusal costs one attempt; every login after it fetches the page inside its own attempt's slot."""
    fake = camunda.camunda_later()
    gate = CountingGate()
    async with serving(fake) as base:
        source = login(base.rstrip("/") + fake.path)
        await source.fetch(gate, attempts=3)
        assert (len(fake.logins), fake.pages) == (2, 1)
        assert gate.seen == ["slot", "sent"] * 2
        await source.fetch(gate, attempts=1)
    assert (len(fake.logins), fake.pages) == (3, 2)
    assert gate.seen == ["slot", "sent"] * 3


@pytest.mark.parametrize("version", camunda.VERSIONS)
async def test_a_wrong_password_is_a_definite_refusal(version: str) -> None:
    """It is quarantined, never hammered: with Camunda's own lock-out a retry would be worse than useless."""
    fake = camunda.VERSIONS[version]()
    async with serving(fake) as base:
        source = login(base.rstrip("/") + fake.path, password="wrong-one")
        with pytest.raises(GrantRefusedError) as caught:
            await source.fetch(CountingGate(), attempts=3)
    assert caught.value.oauth_error == "login_refused"
    assert "demo" in caught.value.detail
    assert "wrong-one" not in caught.value.detail
    assert len(fake.logins) == (2 if version == "camunda_later" else 1)


@pytest.mark.parametrize(
    ("answer", "error", "said"),
    [
        (answers(b"", status=200), GrantFailedError, "correct login_url"),
        (answers(b"", status=204, Set_Cookie="other=1"), GrantFailedError, "correct login_url"),
        (answers(b"<html>", status=200, content_type="text/html"), GrantFailedError, "correct login_url"),
        (answers(b"", status=302, Location="/login?error"), GrantRefusedError, "check user and password"),
        (answers(b"", status=302, Location="https://id.example/authorize"), GrantFailedError, "OIDC"),
        (answers(b"", status=404), GrantFailedError, "login_url"),
        (answers(b"", status=429, Retry_After="3"), GrantThrottledError, "429"),
        (answers(b"<html>", status=403, content_type="text/html"), GrantThrottledError, "firewall"),
        (answers(b"", status=503), GrantInterruptedError, "503"),
    ],
)
async def test_what_is_no_session_is_said_as_what_it_is(answer: Behaviour, error: type[Exception], said: str) -> None:
    """Each response that begins no session has its own class and cure."""
    async with issuer(answer) as fake:
        with pytest.raises(error, match=said):
            await login(fake.url).fetch(CountingGate(), attempts=1)


@pytest.mark.parametrize(
    ("status", "safe", "refused"),
    [(401, True, True), (401, False, True), (403, False, True), (403, True, False)],
)
def test_which_answers_mean_that_the_session_is_lost(status: int, safe: bool, refused: bool) -> None:
    """401 always; 403 only to an unsafe request: to a safe one it is a matter of permissions."""
    assert login("http://localhost/login").refuses(status, safe=safe) is refused


COOKIES = b"Cookie: OPERATE-SESSION=one; X-CSRF-TOKEN=raw; lb=a\r\n"


@pytest.mark.parametrize(
    ("set_cookie", "header", "unsafe"),
    [
        ([b"OPERATE-SESSION=two; Path=/"], b"Cookie: OPERATE-SESSION=two; X-CSRF-TOKEN=raw; lb=a\r\n", b"masked"),
        ([b"X-CSRF-TOKEN=new"], b"Cookie: OPERATE-SESSION=one; X-CSRF-TOKEN=new; lb=a\r\n", b"new"),
        (
            [b"X-CSRF-TOKEN=; Max-Age=0", b"X-CSRF-TOKEN=new"],
            b"Cookie: OPERATE-SESSION=one; X-CSRF-TOKEN=new; lb=a\r\n",
            b"new",
        ),
        ([b"lb=b"], b"Cookie: OPERATE-SESSION=one; X-CSRF-TOKEN=raw; lb=b\r\n", b"masked"),
    ],
)
def test_a_rotated_cookie_is_taken_over(set_cookie: list[bytes], header: bytes, unsafe: bytes) -> None:
    """The server's newest session, CSRF and load-balancer cookies are the ones that go out next."""
    grant = Grant(COOKIES, 100.0, b"X-CSRF-TOKEN: masked\r\n")
    rotated = login("http://localhost/login").rotate(grant, set_cookie)
    assert rotated == Grant(header, 100.0, b"X-CSRF-TOKEN: " + unsafe + b"\r\n")


@pytest.mark.parametrize(
    "set_cookie",
    [
        [],
        [b"theme=dark"],
        [b"OPERATE-SESSION=one; Path=/"],
        [b"OPERATE-SESSION=; Max-Age=0"],
        [b"OPERATE-SESSION=gone; Expires=Thu, 01 Jan 1970 00:00:00 GMT"],
        [b"OPERATE-SESSION=a\r\nX-Evil: 1"],
        [b"OPERATE-SESSION=\xff"],
        [b"=nameless", b"no equals sign"],
    ],
)
def test_other_cookies_change_nothing(set_cookie: list[bytes]) -> None:
    """A session that the server ends is found out by its 401; a cookie that is none of ours is not kept for clients."""
    grant = Grant(COOKIES, 100.0, b"X-CSRF-TOKEN: masked\r\n")
    assert login("http://localhost/login").rotate(grant, set_cookie) is None


def test_nothing_in_a_cookie_can_add_a_header() -> None:
    """A login that tries to smuggle a line break loses that cookie, and with it the session."""
    response = IssuerResponse(204, {}, b"", ("OPERATE-SESSION=x\r\nEvil: 1", "OPERATE-SESSION=a b", "SESSION=\x00"))
    assert session_grant(response) is None


@pytest.mark.parametrize(
    ("status", "body", "wanted"),
    [
        (401, b'{"detail":"Invalid CSRF Token"}', True),
        (401, b'{"message":"Invalid credentials"}', False),
        (403, b"", True),
        (403, b"<html>blocked</html>", False),
        (200, b"csrf", False),
    ],
)
def test_when_a_login_is_taken_to_want_a_token(status: int, body: bytes, wanted: bool) -> None:
    """A wrong password is not mistaken for a missing token, nor a firewall's page."""
    assert wants_token(IssuerResponse(status, {}, body)) is wanted


async def test_the_password_travels_in_the_query_only_where_it_is_asked_to() -> None:
    """Query strings end up in access logs; the form body is the default."""
    seen: list[tuple[str, bytes]] = []

    async def remember(request: web.Request) -> web.Response:
        seen.append((request.rel_url.raw_query_string, await request.read()))
        return web.Response(status=204, headers={"Set-Cookie": "OPERATE-SESSION=1"})

    app = web.Application()
    app.router.add_post("/api/login", remember)
    async with TestServer(app) as server:
        url = str(server.make_url("/api/login"))
        await login(url).fetch(CountingGate(), attempts=1)
        await login(url, request_format="query").fetch(CountingGate(), attempts=1)
    assert seen == [
        ("", b"username=demo&password=pass%2Bword%2F%C3%BC%26%3D"),
        ("username=demo&password=pass%2Bword/%C3%BC%26%3D", b""),
    ]


def test_a_servers_cookies_cost_little_and_never_raise() -> None:
    """A header may be as long as the head's limit, and a hostile server fills it."""
    hostile = ["s=1; " + "expires=" * 8000, "s=1; max-age=" + "9" * 8000, "s=1; max-age=-" + "9" * 8000]
    began = time.process_time()
    assert [cookies.apply({}, [line]) for line in hostile] == [{"s": "1"}, {"s": "1"}, {}]
    assert time.process_time() - began < 0.5


def test_a_session_does_not_grow_without_bound() -> None:
    """An upstream that sets a huge cookie changes nothing: it would be sent with every request."""
    held = Grant(b"Cookie: camunda-session=a\r\n", 60.0)
    assert login("http://localhost/login").rotate(held, [b"camunda-session=" + b"b" * 9000]) is None
