"""The admin listener and the commands of a real sidecar process."""

import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

from sidecar.admin.client import get, get_status
from sidecar.cli.wait import until_ready
from sidecar.config.settings import TcpAddress
from sidecar.demo.process import free_port

CONFIGURATION = """\
listen: 127.0.0.1:{port}
admin: {{listen: "127.0.0.1:{admin}"}}
credentials: {{none: {{type: none}}}}
routes: {{api: {{upstream: "http://127.0.0.1:9", credential: none}}}}
token_store: {{type: memory}}
limits: {{connections: 2}}
"""


@pytest.fixture
def running(tmp_path):
    """A sidecar that takes two connections: its proxy's port, its admin address, and how to call a command on it."""
    admin = TcpAddress("127.0.0.1", free_port(0))
    port = free_port(0, admin.port)
    file = tmp_path / "config.yaml"
    file.write_text(CONFIGURATION.format(port=port, admin=admin.port))

    def command(name, *arguments):
        full = [sys.executable, "-m", "sidecar", name, "--config", str(file), *arguments]
        return subprocess.run(full, check=False, capture_output=True, text=True, timeout=60)

    process = subprocess.Popen(
        [sys.executable, "-m", "sidecar", "run", "--config", str(file)], stderr=subprocess.PIPE, env=os.environ
    )
    waited = command("wait")
    assert waited.returncode == 0, waited.stderr
    yield port, admin, process, command
    process.kill()
    process.communicate()


def test_it_answers_while_the_proxy_is_full(running):
    """Probes and status are served when the data plane takes no more connections."""
    port, admin, process, _ = running
    held = [socket.create_connection(("127.0.0.1", port)) for _ in range(8)]
    assert get(admin, "/readyz")[0] == 200
    status = get_status(admin)
    assert (status.pid, status.ready, status.routes[0].prefix) == (process.pid, True, "/api")
    for connection in held:
        connection.close()


def test_what_the_proxy_did_is_in_status_and_metrics(running):
    """A request that failed at the upstream counts as the sidecar's own error, with its route."""
    port, admin, _, command = running
    with pytest.raises(urllib.error.HTTPError, match="502") as refused:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/api/x", timeout=10)
    assert refused.value.headers["Sidecar-Error"] == "upstream_unreachable"
    refused.value.close()
    [route] = get_status(admin).routes
    assert (route.requests, route.errors) == (1, 1)
    series = 'camunda_sidecar_http_requests_total{code="502",method="GET",route="api",source="sidecar"} 1.0'
    assert series in get(admin, "/metrics")[1].decode().splitlines()
    assert "/api" in command("status").stdout


def test_shutdown_is_a_drained_end(running):
    """`shutdown` finds the process by its configuration, and the sidecar exits 0."""
    _, admin, process, command = running
    ended = command("shutdown")
    assert (ended.returncode, ended.stdout) == (0, f"ended (pid {process.pid})\n"), ended.stderr
    assert process.wait(10) == 0
    assert until_ready(lambda: admin, 0) is not None
