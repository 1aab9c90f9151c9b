"""What goes to an issuer, and what becomes of its odd answers."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from tests.acceptance.peers import Behaviour, Peer, grants, peer, refuses, resets, says
from tests.acceptance.support import SECRET, Sidecar, configuration, running, until

UNLIMITED = {"min_interval": "0s", "max_wait": "5s"}


@contextmanager
def sidecar_for(tmp_path, issuer: Peer, *, requests=UNLIMITED, route=None, **credential):
    """A sidecar with one route to an upstream that tells which token came, and its credential changed so."""
    with peer(lambda request, client: says(200, (request.bearer or "none").encode())(request, client)) as upstream:
        written = configuration(
            tmp_path, issuer.url + "/oauth/token", {"operate": {"upstream": upstream.url, **(route or {})}}
        )
        written["credentials"]["cluster"] |= credential
        written["token_requests"] = dict(requests)
        with running(tmp_path, written) as sidecar:
            yield sidecar


def by_audience(behaviours: Mapping[str, Behaviour]) -> Behaviour:
    """An issuer that answers each audience in its own way."""
    return lambda request, client: behaviours[request.form["audience"]](request, client)


@contextmanager
def sidecar_of(tmp_path, issuer: Peer, names: Iterable[str], requests=UNLIMITED):
    """A sidecar with a route for each name, which is its audience too; the upstream tells which token came."""
    with peer(lambda request, client: says(200, (request.bearer or "none").encode())(request, client)) as upstream:
        routes = {name: {"upstream": upstream.url, "audience": name} for name in names}
        written = configuration(tmp_path, issuer.url + "/oauth/token", routes, token_requests=dict(requests))
        with running(tmp_path, written) as sidecar:
            yield sidecar


def token_of(sidecar: Sidecar) -> str:
    reply = sidecar.ask("/operate/x")
    assert reply.status == 200, reply
    return reply.body.decode()


def test_a_form_request_has_the_documented_fields(tmp_path):
    """RFC 6749, 4.4.2, as Camunda documents it: everything in the form, nothing in the query or Authorization."""
    with peer(grants()) as issuer, sidecar_for(tmp_path, issuer) as sidecar:
        assert token_of(sidecar) == "token-1"
        [request] = issuer.requests
        assert (request.method, request.target) == ("POST", "/oauth/token")
        assert request.headers["content-type"].partition(";")[0] == "application/x-www-form-urlencoded"
        assert "authorization" not in request.headers
        assert request.form == {
            "grant_type": "client_credentials",
            "client_id": "acceptance",
            "client_secret": SECRET,
            "audience": "operate.camunda.io",
        }


def test_a_json_request_with_everything(tmp_path):
    """`request_format: json`, with scope, resource and extra fields."""
    more = {"request_format": "json", "scope": "a b", "resource": "urn:r", "extra": {"tenant": "t"}}
    with peer(grants()) as issuer, sidecar_for(tmp_path, issuer, **more) as sidecar:
        assert token_of(sidecar) == "token-1"
        [request] = issuer.requests
        assert request.headers["content-type"].partition(";")[0] == "application/json"
        assert json.loads(request.body) == {
            "grant_type": "client_credentials",
            "client_id": "acceptance",
            "client_secret": SECRET,
            "audience": "operate.camunda.io",
            "scope": "a b",
            "resource": "urn:r",
            "tenant": "t",
        }


def test_client_authentication_by_http_basic_and_no_audience(tmp_path):
    """`client_authentication: basic` (RFC 6749, 2.3.1), and `audience: null` asks for none."""
    with (
        peer(grants()) as issuer,
        sidecar_for(tmp_path, issuer, route={"audience": None}, client_authentication="basic") as sidecar,
    ):
        assert token_of(sidecar) == "token-1"
        [request] = issuer.requests
        scheme, _, value = request.headers["authorization"].partition(" ")
        assert (scheme, base64.b64decode(value).decode()) == ("Basic", f"acceptance:{SECRET}")
        assert request.form == {"grant_type": "client_credentials"}


ODD = {
    "more": (grants("more", scope="a b", refresh_expires_in=0, **{"not-before-policy": 0}), 3600),
    "text": (grants("text", expires_in="900"), 900),
    "lower": (grants("lower", expires_in=900.5, token_type="bearer"), 900.5),
    "absent": (grants("absent", expires_in=None), 60),
    "words": (grants("words", expires_in="soon"), 60),
    "absurd": (grants("absurd", expires_in=10**9), 86400),
}


def test_odd_answers_are_tokens_with_a_known_life(tmp_path):
    """More members than expected, or none; lifetimes as text, missing, not numbers, or absurd."""
    with (
        peer(by_audience({name: answer for name, (answer, _) in ODD.items()})) as issuer,
        sidecar_of(tmp_path, issuer, ODD) as sidecar,
    ):
        for name, (_, lifetime) in ODD.items():
            before = time.time()
            assert sidecar.ask(f"/{name}/x").body == name.encode()
            expiry = sidecar.metric("token_expiry_timestamp_seconds", credential="cluster", audience=name)
            assert before + lifetime - 1 <= expiry <= time.time() + lifetime, name
            assert sidecar.ask(f"/{name}/x").body == name.encode()
        assert len(issuer.requests) == len(ODD)


NO_TOKENS = {
    "truncated": says(200, b'{"access_token": "trunc', Content_Type="application/json"),
    "missing": says(200, {"token_type": "Bearer", "expires_in": 3600}),
    "empty": says(200, {"access_token": "", "token_type": "Bearer", "expires_in": 3600}),
    "number": says(200, {"access_token": 7, "token_type": "Bearer", "expires_in": 3600}),
    "injection": says(200, {"access_token": "a\r\nX-Injected: 1", "token_type": "Bearer", "expires_in": 3600}),
    "mac": says(200, {"access_token": "a", "token_type": "mac", "expires_in": 3600}),
    "zero": says(200, {"access_token": "a", "token_type": "Bearer", "expires_in": 0}),
    "negative": says(200, {"access_token": "a", "token_type": "Bearer", "expires_in": -5}),
    "redirect": says(302, b"", Location="http://127.0.0.1:9/elsewhere"),
    "500": says(500, b"oops"),
    "reset": resets,
    "huge": says(200, b" " * (2 << 20), Content_Type="application/json"),
}


def test_what_is_no_token_is_never_used(tmp_path):
    """A transient 503 `token_unavailable` with `Retry-After`; nothing goes out without a token, none is quarantined."""
    with (
        peer(by_audience(NO_TOKENS)) as issuer,
        sidecar_of(tmp_path, issuer, NO_TOKENS, {"min_interval": "0s", "max_wait": "2s"}) as sidecar,
    ):
        with ThreadPoolExecutor() as pool:
            replies = dict(zip(NO_TOKENS, pool.map(lambda name: sidecar.ask(f"/{name}/x"), NO_TOKENS), strict=True))
        assert {name: (r.status, r.problem["code"]) for name, r in replies.items()} == dict.fromkeys(
            NO_TOKENS, (503, "token_unavailable")
        )
        assert all(reply.retry_after >= 1 for reply in replies.values())
        assert sidecar.total("quarantined") == 0
        assert sidecar.total("http_requests_total", source="upstream") == 0
        # It recovers by itself.
        issuer.behaviour = grants("good")
        for name in NO_TOKENS:
            until(lambda name=name: sidecar.ask(f"/{name}/x").body == b"good", f"{name} recovers")


def test_a_page_instead_of_a_token_is_not_asked_for_again_and_again(tmp_path):
    """A captive portal or a firewall answers 200 and HTML: a 503, and the issuer is left alone for a while."""
    with (
        peer(says(200, b"<html>Welcome</html>", Content_Type="text/html")) as issuer,
        sidecar_for(tmp_path, issuer, requests={"min_interval": "0s", "max_wait": "1s"}) as sidecar,
    ):
        for _ in range(3):
            reply = sidecar.ask("/operate/x")
            assert (reply.status, reply.problem["code"]) == (503, "token_unavailable")
        assert len(issuer.requests) <= 3
        issuer.behaviour = grants("good")
        until(lambda: sidecar.ask("/operate/x").body == b"good", "it recovers")


def test_expiry_is_respected(tmp_path):
    """A token of two seconds is used for two at most; a new one comes in time and no request fails."""
    with peer(grants(expires_in=2)) as issuer, sidecar_for(tmp_path, issuer) as sidecar:
        first_used: dict[str, float] = {}
        begun = time.monotonic()
        while time.monotonic() - begun < 3.5:
            token = token_of(sidecar)
            now = time.monotonic()
            assert now - first_used.setdefault(token, now) <= 2.0
        assert 2 <= len(first_used) <= 5
        assert len(issuer.requests) <= 5


def test_a_jwt_lives_by_the_shorter_of_its_two_lives(tmp_path):
    """`exp` - `iat`, not `exp` against the local clock: one that is wrong changes nothing."""

    def part(value):
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    issued = 1_000_000  # 1970
    jwt = f"{part({'alg': 'none'})}.{part({'iat': issued, 'exp': issued + 600})}.signature"
    with peer(grants(jwt, expires_in=3600)) as issuer, sidecar_for(tmp_path, issuer) as sidecar:
        assert token_of(sidecar) == jwt
        expiry = sidecar.metric("token_expiry_timestamp_seconds", credential="cluster", audience="operate.camunda.io")
        assert abs(expiry - time.time() - 600) < 5


def test_two_routes_with_one_identity_share_one_token(tmp_path):
    """Console and Hub by one client are one token; another scope is another identity."""
    with peer(grants()) as issuer, peer(says(200)) as upstream:
        routes = {name: {"upstream": upstream.url} for name in ("console", "hub")}
        routes["other"] = {"upstream": upstream.url, "credential": "scoped", "audience": "api.cloud.camunda.io"}
        written = configuration(tmp_path, issuer.url + "/t", routes, token_requests=UNLIMITED)
        written["credentials"]["scoped"] = written["credentials"]["cluster"] | {"scope": "more"}
        with running(tmp_path, written) as sidecar:
            assert [sidecar.ask(f"/{name}/x").status for name in ("console", "hub", "other")] == [200, 200, 200]
            assert [request.bearer for request in upstream.requests] == ["token-1", "token-1", "token-2"]


def test_an_issuers_echo_of_the_secret_goes_nowhere(tmp_path):
    """An issuer that quotes what it was sent: the error, the log, status and metrics do not."""
    answer = refuses(401, "invalid_client", f"no such secret: {SECRET}")
    with peer(answer) as issuer, sidecar_for(tmp_path, issuer) as sidecar:
        reply = sidecar.ask("/operate/x")
        assert reply.problem["code"] == "credential_rejected"
        seen = (
            reply.body.decode() + sidecar.operate("/status").body.decode() + sidecar.operate("/metrics").body.decode()
        )
        assert SECRET not in seen + sidecar.log
