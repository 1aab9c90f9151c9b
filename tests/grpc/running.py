"""The real program with a gRPC section, in front of a gateway that runs in the test's event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.acceptance.support import Sidecar, configuration, ending, spawn, write
from tests.grpc.support import CA, Upstream


class RunningSidecar(Sidecar):
    """`camunda-sidecar run`, and where its gRPC is."""

    grpc: str


def settings(directory: Path, url: str, token_url: str, **section: Any) -> dict[str, Any]:
    """A configuration with nothing but gRPC."""
    ca = directory / "ca.pem"
    ca.write_bytes(CA.cert_pem.bytes())
    tls = {"tls": {"ca_file": str(ca)}} if url.startswith("https") else {}
    grpc = {"listen": "127.0.0.1:0", "upstream": url, "credential": "cluster", **tls, **section}
    return configuration(directory, token_url, {}, grpc=grpc, logging={"access": "all"}, drain_timeout="10s")


@asynccontextmanager
async def started(directory: Path, written: Mapping[str, Any], workers: int = 1) -> AsyncIterator[Any]:
    """The program with this configuration, ready."""
    file = write(directory / "config.yaml", written)
    with ending(spawn("run", "--config", str(file), "--workers", str(workers), file=file)) as running:
        await asyncio.to_thread(running.started)
        running.grpc = running.logged("ready")["grpc"]
        yield running


@asynccontextmanager
async def sidecar(directory: Path, upstream: Upstream, token_url: str, workers: int = 1) -> AsyncIterator[Any]:
    """The program in front of `upstream`."""
    async with started(directory, settings(directory, upstream.url, token_url), workers) as running:
        yield running
