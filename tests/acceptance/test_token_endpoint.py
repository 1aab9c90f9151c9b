"""The local token endpoint, as a program that insists on OAuth meets it."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.acceptance.peers import Peer, grants, peer, refuses, says
from tests.acceptance.support import Reply, Sidecar, ask, configuration, raw, running, until, write

SECRET = "billing:s3cr%t+/="
BILLING = {"client_id": "billing", "client_secret": SECRET}
OPERATE = {"grant_type": "client_credentials", "audience": "operate.camunda.io"}
FORM = "application/x-www-form-urlencoded"


def basic(name: str, secret: str) -> str:
    return "Basic " + base64.b64encode(urlencode({name: secret}).replace("=", ":", 1).encode()).decode()


def asked(sidecar: Sidecar, fields: dict[str, Any] | bytes, kind: str = FORM, **headers: str) -> Reply:
    """One token request; its answer must not be stored."""
    body = (
        fields if isinstance(fields, bytes) else (json.dumps(fields) if "json" in kind else urlencode(fields)).encode()
    )
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    reply = sidecar.ask("/oauth/token", "POST", body=body, headers={"Content-Type": kind, **named})
    assert reply.headers["cache-control"] == "no-store"
    return reply


def refused(reply: Reply) -> tuple[int, str]:
    """Status and `error` of RFC 6749, 5.2."""
    assert reply.headers["content-type"] == "application/json"
    document = json.loads(reply.body)
    assert set(document) == {"error", "error_description"}
    assert SECRET not in reply.body.decode()
    assert reply.headers["sidecar-error"]
    assert ("www-authenticate" in reply.headers) is (reply.status == 401)
    return reply.status, document["error"]


@contextmanager
def serving(directory: Path, issuer: Peer, **more: Any) -> Iterator[Sidecar]:
    """Two audiences; the client `billing` may have one of them."""
    (directory / "billing").write_text(f"{SECRET}\n")
    routes = {
        "operate": {"upstream": "http://127.0.0.1:9"},
        "all": {"upstream": "http://127.0.0.1:9", "prefix": "/", "audience": "other"},
    }
    sections = {
        "clients": {"billing": {"secret_file": "billing", "audiences": ["operate.camunda.io"]}},
        "token_endpoint": {},
        "token_requests": {"min_interval": "0s"},
    } | more
    with running(directory, configuration(directory, issuer.url, routes, **sections)) as sidecar:
        yield sidecar


@pytest.fixture(scope="module")
def issuer() -> Iterator[Peer]:
    """It gives a scope with its token."""
    with peer(grants(scope="one two")) as made:
        yield made


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory, issuer) -> Iterator[Sidecar]:
    with serving(tmp_path_factory.mktemp("endpoint"), issuer) as made:
        yield made


def test_one_token_for_every_way_of_asking(sidecar, issuer):
    """As a form and as JSON, secret in the body and by HTTP Basic (RFC 6749, 2.3.1), chunked: one issuer request."""
    by_basic = basic("billing", SECRET)
    answers = [
        asked(sidecar, OPERATE | BILLING),
        asked(sidecar, OPERATE | BILLING, "application/json; charset=utf-8"),
        asked(sidecar, OPERATE, Authorization=by_basic),
        asked(sidecar, OPERATE | {"client_id": "billing"}, "application/json", Authorization=by_basic),
        asked(sidecar, OPERATE | BILLING, Authorization=""),
    ]
    tokens = [json.loads(answer.body) for answer in answers]
    assert {answer.status for answer in answers} == {200}
    assert {token["access_token"] for token in tokens} == {"token-1"}
    assert {(token["token_type"], token["scope"]) for token in tokens} == {("Bearer", "one two")}
    assert all(3500 < token["expires_in"] <= 3600 for token in tokens)
    body = urlencode(OPERATE | BILLING).encode()
    head = f"POST /oauth/token HTTP/1.1\r\nHost: localhost\r\nContent-Type: {FORM}\r\nConnection: close\r\n"
    chunked = b"Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    answer = raw(sidecar.address, head.encode() + chunked)
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
    assert b"token-1" in answer
    assert len(issuer.requests) == 1
    assert sidecar.metric("client_requests_total", client="billing", outcome="allowed") >= 6


@pytest.mark.parametrize(
    ("fields", "headers", "expected"),
    [
        (OPERATE | BILLING | {"client_secret": "wrong"}, {}, (401, "invalid_client")),
        (OPERATE | BILLING | {"client_id": "nobody"}, {}, (401, "invalid_client")),
        (OPERATE, {}, (401, "invalid_client")),
        (OPERATE, {"Authorization": basic("billing", "wrong")}, (401, "invalid_client")),
        (OPERATE, {"Authorization": "Basic ???"}, (401, "invalid_client")),
        (OPERATE, {"Authorization": "Bearer x"}, (401, "invalid_client")),
        (OPERATE | BILLING, {"Authorization": basic("billing", SECRET)}, (400, "invalid_request")),
        (OPERATE | {"client_id": "x"}, {"Authorization": basic("billing", SECRET)}, (400, "invalid_request")),
        (OPERATE | BILLING | {"audience": "other"}, {}, (400, "invalid_target")),
        (OPERATE | BILLING | {"audience": "nothing"}, {}, (400, "invalid_target")),
        (OPERATE | BILLING | {"resource": "nothing"}, {}, (400, "invalid_target")),
        (OPERATE | BILLING | {"scope": "more"}, {}, (400, "invalid_scope")),
        (OPERATE | BILLING | {"grant_type": "password"}, {}, (400, "unsupported_grant_type")),
        (urlencode(OPERATE | BILLING).encode() + b"&audience=other", {}, (400, "invalid_request")),
        (b"<xml/>", {"Content_Type": "text/xml"}, (400, "invalid_request")),
        (b"x" * 100_000, {}, (413, "invalid_request")),
        (OPERATE | BILLING, {"Origin": "http://127.0.0.1", "Host": "127.0.0.1"}, (403, "invalid_request")),
        (OPERATE | BILLING, {"Sec_Fetch_Site": "same-origin"}, (403, "invalid_request")),
    ],
)  # fmt: skip
def test_what_is_refused(sidecar, issuer, fields, headers, expected):
    """OAuth's own error, one log line that names the code and no secret, and no token request."""
    before, lines = len(issuer.requests), len(sidecar.lines)
    assert refused(asked(sidecar, fields, **headers)) == expected
    until(lambda: len(sidecar.lines) > lines, "a log line")
    [line] = [each for each in sidecar.events[-1:] if each["event"] == "request"]
    assert (line["route"], line["status"]) == ("token_endpoint", expected[0])
    assert line["client"] in {"billing", "-"}
    assert SECRET not in sidecar.log
    assert len(issuer.requests) == before


def test_ten_megabytes_are_not_read(sidecar):
    """413, and the connection ends: chunked, where nobody knew before how long it is, too."""
    head = f"POST /oauth/token HTTP/1.1\r\nHost: localhost\r\nContent-Type: {FORM}\r\n".encode()
    for framing in (b"Content-Length: 10000000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n8000\r\n" + b"x" * 32768):
        answer = raw(sidecar.address, head + framing)
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b"\r\nConnection: close\r\n" in answer


@pytest.mark.parametrize("headers", [{"Host": "evil.example"}, {"Origin": "http://evil.example"}])
def test_the_guard_holds_here_too(sidecar, headers):
    """DNS rebinding and a page's form end before anybody looks at the body."""
    reply = asked(sidecar, OPERATE | BILLING, **headers)
    assert reply.problem["code"] in {"unknown_host", "cross_site"}


def test_other_methods_and_paths(sidecar):
    """405 names POST; a path below it is not the endpoint, nor another route's."""
    reply = sidecar.ask("/oauth/token")
    assert refused(reply) == (405, "invalid_request")
    assert reply.headers["allow"] == "POST"
    assert sidecar.ask("/oauth/token/x", "POST").problem["code"] == "forbidden_by_policy"


def test_any_client(tmp_path, issuer):
    """Any id and any secret will do; whoever takes a known client's name has to have its secret."""
    with serving(tmp_path, issuer, token_endpoint={"path": "/t", "allow_any_client": True}) as sidecar:

        def post(fields: dict[str, str]) -> Reply:
            body = urlencode(fields).encode()
            return sidecar.ask("/t", "POST", body=body, headers={"Content-Type": FORM})

        assert post(OPERATE | {"client_id": "dummy", "client_secret": "dummy"}).status == 200
        assert post({"grant_type": "client_credentials", "audience": "other"}).status == 200
        assert refused(post({"grant_type": "client_credentials"})) == (400, "invalid_target")  # of two, neither
        assert refused(post(OPERATE | BILLING | {"client_secret": "x"})) == (401, "invalid_client")
        assert sidecar.metric("client_requests_total", client="-", outcome="allowed") == 2


def test_a_changed_secret_file(tmp_path, issuer):
    """A client's new secret is in force within seconds, and the old one is not any more."""
    with serving(tmp_path, issuer) as sidecar:
        assert asked(sidecar, OPERATE | BILLING).status == 200
        write(tmp_path / "billing", "another")
        until(lambda: asked(sidecar, OPERATE | BILLING | {"client_secret": "another"}).status == 200, "the new secret")
        assert refused(asked(sidecar, OPERATE | BILLING)) == (401, "invalid_client")


@pytest.mark.parametrize("behaviour", [refuses(), says(500), refuses(429, "slow_down")])
def test_the_sidecars_own_trouble_is_503(tmp_path, behaviour):
    """Never a 401, which the client would take for its own: the issuer refuses, fails or throttles."""
    patience = {"min_interval": "0s", "max_wait": "1s"}
    with peer(behaviour) as issuer, serving(tmp_path, issuer, token_requests=patience) as sidecar:
        reply = asked(sidecar, OPERATE | BILLING)
        assert refused(reply) == (503, "temporarily_unavailable")
        assert reply.retry_after >= 1


def test_a_token_about_to_end_is_refreshed_first(tmp_path):
    """The rest of a life that is handed out is never less than 15 % of it, or two minutes."""
    with peer(grants(expires_in=7)) as issuer, serving(tmp_path, issuer) as sidecar:
        seen = set()

        def renewed() -> bool:
            token = json.loads(asked(sidecar, OPERATE | BILLING).body)
            seen.add(token["access_token"])
            assert token["expires_in"] >= int(0.15 * 7)
            return len(seen) > 1

        until(renewed, "two tokens")


def test_on_a_unix_socket(tmp_path, issuer):
    """Its permissions say who may come, so that any client may."""
    address = f"unix:{tmp_path / 'proxy.sock'}"
    with serving(tmp_path, issuer, listen=address, token_endpoint={"allow_any_client": True}):
        body = urlencode(OPERATE).encode()
        assert ask(address, "/oauth/token", "POST", body=body, headers={"Content-Type": FORM}).status == 200
