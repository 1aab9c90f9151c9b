"""Who may come in: Host, Origin, required headers, `allow`, Unix sockets, the admin listener."""

from __future__ import annotations

import re
import socket
import stat
from collections.abc import Iterator

import pytest

from tests.acceptance.peers import peer, says
from tests.acceptance.support import Sidecar, ask, command, raw, running, write
from tests.acceptance.test_life import plain


@pytest.fixture(scope="module")
def guarded(tmp_path_factory) -> Iterator[Sidecar]:
    """A sidecar with everything that the guard can be told."""
    directory = tmp_path_factory.mktemp("guarded")
    with peer(says(200, b"ok")) as upstream:
        guard = {"hosts": ["sidecar.example"], "require_header": "X-Sidecar: yes"}
        written = plain(directory, upstream.url, guard=guard)
        written["routes"]["api"]["allow"] = ["GET /public/**", "POST /public/*/search", "/any"]
        with running(directory, written) as sidecar:
            yield sidecar


def answered(sidecar: Sidecar, path="/api/any", method="GET", **headers: str) -> tuple[int, str | None]:
    """The status, and the sidecar's own code if it is its own."""
    fields = {"X-Sidecar": "yes"} | {name.replace("_", "-"): value for name, value in headers.items()}
    reply = sidecar.ask(path, method, headers=fields)
    return reply.status, reply.problem["code"] if "sidecar-error" in reply.headers else None


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8600", "127.0.0.1", "127.9.9.9:1", "[::1]:80", "sidecar.example:80"]
)
def test_a_local_or_listed_host_comes_in(guarded, host):
    """Loopback names and addresses with any port, and what `guard.hosts` lists."""
    assert answered(guarded, Host=host) == (200, None)


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.1", "2130706433"]
)
def test_any_other_host_is_421(guarded, host):
    """DNS rebinding ends here."""
    before = guarded.metric("guard_rejections_total", reason="host")
    assert answered(guarded, Host=host) == (421, "unknown_host")
    assert guarded.metric("guard_rejections_total", reason="host") == before + 1


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "https://localhost"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
)
@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
def test_a_web_page_of_another_origin_is_403(guarded, headers, method):
    """Requests and preflights alike; no CORS header is ever given."""
    assert answered(guarded, method=method, Host="localhost", **headers) == (403, "cross_site")


def test_its_own_origin_comes_in(guarded):
    """`http://` and the very Host."""
    own = {"Host": "localhost:8600", "Origin": "http://localhost:8600", "Sec_Fetch_Site": "same-origin"}
    assert answered(guarded, **own) == (200, None)
    assert answered(guarded, **(own | {"Origin": "http://localhost:8601"})) == (403, "cross_site")


def test_the_required_header_is_required(guarded):
    """403 `forbidden_by_policy` without it, and with another value."""
    for headers in ({}, {"X-Sidecar": "no"}):
        reply = guarded.ask("/api/any", headers=headers)
        assert (reply.status, reply.problem["code"]) == (403, "forbidden_by_policy")
        assert "X-Sidecar" in reply.problem["detail"]
    assert guarded.metric("guard_rejections_total", reason="require_header") >= 2


@pytest.mark.parametrize(
    ("method", "path", "passes"),
    [
        ("GET", "/api/public/a/b", True),
        ("HEAD", "/api/public/a", True),
        ("GET", "/api/public/a?x=/private", True),
        ("POST", "/api/public/a/search", True),
        ("DELETE", "/api/any", True),
        ("POST", "/api/public/a", False),
        ("POST", "/api/public/a/b/search", False),
        ("GET", "/api/private", False),
        ("GET", "/api/publicity/a", False),
        ("GET", "/api/any/more", False),
        ("GET", "/api/any/", False),
    ],
)
def test_allow_is_least_privilege(guarded, method, path, passes):
    """`*` is one segment, `**` any number, GET includes HEAD, no method means all; the query does not count."""
    expected = (200, None) if passes else (403, "forbidden_by_policy")
    assert answered(guarded, path, method) == expected


@pytest.mark.parametrize(
    "path", ["/api/public/../private", "/api/public/%2e%2e/private", "/api/public/..;/private", "/api/public/%5c"]
)
def test_a_path_that_could_leave_its_place_is_400(guarded, path):
    """Before `allow` is asked."""
    assert answered(guarded, path) == (400, "bad_request")


# --- the admin listener ------------------------------------------------------------------------------------------


def own_address() -> str | None:
    """An address of this machine that is not loopback; no packet is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return None
        address: str = probe.getsockname()[0]
        return None if address.startswith("127.") else address


def test_the_admin_listener_on_loopback(guarded):
    """Everything for a loopback peer by the proxy's Host and Origin rules; nothing is changed by a request."""
    assert [guarded.operate(path).status for path in ("/", "/status", "/metrics", "/livez", "/readyz")] == [200] * 5
    for path in ("/", "/status", "/metrics"):
        assert guarded.operate(path, headers={"Host": "evil.example"}).problem["code"] == "unknown_host"
        assert guarded.operate(path, headers={"Origin": "http://evil.example"}).problem["code"] == "cross_site"
    assert guarded.operate("/status", headers={"Host": "sidecar.example"}).status == 200
    assert guarded.operate("/readyz", headers={"Host": "10.1.2.3:8601"}).status == 200  # a kubelet's
    assert ask(guarded.admin, "/status", "POST", body=b"").status == 405
    assert guarded.operate("/token").problem["code"] == "no_route"


def test_a_peer_that_is_not_loopback_gets_probes_and_metrics_alone(tmp_path):
    """From the machine's own address, with any Host, and without `allow_remote` (kubelet, Prometheus)."""
    address = own_address()
    if address is None:
        pytest.skip("this machine has no address but loopback")
    with (
        peer(says(200)) as upstream,
        running(tmp_path, plain(tmp_path, upstream.url, admin={"listen": "0.0.0.0:0"})) as sidecar,
    ):
        admin = f"{address}:{sidecar.admin.rpartition(':')[2]}"
        for host in (admin, "pod.example:8601"):
            assert [ask(admin, path, headers={"Host": host}).status for path in ("/metrics", "/livez", "/readyz")] == [
                200
            ] * 3
            for path in ("/status", "/", "/anything"):
                assert ask(admin, path, headers={"Host": host}).problem["code"] == "forbidden_by_policy"
        loopback = f"127.0.0.1:{sidecar.admin.rpartition(':')[2]}"
        assert ask(loopback, "/status").status == 200
        assert ask(loopback, "/status", headers={"Host": "pod.example"}).problem["code"] == "unknown_host"


def test_a_remote_listener_must_be_allowed(tmp_path):
    """`listen` beyond loopback without `guard.allow_remote` is a mistake; with it, the machine's address is served."""
    with peer(says(200, b"ok")) as upstream:
        file = write(tmp_path / "config.yaml", plain(tmp_path, upstream.url, listen="0.0.0.0:0"))
        refused = command("check", "--config", file)
        assert refused.returncode == 2
        assert re.search(r"listen: .*allow_remote", refused.stderr)
        address = own_address()
        if address is None:
            pytest.skip("this machine has no address but loopback")
        guard = {"allow_remote": True, "hosts": [address]}
        with running(tmp_path, plain(tmp_path, upstream.url, listen="0.0.0.0:0", guard=guard)) as sidecar:
            remote = f"{address}:{sidecar.address.rpartition(':')[2]}"
            assert ask(remote, "/api/x").body == b"ok"
            assert ask(remote, "/api/x", headers={"Host": "other.example"}).problem["code"] == "unknown_host"


# --- Unix sockets ------------------------------------------------------------------------------------------------


def test_unix_sockets_have_mode_0660_and_go_away(tmp_path):
    """Both listeners; a stale file of a killed sidecar is replaced, a live one's is not, another file never."""
    proxy, admin = tmp_path / "proxy.sock", tmp_path / "admin.sock"
    with peer(says(200, b"ok")) as upstream:
        written = plain(tmp_path, upstream.url, listen=f"unix:{proxy}", admin={"listen": f"unix:{admin}"})
        with running(tmp_path, written) as sidecar:
            assert [stat.S_IMODE(path.stat().st_mode) for path in (proxy, admin)] == [0o660, 0o660]
            assert sidecar.ask("/api/x").body == b"ok"
            assert sidecar.operate("/readyz").status == 200
            second = command("run", "--config", sidecar.file)
            assert (second.returncode, len(second.stderr.splitlines())) == (1, 1)
            assert sidecar.ask("/api/x").body == b"ok"
            sidecar.process.kill()
        assert proxy.exists()
        with running(tmp_path, written) as sidecar:
            assert sidecar.ask("/api/x").body == b"ok"
            assert command("wait", "--config", sidecar.file).returncode == 0
            assert sidecar.end() == 0
        assert not proxy.exists()
        assert not admin.exists()
        proxy.write_text("somebody's file")
        result = command("run", "--config", sidecar.file)
        assert (result.returncode, len(result.stderr.splitlines())) == (1, 1)
        assert proxy.read_text() == "somebody's file"


def test_pages_get_no_cors_headers_and_errors_are_not_cached(guarded):
    """Nothing invites a browser, and no cache keeps what the sidecar says of itself."""
    answer = raw(
        guarded.address, b"OPTIONS /api/any HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\n\r\n"
    )
    assert b"access-control-" not in answer.lower()
    assert b"Cache-Control: no-store" in answer
