"""Clients that insist on OAuth: of all that they know, only the issuer's address is the sidecar's."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from sidecar.demo.process import SidecarProcess, free_port
from sidecar.demo.standin import StandIn
from tests import needs
from tests.clients.support import run
from tests.clients.test_camunda import SystemClock, standin, unconfigured
from tests.peers.npm import project

__all__ = ["standin", "unconfigured"]

PYTHON_SDK = """
from camunda_orchestration_sdk import CamundaClient
with CamundaClient() as client:
    print(client.get_topology().gateway_version)
"""
PYZEEBE = """
import os, requests
from pyzeebe.credentials.oauth import Oauth2ClientCredentialsMetadataPlugin
env = os.environ
plugin = Oauth2ClientCredentialsMetadataPlugin(
    env["ZEEBE_CLIENT_ID"], env["ZEEBE_CLIENT_SECRET"], env["ZEEBE_AUTHORIZATION_SERVER_URL"],
    audience="zeebe.camunda.io",
)
def send(metadata, error):
    answer = requests.get(env["ZEEBE_REST_ADDRESS"] + "/v2/topology", headers=dict(metadata), timeout=20)
    print(error or answer.json()["gatewayVersion"])
plugin(None, send)
"""


async def test_ten_processes_cost_one_token_request(
    standin: StandIn, tmp_path: Path, unconfigured: None, monkeypatch
) -> None:
    """@camunda8/sdk, camunda-orchestration-sdk and pyzeebe, all at once, with no cache of their own between them."""
    port = free_port(0)
    sidecar = SidecarProcess(tmp_path, standin, SystemClock(), port=port, admin_port=free_port(0, port))
    with sidecar.configuration.open("a") as file:
        file.write("token_endpoint: {allow_any_client: true}\n")
    await sidecar.start()
    url = f"{sidecar.url}/oauth/token"
    client = standin.cluster_client
    environment = {
        "CAMUNDA_AUTH_STRATEGY": "OAUTH",
        "CAMUNDA_OAUTH_URL": url,
        "ZEEBE_AUTHORIZATION_SERVER_URL": url,
        "CAMUNDA_TOKEN_DISK_CACHE_DISABLE": "true",
        "CAMUNDA_REST_ADDRESS": standin.upstream("zeebe"),
        "ZEEBE_REST_ADDRESS": standin.upstream("zeebe"),
        **{f"{who}_CLIENT_ID": client.client_id for who in ("CAMUNDA", "ZEEBE")},
        **{f"{who}_CLIENT_SECRET": client.secret for who in ("CAMUNDA", "ZEEBE")},
        "OAUTHLIB_INSECURE_TRANSPORT": "1",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    node = (needs.program("node", package="nodejs"), project(Path(__file__).parent / "camunda_js") / "oauth.mjs")
    python = [(sys.executable, "-c", code) for code in (PYTHON_SDK, PYZEEBE)]
    commands = [node] * 4 + python * 3
    ended = await asyncio.gather(*(run(*command) for command in commands))
    await sidecar.stop()
    assert [(code, out.split()[-1:]) for code, out, _ in ended] == [(0, [b"8.9.0"])] * 10, ended
    assert len(standin.token_requests) == 1
    assert standin.answers == {("zeebe", 200): 10}
