"""Camunda's own clients, with no credentials of their own, through the real command to the embedded Camunda."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from camunda_orchestration_sdk import CamundaAsyncClient

from sidecar.clock import SystemClock
from sidecar.demo.process import SidecarProcess, free_port
from sidecar.demo.standin import StandIn
from tests import needs
from tests.clients.support import run
from tests.peers.npm import project


@pytest.fixture
def unconfigured(monkeypatch: pytest.MonkeyPatch) -> None:
    """No Camunda variable of the machine's reaches a client."""
    for name in os.environ:
        if name.startswith(("CAMUNDA_", "ZEEBE_")):
            monkeypatch.delenv(name)


@pytest_asyncio.fixture
async def standin() -> AsyncIterator[StandIn]:
    """An embedded Camunda, issuer included."""
    made = StandIn()
    await made.start()
    yield made
    await made.close()


@pytest_asyncio.fixture
async def sidecar(standin: StandIn, tmp_path: Path, unconfigured: None) -> AsyncIterator[str]:
    """The URL of a `camunda-sidecar run`."""
    port = free_port(0)
    process = SidecarProcess(tmp_path, standin, SystemClock(), port=port, admin_port=free_port(0, port))
    await process.start()
    yield process.url
    await process.stop()


async def test_python_client(standin: StandIn, sidecar: str) -> None:
    """camunda-orchestration-sdk with strategy NONE at /zeebe: every call is authorized, one token serves them all."""
    configuration = {"CAMUNDA_AUTH_STRATEGY": "NONE", "CAMUNDA_REST_ADDRESS": f"{sidecar}/zeebe"}
    async with CamundaAsyncClient(configuration=configuration) as client:
        assert (await client.get_topology()).gateway_version == "8.9.0"
        assert (await client.get_license()).valid_license
        topologies = await asyncio.gather(*(client.get_topology() for _ in range(50)))
        assert {topology.cluster_size for topology in topologies} == {1}
    assert standin.answers == {("zeebe", 200): 52}
    assert len(standin.token_requests) == 1


async def test_javascript_client(standin: StandIn, sidecar: str) -> None:
    """@camunda8/sdk with strategy NONE at Operate, Optimize, Console and Zeebe: one token each for four audiences.

    It sends an empty Authorization, and Optimize's readiness refuses any: both are the sidecar's to put right.
    """
    folder = project(Path(__file__).parent / "camunda_js")
    code, out, err = await run(needs.program("node", package="nodejs"), folder / "client.mjs", sidecar)
    assert code == 0, err.decode()
    assert json.loads(out.splitlines()[-1]) == {
        "operate": "invoice-approval",
        "instances": 1,
        "instance": "ACTIVE",
        "optimize": "invoice-dashboard",
        "console": "demo",
        "members": 1,
        "zeebe": "8.9.0",
        "orchestration": "8.9.0",
        "together": 50,
    }
    assert {status // 100 for _, status in standin.answers} == {2}
    assert len(standin.token_requests) == 4
