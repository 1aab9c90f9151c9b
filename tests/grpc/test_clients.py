"""Camunda's workers with no credentials and no TLS, through the real program to a gateway with both."""

import asyncio
import json
from pathlib import Path

import pytest
from pyzeebe import Job, ZeebeClient, ZeebeWorker, create_insecure_channel
from pyzeebe.errors import ProcessDefinitionNotFoundError

from tests import needs
from tests.acceptance.peers import grants, peer
from tests.clients.support import run
from tests.grpc.running import sidecar
from tests.grpc.support import gateway, until
from tests.peers.npm import project


@pytest.mark.parametrize("workers", [1, 2])
async def test_pyzeebe(tmp_path, workers):
    """A worker that polls completes its jobs; errors are Zeebe's own; everything together costs one token."""
    with peer(grants("token-1")) as issuer:
        async with gateway(tls=True) as upstream, sidecar(tmp_path, upstream, issuer.url, workers) as running:
            channel = create_insecure_channel(running.grpc)
            worker, client = ZeebeWorker(channel, poll_retry_delay=1, request_timeout=500), ZeebeClient(channel)
            done: asyncio.Queue[int] = asyncio.Queue()

            @worker.task(task_type="t", timeout_ms=30_000)
            async def work(job: Job) -> dict:
                done.put_nowait(job.key)
                return {"answer": 42}

            working = asyncio.create_task(worker.work())
            for key in range(1, 11):
                upstream.zeebe.add(key)
            assert {await done.get() for _ in range(10)} == set(range(1, 11))
            with pytest.raises(ProcessDefinitionNotFoundError):
                await client.run_process("none")
            await until(lambda: len(upstream.zeebe.completed) == 10)
            await worker.stop()
            await working
            await channel.close()
            assert {metadata["authorization"] for _, metadata in upstream.calls} == {"Bearer token-1"}
        assert len(issuer.requests) == 1
        assert issuer.requests[0].form["audience"] == "zeebe.camunda.io"


async def test_javascript(tmp_path):
    """@camunda8/sdk: a call, an error, a worker that polls, and a stream of jobs; one token."""
    folder = project(Path(__file__).parents[1] / "clients/camunda_js")
    with peer(grants("token-1")) as issuer:
        async with gateway(tls=True) as upstream, sidecar(tmp_path, upstream, issuer.url) as running:
            upstream.zeebe.add(1, "polled")
            upstream.zeebe.add(2, "streamed")
            code, out, err = await run(needs.program("node", package="nodejs"), folder / "grpc.mjs", running.grpc)
            assert code == 0, (out.decode(), err.decode())
            assert json.loads(out.splitlines()[-1]) == {"version": "8.9.0", "worked": "polled", "streamed": "streamed"}
            assert upstream.zeebe.completed == [1, 2]
        assert len(issuer.requests) == 1
