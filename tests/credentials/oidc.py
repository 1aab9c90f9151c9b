"""Runs `tests/peers/oidc`: a real OAuth server that checks how clients authenticate."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers.npm import project

FOLDER = Path(__file__).parents[1] / "peers" / "oidc"
OLDEST_NODE = 20


@contextlib.contextmanager
def oidc_provider(options: dict[str, object]) -> Iterator[str]:
    """The issuer's URL while the server runs; skips where Node.js is missing or too old for the package."""
    place = project(FOLDER)
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.removeprefix("v").split(".")[0]) < OLDEST_NODE:
        pytest.skip(f"oidc-provider needs Node.js {OLDEST_NODE} or later, this is {version}")
    with subprocess.Popen(
        ["node", "server.mjs"],
        cwd=place,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        assert server.stderr is not None
        server.stdin.write(json.dumps(options))
        server.stdin.flush()
        url = server.stdout.readline().strip()
        if not url:
            pytest.fail(f"the OAuth server did not start: {server.stderr.read()[-2000:]}")
        try:
            yield url
        finally:
            server.stdin.close()
            server.stdout.close()
            server.stderr.close()
            server.wait(10)
