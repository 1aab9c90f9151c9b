"""The commands of the tutorial, of the products' pages and of the troubleshooting page work as they stand."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from sidecar.cli.explain import explain
from sidecar.clock import SystemClock
from sidecar.config import load
from sidecar.config.products import PRODUCTS
from sidecar.demo.process import SidecarProcess, free_port
from sidecar.demo.standin import CLUSTER, StandIn

DOCS = Path(__file__).parents[1] / "docs"
PAGES = {name: (DOCS / "products" / f"{name}.md").read_text() for name in PRODUCTS}
VARIABLES = {"ZEEBE_CLIENT_ID": "client", "CAMUNDA_CONSOLE_CLIENT_ID": "client"}


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands(text: str) -> list[str]:
    return [line for block in blocks(text, "sh") for line in block.splitlines()]


@pytest_asyncio.fixture
async def standin() -> AsyncIterator[StandIn]:
    made = StandIn()
    await made.start()
    yield made
    await made.close()


async def shell(directory: Path, script: str, listen: int, admin: int, **env: str) -> str:
    """What a person's shell prints, on other ports; a command that fails ends it, and the test."""
    program = directory / "bin/camunda-sidecar"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m sidecar "$@"\n')
    program.chmod(0o755)
    script = script.replace(":8600/", f":{listen}/").replace(":8601/", f":{admin}/")
    foreign = re.compile(r"(?i)(CAMUNDA_|ZEEBE_|.*_PROXY$)")
    environ = {name: value for name, value in os.environ.items() if not foreign.match(name)}
    environ |= {
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "HOME": str(directory),
        "XDG_STATE_HOME": str(directory / "state"),
        "CAMUNDA_SIDECAR_LISTEN": f"127.0.0.1:{listen}",
        "CAMUNDA_SIDECAR_ADMIN": f"127.0.0.1:{admin}",
    }
    result = await asyncio.to_thread(
        subprocess.run,
        ["bash", "-ec", "trap 'kill %1 2>/dev/null || true' EXIT\n" + script],
        cwd=directory,
        env=environ | env,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


async def test_the_tutorial(tmp_path: Path, standin: StandIn) -> None:
    """From a credentials file to the status page, with one token request."""
    client = standin.cluster_client
    (tmp_path / "credentials.txt").write_text(
        f"export ZEEBE_REST_ADDRESS='{standin.upstream('zeebe')}'\n"
        f"export ZEEBE_CLIENT_ID='{client.client_id}'\nexport ZEEBE_CLIENT_SECRET='{client.secret}'\n"
        f"export ZEEBE_AUTHORIZATION_SERVER_URL='{standin.token_url}'\nexport ZEEBE_TOKEN_AUDIENCE='zeebe.camunda.io'\n"
    )
    listen = free_port(0)
    told = await shell(
        tmp_path, "\n".join(blocks((DOCS / "tutorial.md").read_text(), "sh")), listen, free_port(0, listen)
    )
    assert told.count('"gatewayVersion"') == 2
    assert "<!doctype html>" in told.lower()
    assert "fresh" in told
    assert "ended (pid" in told
    assert client.secret not in told
    assert len(standin.token_requests) == 1


async def test_every_products_requests_and_the_troubleshooting(tmp_path: Path, standin: StandIn) -> None:
    """Each is answered with 200 by a sidecar that holds the credentials."""
    port = free_port(0)
    process = SidecarProcess(tmp_path, standin, SystemClock(), port=port, admin_port=free_port(0, port))
    await process.start()
    try:
        lines = [line for page in PAGES.values() for line in commands(page)]
        lines += commands((DOCS / "troubleshooting.md").read_text())
        admin = int(process.admin_url.rpartition(":")[2])
        config = str(process.configuration)
        told = await shell(tmp_path, "\n".join(lines), port, admin, CAMUNDA_SIDECAR_CONFIG=config)
        assert "Everything works." in told
    finally:
        await process.stop()
    assert {product for product, status in standin.answers if status == 200} == PRODUCTS.keys()
    assert not [status for _, status in standin.answers if status >= 400]


@pytest.mark.parametrize("name", PRODUCTS)
def test_a_products_configuration(name: str, tmp_path: Path) -> None:
    """It loads, leads to the product, and its `allow` has room for the page's own requests."""
    whole, narrowed = blocks(PAGES[name], "yaml")
    (tmp_path / "secret").write_text("secret")
    for text in (whole, whole.partition("routes:")[0] + narrowed):
        file = tmp_path / "config.yaml"
        file.write_text(re.sub(r"/run/secrets/\S+", str(tmp_path / "secret"), text))
        settings = load(file, VARIABLES)
        route = settings.routes[name]
        assert str(route.upstream) == PRODUCTS[name].saas_upstream.format(region="bru-2", cluster_id=CLUSTER)
        assert route.audience == PRODUCTS[name].audience
        for line in commands(PAGES[name]):
            words = shlex.split(line)
            method = words[words.index("-X") + 1] if "-X" in words else "GET"
            path = words[-1].removeprefix("http://127.0.0.1:8600")
            assert "outcome" not in explain(settings, method, path), line
    assert route.allow
