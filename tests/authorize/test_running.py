"""The helper in the running program: one process and several, metrics, reload, drain."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.peers import Hang, grants, peer, says
from tests.acceptance.support import ask, configuration, connection, ending, spawn, write


def settings(directory: Path, issuer: str, upstream: str = "http://127.0.0.1:1") -> dict[str, Any]:
    routes = {"operate": {"upstream": upstream, "audience": "operate"}}
    authorize = {"listen": f"unix:{directory}/authorize.sock"}
    return configuration(directory, issuer, routes, authorize=authorize, token_requests={"min_interval": "0s"})


@pytest.mark.parametrize("workers", [1, 2])
def test_one_token_with_everybody_else(tmp_path, workers):
    """What the proxy and the helper hand out is the same token; metrics and guard know the helper; 0 is its end."""
    with peer(grants("token-1")) as issuer, peer(says(200)) as upstream:
        file = write(tmp_path / "config.yaml", settings(tmp_path, issuer.url, upstream.url))
        with ending(spawn("run", "--config", str(file), "--workers", str(workers), file=file)) as sidecar:
            sidecar.started()
            address = sidecar.logged("ready")["authorize"]
            assert address == f"unix:{tmp_path}/authorize.sock"
            for _ in range(10):
                assert ask(address, "/-/authorize/operate").headers["authorization"] == "Bearer token-1"
                assert sidecar.ask("/operate/x").status == 200
            assert ask(address, "/-/authorize/operate", headers={"Host": "evil.example"}).status == 421
            assert {request.bearer for request in upstream.requests} == {"token-1"}
            assert len(issuer.requests) == 1
            assert (
                sidecar.metric("http_requests_total", route="authorize", method="GET", code="200", source="sidecar")
                == 10
            )
            assert sidecar.total("guard_rejections_total", reason="host") == 1
            assert ask(sidecar.admin, "/-/authorize/operate").status == 404
            assert sidecar.end() == 0
        assert not (tmp_path / "authorize.sock").exists()


def test_reload(tmp_path):
    """Routes come and go at once, gRPC's is one of them; the listener stays where it is, and says so."""
    with peer(grants("token-1")) as issuer:
        written = settings(tmp_path, issuer.url)
        written["grpc"] = {"listen": "127.0.0.1:0", "upstream": "http://127.0.0.1:3", "credential": "cluster"}
        file = write(tmp_path / "config.yaml", written)
        with ending(spawn("run", "--config", str(file), file=file)) as sidecar:
            sidecar.started()
            address = sidecar.logged("ready")["authorize"]
            written["routes"] = {"tasklist": written["routes"]["operate"]}
            written["authorize"] = {"listen": "127.0.0.1:2"}
            sidecar.write(written)
            sidecar.signal(signal.SIGHUP)
            sidecar.logged("configuration reloaded")
            assert sidecar.logged("a changed setting takes effect at the next start only")["key"] == "authorize.listen"
            statuses = [ask(address, f"/-/authorize/{name}").status for name in ("operate", "tasklist", "grpc")]
            assert statuses == [404, 200, 200]


def test_it_answers_while_requests_drain(tmp_path):
    """A proxy has requests under way as long as the sidecar has: it gets tokens until the end."""
    hang = Hang(says(200))
    with peer(grants("token-1")) as issuer, peer(hang) as upstream:
        file = write(tmp_path / "config.yaml", settings(tmp_path, issuer.url, upstream.url))
        with ending(spawn("run", "--config", str(file), file=file)) as sidecar:
            sidecar.started()
            address = sidecar.logged("ready")["authorize"]
            client = connection(sidecar.address)
            client.request("GET", "/operate/x")
            hang.wait_for_one()
            sidecar.signal(signal.SIGTERM)
            sidecar.logged("draining")
            assert ask(address, "/-/authorize/operate").status == 200
            hang.release.set()
            assert client.getresponse().status == 200
            client.close()
            assert sidecar.ended() == 0
