"""Tokens that are refused, throttled, or not to be had: what clients and operators see."""

from __future__ import annotations

import signal
import socket
import time
from contextlib import closing, contextmanager

from tests.acceptance.peers import Hang, Peer, grants, peer, refuses, says
from tests.acceptance.support import SECRET, configuration, running, until
from tests.acceptance.test_cold_start import storm

UNLIMITED = {"min_interval": "0s"}
AUDIENCE = "operate.camunda.io"


def tells_its_token(request, client):
    """An upstream whose answer is the token that came."""
    says(200, (request.bearer or "none").encode())(request, client)


class Accepts:
    """An upstream that takes every token but these, and answers them 401."""

    def __init__(self, *refused: str) -> None:
        self.refused = set(refused)

    def __call__(self, request, client):
        if request.bearer in self.refused:
            says(401, b"expired?", WWW_Authenticate="Bearer")(request, client)
        else:
            says(200, request.body or b"ok")(request, client)


@contextmanager
def between(tmp_path, issuer: Peer, upstream: Peer, requests=UNLIMITED, **more):
    routes = {name: {"upstream": upstream.url} for name in ("operate", "optimize")}
    written = configuration(tmp_path, issuer.url + "/oauth/token", routes, token_requests=dict(requests), **more)
    with running(tmp_path, written) as sidecar:
        yield sidecar


# --- an upstream's 401 -------------------------------------------------------------------------------------------


def test_a_refused_token_is_replaced_and_the_request_sent_once_more(tmp_path):
    """401: one new token, one replay with the whole body; the client sees the second answer alone."""
    with peer(grants()) as issuer, peer(Accepts("token-1")) as upstream, between(tmp_path, issuer, upstream) as sidecar:
        reply = sidecar.ask("/operate/x", "POST", body=b"the body")
        assert (reply.status, reply.body) == (200, b"the body")
        assert [(request.bearer, request.body) for request in upstream.requests] == [
            ("token-1", b"the body"),
            ("token-2", b"the body"),
        ]
        assert len(issuer.requests) == 2
        assert sidecar.metric("token_invalidations_total", audience=AUDIENCE, reason="upstream_refused") == 1
        assert sidecar.metric("upstream_retries_total", route="operate", reason="token_refused") == 1
        # The refused one is never handed out again.
        assert sidecar.ask("/operate/y").status == 200
        assert upstream.requests[-1].bearer == "token-2"


def test_a_revoked_token_costs_one_token_request_for_everybody(tmp_path):
    """Two hundred clients of two sidecars meet the same 401: one new token, and every request is answered."""
    accepts = Accepts()
    with peer(grants()) as issuer, peer(accepts) as upstream, between(tmp_path, issuer, upstream) as one:
        beside = tmp_path / "beside"
        beside.mkdir()
        written = configuration(tmp_path, issuer.url + "/oauth/token", {"operate": {"upstream": upstream.url}})
        with running(beside, written | {"token_requests": UNLIMITED}) as other:
            assert [sidecar.ask("/operate/x").status for sidecar in (one, other)] == [200, 200]
            assert len(issuer.requests) == 1
            accepts.refused.add("token-1")
            urls = [f"http://{sidecar.address}/operate/x" for sidecar in (one, other)]
            assert storm(*urls, times=100) == {200: 200}
            assert len(issuer.requests) == 2
            # A sidecar that was idle meanwhile takes the others' token, and asks nobody.
            accepts.refused.add("token-2")
            assert [sidecar.ask("/operate/x").status for sidecar in (one, other)] == [200, 200]
            assert len(issuer.requests) == 3


def test_a_401_that_no_token_cures_is_the_clients_answer(tmp_path):
    """Refused again: the upstream's own 401 goes through, and that path does not cost a token request each time."""
    with (
        peer(grants()) as issuer,
        peer(says(401, b"no", WWW_Authenticate="Bearer x")) as upstream,
        between(tmp_path, issuer, upstream) as sidecar,
    ):
        for _ in range(10):
            reply = sidecar.ask("/operate/forbidden")
            assert (reply.status, reply.body) == (401, b"no")
            assert reply.headers["www-authenticate"] == "Bearer x"
            assert "sidecar-error" not in reply.headers
        assert len(issuer.requests) == 2


def test_a_body_that_is_too_large_to_keep_is_not_replayed(tmp_path):
    """Beyond `limits.replay_bytes` the 401 goes through; the next request has the new token."""
    with (
        peer(grants()) as issuer,
        peer(Accepts("token-1")) as upstream,
        between(tmp_path, issuer, upstream, limits={"replay_bytes": "1KiB"}) as sidecar,
    ):
        assert sidecar.ask("/operate/x", "POST", body=b"x" * 5000).status == 401
        assert [request.bearer for request in upstream.requests] == ["token-1"]
        assert sidecar.ask("/operate/x").status == 200
        assert upstream.requests[-1].bearer == "token-2"


def test_403_costs_no_token(tmp_path):
    """A missing permission is no expired token."""
    with peer(grants()) as issuer, peer(says(403, b"no")) as upstream, between(tmp_path, issuer, upstream) as sidecar:
        assert [sidecar.ask("/operate/x").status for _ in range(3)] == [403] * 3
        assert (len(issuer.requests), len(upstream.requests)) == (1, 3)


# --- 429 ---------------------------------------------------------------------------------------------------------


def test_429_is_a_503_with_a_true_retry_after_and_the_cache_serves_on(tmp_path):
    """Throttled: nobody asks before its `Retry-After`; who has a token is served, and who heeds our answer is too."""
    with (
        peer(grants()) as issuer,
        peer(tells_its_token) as upstream,
        between(tmp_path, issuer, upstream, {"min_interval": "0s", "max_wait": "1s"}) as sidecar,
    ):
        assert sidecar.ask("/operate/x").body == b"token-1"
        granting, issuer.behaviour = issuer.behaviour, says(429, {"error": "too_many_requests"}, Retry_After="3")
        refused = sidecar.ask("/optimize/x")
        assert (refused.status, refused.problem["code"]) == (503, "token_unavailable")
        assert 2 <= refused.retry_after <= 4
        heeded = time.monotonic() + refused.retry_after
        again = sidecar.ask("/optimize/x")
        assert again.status == 503
        assert 1 <= again.retry_after <= refused.retry_after
        assert len(issuer.requests) == 2
        assert sidecar.ask("/operate/x").body == b"token-1"
        issuer_label = {"issuer": issuer.url + "/oauth/token"}
        assert 0 < sidecar.metric("cooldown_until_timestamp_seconds", **issuer_label) - time.time() < 4
        assert sidecar.total("token_requests_total", outcome="throttled") == 1
        assert sidecar.total("quarantined") == 0
        [budget] = sidecar.status()["issuers"]
        assert budget["cooldown_until"] > time.time()
        line = sidecar.logged("the issuer throttles: nobody on this store asks it for a while")
        assert {
            "credential": "cluster",
            "audience": "optimize.camunda.io",
            "level": "warning",
        }.items() <= line.items()

        issuer.behaviour = granting
        until(lambda: time.monotonic() > heeded, "the time that Retry-After named")
        assert sidecar.ask("/optimize/x").status == 200


def test_a_cool_down_outlives_a_restart(tmp_path):
    """The store knows: the next process does not ask either, and says when it will."""
    with peer(says(429, Retry_After="60")) as issuer, peer(tells_its_token) as upstream:
        for _ in range(2):
            with between(tmp_path, issuer, upstream) as sidecar:
                reply = sidecar.ask("/operate/x")
                assert (reply.status, reply.problem["code"]) == (503, "token_unavailable")
                assert 50 <= reply.retry_after <= 61
                assert len(issuer.requests) == 1
                assert sidecar.end() == 0


# --- a deleted key -----------------------------------------------------------------------------------------------


def test_a_deleted_key_is_a_502_that_names_it_and_is_not_tried_again(tmp_path):
    """502 `credential_rejected` with the issuer's code and the credential's name; others go on; SIGHUP ends it."""
    with peer(grants()) as issuer, peer(tells_its_token) as upstream, between(tmp_path, issuer, upstream) as sidecar:
        assert sidecar.ask("/optimize/x").body == b"token-1"
        granting, issuer.behaviour = issuer.behaviour, refuses(401, "access_denied", "Unauthorized")
        for _ in range(5):
            reply = sidecar.ask("/operate/x")
            assert (reply.status, reply.problem["code"]) == (502, "credential_rejected")
            assert "access_denied" in reply.problem["detail"]
            assert "cluster" in reply.problem["detail"]
        assert len(issuer.requests) == 2
        assert sidecar.ask("/optimize/x").body == b"token-1"
        assert sidecar.metric("quarantined", credential="cluster", audience=AUDIENCE) == 1
        assert sidecar.metric("quarantined", credential="cluster", audience="optimize.camunda.io") == 0
        states = {token["audience"]: token["state"] for token in sidecar.status()["tokens"]}
        assert states == {AUDIENCE: "quarantined", "optimize.camunda.io": "fresh"}
        line = sidecar.logged("the issuer refused a credential; it is not asked again for a while")
        told = {"credential": "cluster", "audience": AUDIENCE, "oauth_error": "access_denied", "level": "error"}
        assert told.items() <= line.items()

        issuer.behaviour = granting
        sidecar.signal(signal.SIGHUP)
        sidecar.logged("configuration reloaded")
        assert sidecar.ask("/operate/x").body == b"token-2"
        assert sidecar.metric("quarantined", credential="cluster", audience=AUDIENCE) == 0


def test_a_changed_secret_file_ends_a_quarantine_within_five_seconds(tmp_path):
    """The key is renewed in its file, as Kubernetes does it: requests are served again, the old secret is forgotten."""
    file = tmp_path / "secret"
    file.write_text("an-old-secret\n")

    def only_the_new(request, client):
        (grants("good") if request.form["client_secret"] == "a-new-secret" else refuses())(request, client)

    with peer(only_the_new) as issuer, peer(tells_its_token) as upstream:
        written = configuration(tmp_path, issuer.url + "/t", {"operate": {"upstream": upstream.url}})
        credential = written["credentials"]["cluster"]
        del credential["client_secret"]
        credential["client_secret_file"] = str(file)
        written["token_requests"] = UNLIMITED
        with running(tmp_path, written) as sidecar:
            assert sidecar.ask("/operate/x").problem["code"] == "credential_rejected"
            beside = tmp_path / "new"
            beside.write_text("a-new-secret\n")
            beside.replace(file)
            changed = time.monotonic()
            until(lambda: sidecar.ask("/operate/x").status == 200, "the new secret is used", 10.0)
            assert time.monotonic() - changed <= 5.0
            assert [request.form["client_secret"] for request in issuer.requests] == ["an-old-secret", "a-new-secret"]
            assert sidecar.metric("quarantined", credential="cluster", audience=AUDIENCE) == 0


def test_a_quarantine_outlives_a_restart(tmp_path):
    """Started again and again with a deleted key, it costs one token request."""
    with peer(refuses(400, "invalid_client", "gone")) as issuer, peer(tells_its_token) as upstream:
        for _ in range(2):
            with between(tmp_path, issuer, upstream) as sidecar:
                assert "invalid_client" in sidecar.ask("/operate/x").problem["detail"]
                assert len(issuer.requests) == 1
                assert sidecar.end() == 0


# --- an issuer that is not there ---------------------------------------------------------------------------------


def unused_url() -> str:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}/oauth/token"


def test_an_unreachable_issuer_is_a_503_within_max_wait(tmp_path):
    """Connections are refused: 503 `token_unavailable` before `max_wait` is over, and the sidecar stays ready."""
    with peer(tells_its_token) as upstream:
        requests = {"min_interval": "0s", "max_wait": "2s"}
        written = configuration(
            tmp_path, unused_url(), {"operate": {"upstream": upstream.url}}, token_requests=requests
        )
        with running(tmp_path, written) as sidecar:
            begun = time.monotonic()
            reply = sidecar.ask("/operate/x")
            assert (reply.status, reply.problem["code"]) == (503, "token_unavailable")
            assert reply.retry_after >= 1
            assert time.monotonic() - begun < 5.0
            assert upstream.requests == []
            assert sidecar.operate("/readyz").status == 200
            assert sidecar.total("quarantined") == 0
            assert sidecar.total("token_requests_total", outcome="failed") >= 1


def test_an_issuer_that_hangs_is_a_503_within_max_wait(tmp_path):
    """It accepts and says nothing: the client has its answer in time, with when to come back."""
    hang = Hang()
    with peer(hang) as issuer, peer(tells_its_token) as upstream:
        requests = {"min_interval": "0s", "max_wait": "1.5s", "timeout": "1s"}
        with between(tmp_path, issuer, upstream, requests) as sidecar:
            begun = time.monotonic()
            reply = sidecar.ask("/operate/x")
            assert (reply.status, reply.problem["code"]) == (503, "token_unavailable")
            assert reply.retry_after >= 1
            assert time.monotonic() - begun < 5.0
            hang.release.set()


def test_clients_beyond_max_wait_are_refused_at_once(tmp_path):
    """Where it is known beforehand that the slot is too far, nobody waits for nothing."""
    with (
        peer(grants()) as issuer,
        peer(tells_its_token) as upstream,
        between(tmp_path, issuer, upstream, {"min_interval": "30s", "max_wait": "5s"}) as sidecar,
    ):
        assert sidecar.ask("/operate/x").status == 200
        begun = time.monotonic()
        reply = sidecar.ask("/optimize/x")
        assert (reply.status, reply.problem["code"]) == (503, "token_unavailable")
        assert time.monotonic() - begun < 4.0
        assert 25 <= reply.retry_after <= 31
        assert len(issuer.requests) == 1


def test_a_client_that_goes_away_does_not_cancel_the_token(tmp_path):
    """Its own request is cancelled, the shared refresh is not."""
    hang = Hang(grants())
    with peer(hang) as issuer, peer(tells_its_token) as upstream, between(tmp_path, issuer, upstream) as sidecar:
        host, _, port = sidecar.address.rpartition(":")
        impatient = socket.create_connection((host, int(port)))
        impatient.sendall(b"GET /operate/impatient HTTP/1.1\r\nHost: localhost\r\n\r\n")
        hang.wait_for_one()
        impatient.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        impatient.close()
        until(lambda: sidecar.metric("http_requests_in_flight", route="operate") == 0, "it is cancelled")
        hang.release.set()
        assert sidecar.ask("/operate/x").body == b"token-1"
        assert [request.target for request in upstream.requests] == ["/x"]
        assert len(issuer.requests) == 1
        assert SECRET not in sidecar.log


def test_what_is_not_configured_any_more_is_not_in_quarantine(tmp_path):
    """A reload brings another secret: the gauge follows, and so does the token's end."""
    with peer(grants()) as issuer, peer(tells_its_token) as upstream:
        written = configuration(tmp_path, issuer.url + "/t", {"operate": {"upstream": upstream.url}})
        written["token_requests"] = UNLIMITED
        with running(tmp_path, written) as sidecar:
            issuer.behaviour, granting = refuses(), issuer.behaviour
            assert sidecar.ask("/operate/x").problem["code"] == "credential_rejected"
            assert sidecar.metric("quarantined", credential="cluster", audience=AUDIENCE) == 1
            issuer.behaviour = granting
            written["credentials"]["cluster"]["client_secret"] = SECRET + "-the-next"
            sidecar.write(written)
            sidecar.signal(signal.SIGHUP)
            sidecar.logged("configuration reloaded")
            assert sidecar.ask("/operate/x").status == 200
            names = {"credential": "cluster", "audience": AUDIENCE}
            assert sidecar.metric("quarantined", **names) == 0
            assert sidecar.metric("token_expiry_timestamp_seconds", **names) > time.time()


def test_a_rotated_secret_drops_no_good_token(tmp_path):
    """The issuer is down when the file changes: requests go on, and it is said that the new secret has no token yet."""
    file = tmp_path / "secret"
    file.write_text("the-first")
    with peer(grants()) as issuer, peer(tells_its_token) as upstream:
        written = configuration(tmp_path, issuer.url + "/t", {"operate": {"upstream": upstream.url}})
        credential = written["credentials"]["cluster"]
        del credential["client_secret"]
        credential["client_secret_file"] = str(file)
        written["token_requests"] = UNLIMITED
        names = {"credential": "cluster", "audience": AUDIENCE}
        with running(tmp_path, written) as sidecar:
            assert sidecar.ask("/operate/x").body == b"token-1"
            issuer.behaviour, granting = says(503), issuer.behaviour
            file.write_text("the-second")
            until(lambda: sidecar.metric("secret_pending", **names) == 1, "the change is noticed", 10.0)
            until(lambda: len(issuer.requests) > 1, "the new secret's token is asked for by itself", 10.0)
            assert sidecar.ask("/operate/x").body == b"token-1"
            [token] = sidecar.status()["tokens"]
            assert (token["state"], token["new_secret"]) == ("stale", "pending")
            assert abs(sidecar.metric("token_expiry_timestamp_seconds", **names) - token["expires_at"]) < 1
            issuer.behaviour = refuses()
            file.write_text("mistyped")
            until(lambda: sidecar.metric("quarantined", **names) == 1, "the new secret is refused", 10.0)
            assert sidecar.ask("/operate/x").body == b"token-1"
            [token] = sidecar.status()["tokens"]
            assert (token["new_secret"], token["refused"]) == ("refused", True)
            issuer.behaviour = granting
            file.write_text("the-third")
            until(lambda: sidecar.ask("/operate/x").body == b"token-2", "the new token is used", 10.0)
            assert sidecar.metric("secret_pending", **names) == sidecar.metric("quarantined", **names) == 0
            assert sidecar.ask("/operate/x").status == 200


def test_what_a_reload_removes_is_nowhere(tmp_path):
    """Neither in the list nor in the metrics: not its route's token, nor its issuer, nor its audience."""
    with peer(grants()) as issuer, peer(tells_its_token) as upstream:
        routes = {name: {"upstream": upstream.url} for name in ("operate", "optimize")}
        written = configuration(tmp_path, issuer.url + "/t", routes)
        written["token_requests"] = UNLIMITED
        with running(tmp_path, written) as sidecar:
            assert sidecar.ask("/operate/x").status == sidecar.ask("/optimize/x").status == 200
            del written["routes"]["optimize"]
            sidecar.write(written)
            sidecar.signal(signal.SIGHUP)
            sidecar.logged("configuration reloaded")
            assert [token["routes"] for token in sidecar.status()["tokens"]] == [["operate"]]
            audiences = {value for _, labels in sidecar.metrics() for label, value in labels if label == "audience"}
            assert audiences == {AUDIENCE}
            assert sidecar.total("token_lookups_total", audience=AUDIENCE, source="issuer") == 1
