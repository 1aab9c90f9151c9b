"""gRPC in the running program: status, metrics, log, reload, drain, commands, and what it costs who does not use it."""

from __future__ import annotations

import asyncio
import http.client
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from grpc import StatusCode, aio
from zeebe_grpc import gateway_pb2 as pb
from zeebe_grpc import gateway_pb2_grpc as rpc

from tests.acceptance.peers import grants, peer, refuses, says
from tests.acceptance.support import ask, clean_environment, command, plain, running, spawn, write
from tests.acceptance.support import ending as ending_program
from tests.grpc.running import settings, sidecar, started
from tests.grpc.support import ending, gateway, until
from tests.workers.support import children


@asynccontextmanager
async def stub(running) -> AsyncIterator[rpc.GatewayStub]:
    """A client that knows the address and nothing else."""
    async with aio.insecure_channel(running.grpc) as channel:
        yield rpc.GatewayStub(channel)


async def test_status_and_metrics(tmp_path):
    """GRPC is a route like the others: in `/status`, in the metrics of requests and tokens, under its own name."""
    with peer(grants("token-1")) as issuer:
        async with gateway(tls=True) as upstream, sidecar(tmp_path, upstream, issuer.url) as program:
            async with stub(program) as client:
                await client.Topology(pb.TopologyRequest())
                await ending(client.CreateProcessInstance(pb.CreateProcessInstanceRequest()))
                status = await asyncio.to_thread(program.status)
            [route] = status["routes"]
            assert {key: route[key] for key in ("name", "prefix", "upstream", "credential", "audience")} == {
                "name": "grpc",
                "prefix": "grpc://127.0.0.1:0",
                "upstream": upstream.url,
                "credential": "cluster",
                "audience": "zeebe.camunda.io",
            }
            assert (route["requests"], route["errors"], route["in_flight"]) == (2, 0, 0)
            assert status["tokens"][0]["routes"] == ["grpc"]
            labels = {"route": "grpc", "source": "upstream"}
            assert program.metric("http_requests_total", method="Topology", code="200", **labels) == 1
            assert program.metric("http_requests_total", method="CreateProcessInstance", code="404", **labels) == 1
            assert program.metric("upstream_connections", route="grpc", state="idle") == 1
            assert program.metric("token_expiry_timestamp_seconds", credential="cluster", audience="zeebe.camunda.io")


async def test_the_other_protocols_port(tmp_path):
    """A gRPC client at HTTP's port, and an HTTP client at gRPC's: each is refused at once, and no token is spent."""
    with peer(grants("token-1")) as issuer:
        async with gateway() as upstream, sidecar(tmp_path, upstream, issuer.url) as program:
            async with aio.insecure_channel(program.address) as channel:
                code, details, _ = await ending(rpc.GatewayStub(channel).Topology(pb.TopologyRequest()))
            assert code is StatusCode.UNAVAILABLE
            assert "http1.x server (HTTP status 400)" in details  # an answer in HTTP/2 would be tried again and again
            assert "grpc.listen" in (await asyncio.to_thread(program.logged, "request refused"))["detail"]
            with pytest.raises(http.client.BadStatusLine):
                await asyncio.to_thread(ask, program.grpc, "/gateway_protocol.Gateway/Topology")
        assert (issuer.requests, upstream.calls) == ([], [])


async def test_a_refused_credential(tmp_path):
    """The issuer's refusal is UNAUTHENTICATED, once and for all calls; the issuer is asked once."""
    with peer(refuses()) as issuer:
        async with gateway(tls=True) as upstream, sidecar(tmp_path, upstream, issuer.url) as program:
            async with stub(program) as client:
                for _ in range(3):
                    code, _, trailers = await ending(client.Topology(pb.TopologyRequest()))
                    assert (code, trailers["sidecar-error"]) == (StatusCode.UNAUTHENTICATED, "credential_rejected")
            assert upstream.calls == []
        assert len(issuer.requests) == 1


async def test_an_unknown_certificate_is_told(tmp_path):
    """Why the gateway cannot be reached stands in the log; nothing of grpcio's own reaches standard error."""
    with peer(grants("token-1")) as issuer:
        async with gateway(tls=True) as upstream:
            written = settings(tmp_path, upstream.url, issuer.url)
            del written["grpc"]["tls"]
            async with started(tmp_path, written) as program:
                async with stub(program) as client:
                    assert (await ending(client.Topology(pb.TopologyRequest())))[0] is StatusCode.UNAVAILABLE
                line = await asyncio.to_thread(program.logged, "request")
                assert "CERTIFICATE_VERIFY_FAILED" in line["reason"]
                [route] = (await asyncio.to_thread(program.status))["routes"]
                assert route["failing"] == "upstream_unreachable"
                assert [line for line in program.lines if not line.startswith("{")] == []


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_drain(tmp_path, workers):
    """SIGTERM: a long poll under way still gets its job; an open stream is ended with a status that clients retry."""
    with peer(grants("token-1")) as issuer:
        async with gateway(tls=True) as upstream:
            written = settings(tmp_path, upstream.url, issuer.url) | {"drain_timeout": "2s"}
            async with started(tmp_path, written, workers) as program, stub(program) as client:
                stream = client.StreamActivatedJobs(pb.StreamActivatedJobsRequest(type="streamed"))
                poll = client.ActivateJobs(pb.ActivateJobsRequest(type="polled", requestTimeout=20_000))
                reading = asyncio.create_task(poll.read())
                await until(lambda: upstream.zeebe.streaming == upstream.zeebe.polling == 1)
                program.signal(signal.SIGTERM)
                await asyncio.to_thread(program.logged, "draining")
                upstream.zeebe.add(1, "polled")
                assert (await reading).jobs[0].key == 1
                code, _, trailers = await ending(stream)
                assert (code, trailers["sidecar-error"]) == (StatusCode.UNAVAILABLE, "draining")
                assert await asyncio.to_thread(program.ended) == 0


async def test_a_thousand_open_streams(tmp_path):
    """Each costs a bounded amount of memory while it waits, other calls go on, and afterwards none is left."""
    with peer(grants("token-1")) as issuer:
        async with (
            gateway(tls=True) as upstream,
            sidecar(tmp_path, upstream, issuer.url) as program,
            stub(program) as one,
        ):
            await one.Topology(pb.TopologyRequest())
            before = resident_bytes(program)
            calls = [one.StreamActivatedJobs(pb.StreamActivatedJobsRequest(type="t")) for _ in range(1000)]
            await until(lambda: upstream.zeebe.streaming == 1000)
            await one.Topology(pb.TopologyRequest())
            each = (resident_bytes(program) - before) / 1000
            assert each < 150_000
            for call in calls:
                call.cancel()
            await until(lambda: upstream.zeebe.streaming == 0)
            await until(lambda: program.metric("http_requests_in_flight", route="grpc") == 0)


async def test_reload(tmp_path):
    """Upstream, audience and tls of a new configuration are in force; what needs a restart says so."""
    with peer(grants("token-1")) as issuer:
        async with (
            gateway(tls=True) as old,
            gateway() as new,
            sidecar(tmp_path, old, issuer.url) as program,
            stub(program) as client,
        ):
            await client.Topology(pb.TopologyRequest())
            written = settings(tmp_path, new.url, issuer.url, audience="zeebe-api", listen="127.0.0.1:1")
            program.write(written)
            program.signal(signal.SIGHUP)
            await asyncio.to_thread(program.logged, "configuration reloaded")
            assert program.logged("a changed setting takes effect at the next start only")["key"] == "grpc.listen"
            await client.Topology(pb.TopologyRequest())
            assert (old.methods["Topology"], new.methods["Topology"]) == (1, 1)
            assert issuer.requests[-1].form["audience"] == "zeebe-api"
            del written["grpc"]
            program.write(written | {"routes": {"api": {"upstream": new.url, "credential": "cluster"}}})
            program.signal(signal.SIGHUP)
            await asyncio.to_thread(program.logged, "configuration reloaded", after=1)
            code, _, _ = await ending(client.Topology(pb.TopologyRequest()))
            assert code is StatusCode.UNAVAILABLE


async def test_commands(tmp_path):
    """`check` shows the section, `token` knows its name, `doctor` looks at everything but the calls themselves."""
    with peer(grants("token-1")) as issuer:
        async with gateway(tls=True) as upstream:
            file = write(tmp_path / "config.yaml", settings(tmp_path, upstream.url, issuer.url))

            async def told(name: str, *arguments: str) -> str:
                done = await asyncio.to_thread(command, name, "--config", file, *arguments)
                assert done.returncode == 0, done.stdout + done.stderr
                return done.stdout

            assert f"upstream: {upstream.url}" in await told("check")
            assert await told("token", "grpc") == "token-1\n"
            examined = await told("doctor")
            assert "credential cluster for zeebe.camunda.io" in examined
            assert "route grpc" in examined
            assert "certificate until" in examined


def test_a_port_in_use(tmp_path):
    """Two sidecars do not share a port by accident, as two of grpcio's servers would."""
    with peer(grants()) as issuer:
        written = settings(tmp_path, "http://127.0.0.1:1", issuer.url)
        with running(tmp_path, written) as program:
            written["grpc"]["listen"] = program.logged("ready")["grpc"]
            done = command("run", "--config", write(tmp_path / "second.yaml", written))
    assert done.returncode == 1
    assert f"grpc.listen: {written['grpc']['listen']} cannot be listened on: Address already in use" in done.stderr


WITHOUT = """
import importlib.util
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "grpc" else find_spec(name, *rest)
from sidecar.cli import main
main()
"""


@pytest.mark.parametrize("name", ["check", "run"])
def test_where_grpcio_is_missing(tmp_path, name):
    """One line says what to install; exit code 2."""
    file = write(tmp_path / "config.yaml", settings(tmp_path, "http://127.0.0.1:1", "http://127.0.0.1:1/t"))
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, name, "--config", str(file)],
        capture_output=True,
        text=True,
        check=False,
        env=clean_environment(),
        timeout=60,
    )
    assert done.returncode == 2
    expected = f"error: {file}: grpc: needs grpcio, which is not installed (pip install 'camunda-sidecar[grpc]')"
    assert [line for line in done.stderr.splitlines() if "grpcio" in line] == [expected]


@pytest.mark.parametrize("workers", [1, 2])
def test_who_does_not_use_it_does_not_pay(tmp_path, workers):
    """Without the section nothing of grpcio is loaded: not its 50 ms at the start, nor its memory, nor its threads."""
    with peer(says(200)) as upstream:
        file = write(tmp_path / "config.yaml", plain(tmp_path, upstream.url))
        with ending_program(spawn("run", "--config", str(file), "--workers", str(workers), file=file)) as program:
            program.started()
            for pid in [program.process.pid, *(children(program) if workers > 1 else [])]:
                assert not has_loaded_grpcio(pid)


async def test_the_supervisor_loads_nothing_of_it(tmp_path):
    """Grpcio has threads, and a process with threads must not fork: the workers alone have it."""
    with peer(grants("token-1")) as issuer:
        async with gateway() as upstream, sidecar(tmp_path, upstream, issuer.url, 2) as program:
            assert not has_loaded_grpcio(program.process.pid)
            assert all(map(has_loaded_grpcio, children(program)))


def has_loaded_grpcio(pid: int) -> bool:
    """Whether grpcio's extension module is in the process's memory."""
    return "cygrpc" in Path(f"/proc/{pid}/maps").read_text()


def resident_bytes(program) -> float:
    """The program's resident memory, as it says itself."""
    return program.metrics()["process_resident_memory_bytes", frozenset()]
