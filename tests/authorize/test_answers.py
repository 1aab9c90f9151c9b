"""What other proxies are told: a route's credential, another one for a refused one, or why there is none."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from sidecar.config.model import Guard, Logging
from sidecar.config.settings import RequiredHeader, UnixAddress
from sidecar.errors import CredentialRejectedError, TokenUnavailableError
from tests.authorize.support import serving
from tests.proxy.support import FakeAttachment, FakeAuthorizer

SESSION = FakeAttachment(b"Cookie: camunda-session=s1; X-CSRF-TOKEN=c1\r\n", b"X-CSRF-TOKEN: c1\r\n")
NEXT = FakeAttachment(b"Authorization: Bearer token-2\r\n")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/-/authorize/operate"),
        ("GET", "/operate"),
        ("HEAD", "/-/authorize/operate"),
        ("POST", "/-/authorize/operate/v1/process-instances/search?size=10"),
        ("DELETE", "/operate/v1/process-instances/7"),
        ("PUT", "/-/authorize/operate/a%2Fb%0Ac"),
    ],
)
async def test_the_credential_of_a_route(method, path):
    """200 with Authorization, whatever comes after the route's name: Envoy sends the request's own method and path."""
    async with serving({"operate": FakeAuthorizer()}) as running:
        status, fields, body = await running.ask(path, method)
    assert (status, fields["authorization"], body) == (200, "Bearer token-1", b"")
    assert fields["cache-control"] == "no-store"
    assert running.counted() == {(method, 200, "sidecar"): 1}


async def test_a_session():
    """Cookie and CSRF header: whether the request is unsafe is known to the proxy alone."""
    async with serving({"tasklist": FakeAuthorizer([SESSION])}) as running:
        status, fields, _ = await running.ask("/-/authorize/tasklist")
    assert status == 200
    assert (fields["cookie"], fields["x-csrf-token"]) == ("camunda-session=s1; X-CSRF-TOKEN=c1", "c1")
    assert "authorization" not in fields


async def test_a_unix_socket(tmp_path):
    """The place for it: 0660."""
    async with serving({"operate": FakeAuthorizer()}, UnixAddress(tmp_path / "a.sock")) as running:
        assert (await running.ask("/-/authorize/operate"))[0] == 200
        assert (tmp_path / "a.sock").stat().st_mode & 0o777 == 0o660
        assert (await running.ask("/-/authorize/operate", Host="evil.example"))[0] == 421


async def test_waiting_for_a_token():
    """Who asks while there is none waits for it."""
    gate = asyncio.Event()
    async with serving({"operate": FakeAuthorizer(ready=False, gate=gate)}) as running:
        asked = asyncio.create_task(running.ask("/-/authorize/operate"))
        while not running.stats.route("authorize").in_flight:  # noqa: ASYNC110 (nobody tells)
            await asyncio.sleep(0)
        assert not asked.done()
        gate.set()
        assert (await asked)[1]["authorization"] == "Bearer token-1"


@pytest.mark.parametrize(
    ("problem", "status", "retry_after"),
    [
        (TokenUnavailableError("The issuer is throttling.", retry_after=3.2), 503, "4"),
        (CredentialRejectedError("The issuer refused it."), 502, None),
    ],
)
async def test_trouble(problem, status, retry_after):
    """The sidecar's own errors as everywhere: never a 401, which a client would take for its own."""
    with capture_logs() as lines:
        async with serving({"operate": FakeAuthorizer(ready=False, problem=problem)}) as running:
            got, fields, _ = await running.ask("/-/authorize/operate/v1/x?secret=1")
    assert (got, fields["sidecar-error"], fields.get("retry-after")) == (status, problem.code, retry_after)
    assert fields["cache-control"] == "no-store"
    [line] = [line for line in lines if line["event"] == "request"]
    assert (line["route"], line["code"], line["path"]) == ("authorize", problem.code, "/-/authorize/operate/v1/x")


@pytest.mark.parametrize(
    "path", ["/", "/-/authorize", "/-/authorize/", "/-/authorize/none", "/-/refused/none", "/-/x/operate"]
)
async def test_no_such_route(path):
    """404, and how it is asked for."""
    async with serving({"operate": FakeAuthorizer()}) as running:
        status, fields, body = await running.ask(path)
    assert (status, fields["sidecar-error"]) == (404, "no_route")
    assert b"/-/authorize/" in body


# --- a refused credential ----------------------------------------------------------------------------------------


async def test_another_one_for_a_refused_one():
    """`Sidecar-Refused` has the value that an upstream refused; the answer has the next."""
    authorizer = FakeAuthorizer([FakeAttachment(), NEXT])
    async with serving({"operate": authorizer}) as running:
        for _ in range(2):  # the second client's is an old one by then
            _, fields, _ = await running.ask("/-/authorize/operate", Sidecar_Refused="Bearer token-1")
            assert fields["authorization"] == "Bearer token-2"
    assert authorizer.events == [("replace", FakeAttachment().header)]


async def test_long_lines():
    """Proxies pass on what their clients sent, and Entra ID's tokens are long."""
    long = FakeAttachment(b"Authorization: Bearer " + b"x" * 20_000 + b"\r\n")
    async with serving({"operate": FakeAuthorizer([long, NEXT])}) as running:
        refused = long.header[15:-2].decode()
        status, fields, _ = await running.ask("/-/authorize/operate", Sidecar_Refused=refused, Cookie="c" * 30_000)
    assert (status, fields["authorization"]) == (200, "Bearer token-2")


async def test_no_other_one():
    """The same once more: so the client gets the upstream's own refusal, and no error of ours in its place."""
    async with serving({"operate": FakeAuthorizer()}) as running:
        status, fields, _ = await running.ask("/-/authorize/operate", Sidecar_Refused="Bearer token-1")
    assert (status, fields["authorization"]) == (200, "Bearer token-1")


@pytest.mark.parametrize("given", ["Bearer token-2", "Bearer token-1x", "", "Bearer tokén", "token-1"])
async def test_a_word_that_is_none(given):
    """Only who has the token can say that it was refused."""
    authorizer = FakeAuthorizer([FakeAttachment(), NEXT])
    async with serving({"operate": authorizer}) as running:
        await running.ask("/-/authorize/operate", Sidecar_Refused=given)
        assert (await running.ask("/-/refused/operate", Authorization=given))[0] == 204
        assert (await running.ask("/-/refused/operate", Cookie=given))[0] == 204
    assert authorizer.events == []


@pytest.mark.parametrize(
    ("attachment", "headers"),
    [(FakeAttachment(), {"Authorization": "Bearer token-1"}), (SESSION, {"Cookie": SESSION.header[8:-2].decode()})],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_the_word_alone(attachment, headers, method):
    """`/-/refused/ROUTE` takes a request as it was sent to the upstream, and gives nothing back."""
    authorizer = FakeAuthorizer([attachment])
    async with serving({"operate": authorizer}) as running:
        status, fields, body = await running.ask("/-/refused/operate/v1/x", method, **headers)
    assert (status, body) == (204, b"")
    assert not {"authorization", "cookie", "x-csrf-token"} & fields.keys()
    assert authorizer.events == [("invalidate", attachment.header)]


# --- the guard ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "status", "reason"),
    [
        ({"Host": "evil.example"}, 421, "host"),
        ({"Host": "app.internal", "Origin": "http://app.internal"}, 200, None),
        ({"Host": "app.internal", "Origin": "http://evil.example"}, 403, "origin"),
        ({"Host": "localhost", "Sec-Fetch-Site": "cross-site"}, 403, "fetch_metadata"),
        ({"Host": "localhost", "Sec-Fetch-Site": "same-site"}, 403, "fetch_metadata"),
        ({"Host": "127.0.0.1:8602", "X-Forwarded-Host": "app.internal", "Origin": "http://app.internal"}, 200, None),
        (
            {"Host": "127.0.0.1:8602", "X-Forwarded-Host": "app.internal", "Origin": "http://evil.example"},
            403,
            "origin",
        ),
        ({"Host": "127.0.0.1:8602", "X-Forwarded-Host": "evil.example"}, 421, "host"),
        ({"Host": "evil.example", "X-Forwarded-Host": "app.internal"}, 421, "host"),
        ({"Host": "localhost", "X-Sidecar": "no"}, 403, "require_header"),
    ],
)
@pytest.mark.parametrize("path", ["/-/authorize/operate", "/-/refused/operate"])
async def test_no_page_has_the_token(headers, status, reason, path):
    """The guard's rules are asked of the proxy's client: by Host, or, from Traefik, by X-Forwarded-Host too."""
    guard = Guard(hosts=("app.internal",), require_header=RequiredHeader("X-Sidecar", "yes"))
    async with serving({"operate": FakeAuthorizer()}, guard=guard) as running:
        got, fields, _ = await running.ask(path, **{"X-Sidecar": "yes", **headers})
    assert got == (204 if status == 200 and "refused" in path else status)
    assert running.stats.guard_rejections == ({} if reason is None else {reason: 1})
    if status != 200:
        assert "authorization" not in fields


@pytest.mark.parametrize(("access", "logged"), [("none", []), ("errors", [404]), ("all", [200, 404])])
async def test_the_access_log(access, logged):
    """One line for a request, without the query and without any value that could be a credential."""
    with capture_logs() as lines:
        async with serving({"operate": FakeAuthorizer()}, logging=Logging(access=access)) as running:
            await running.ask("/-/authorize/operate", Sidecar_Refused="Bearer token-1", Authorization="Bearer token-1")
            await running.ask("/-/authorize/none")
    requests = [line for line in lines if line["event"] == "request"]
    assert [line["status"] for line in requests] == logged
    assert "token-1" not in str(lines)
