"""Everything that one run needs: the site, its origins and issuer, and the peers, started and checked."""

import json
import socket
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from bench import origin, wrk
from bench.fetch import Answer, check_small, fetch
from bench.machine import Cores, free_port
from bench.peers.kind import Kind, Target
from bench.processes import BenchError, Command, Process, Processes, eventually
from bench.site import BIG, HOST, SMALL, Route, Site, make_certificates, make_token
from bench.tools import Toolbox

ROUTES = {"plain": False, "tls": True, "sink": False, "tls-sink": True}


@dataclass(frozen=True, slots=True)
class Peer:
    """A kind that is running."""

    kind: Kind
    process: Process
    port: int
    site: Site

    @property
    def name(self) -> str:
        return self.kind.name

    def target(self, route: str) -> Target:
        return self.kind.target(self.site, self.port, self.site.route(route))


@dataclass(frozen=True, slots=True)
class Measured:
    """A run of load through a peer, with what it cost the peer."""

    result: wrk.Result
    cpu_seconds: float
    faults: list[str]

    @property
    def cpu_ms_per_1000(self) -> float:
        """Milliseconds of CPU for a thousand requests, which is microseconds for one."""
        return self.cpu_seconds * 1e6 / self.result.requests if self.result.requests else 0.0


def free_ports(count: int) -> int:
    """The first of `count` ports in a row that nobody uses."""
    while True:
        first = free_port()
        if first + count < 65536 and all(_is_free(first + offset) for offset in range(count)):
            return first


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


class Arena:
    """The servers beside the peers, and how load is put on one."""

    def __init__(
        self, processes: Processes, directory: Path, cores: Cores, tools: Toolbox, say: Callable[[str], None]
    ) -> None:
        self.processes = processes
        self.directory = directory
        self.cores = cores
        self.say = say
        self._tools = tools
        nginx, load = tools.debian("nginx"), tools.debian("wrk")
        if nginx is None or load is None:
            raise BenchError("nginx (the origin) and wrk (the load) are needed: apt-get install nginx wrk")
        self._nginx, self._wrk = nginx, load
        self.site = self._make_site()
        self._answers: dict[tuple[str, str, str], int] = {}

    def _make_site(self) -> Site:
        ca_file, certificate_file, key_file = make_certificates(self.directory)
        return Site(
            directory=self.directory,
            ca_file=ca_file,
            certificate_file=certificate_file,
            key_file=key_file,
            token=make_token(),
            client_id="bench-client",
            client_secret="bench-secret",
            issuer_port=free_port(),
            routes=tuple(Route(name, free_port(), tls) for name, tls in ROUTES.items()),
        )

    def open(self) -> None:
        """Start origin, sink and issuer, and check that the origin refuses what it must refuse.

        Raises:
            BenchError: one does not start, or the origin would take any token.
        """
        self._start_origin()
        self._start_python("sink", port=self.site.route("sink").port, tls_port=self.site.route("tls-sink").port)
        self._start_python("issuer", port=self.site.issuer_port)
        direct = Target(self.site.route("plain").port, "/c1", {"Authorization": f"Bearer {self.site.token}"})
        eventually("the origin answers", lambda: fetch(direct, "GET", "/x").body == SMALL)
        for headers, base, status in (
            ({}, "/c1", 401),
            ({"Authorization": "Bearer x"}, "/c1", 401),
            (direct.headers, "", 404),
        ):
            answer = fetch(Target(direct.port, base, headers), "GET", "/x")
            if answer.status != status:
                raise BenchError(f"the origin answers {answer.status} where it must answer {status}")
        for port in (self.site.issuer_port, self.site.route("sink").port):
            eventually("a stand-in listens", lambda port=port: not _is_free(port))

    def _start_origin(self) -> None:
        folder = self._folder("origin")
        big = folder / "big"
        with big.open("wb") as file:
            pattern = bytes(range(256)) * 4096
            for _ in range(BIG // len(pattern) + 1):
                file.write(pattern)
            file.truncate(BIG)
        env = self._tools.libraries(self._nginx)
        self.processes.start("origin", origin.command(self.site, self._nginx, env, folder, big), self.cores.load)

    def _start_python(self, module: str, **more: int) -> None:
        facts = {name: str(value) for name, value in asdict(self.site).items() if name != "routes"}
        path = self._folder(module) / "facts.json"
        path.write_text(json.dumps(facts | {name: str(value) for name, value in more.items()}))
        command = Command([sys.executable, "-m", f"bench.{module}", str(path)], {})
        self.processes.start(module, command, self.cores.load)

    def _folder(self, name: str) -> Path:
        folder = self.directory / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def start(self, kind: Kind, *, workers: int = 1, suffix: str = "", cores: tuple[int, ...] | None = None) -> Peer:
        """Start a peer; it is not waited for."""
        name = f"{kind.name}{suffix}"
        port = free_ports(len(ROUTES))
        command = kind.command(self.site, self._folder(name), port, workers)
        return Peer(kind, self.processes.start(name, command, cores or self.cores.proxy), port, self.site)

    def enter(self, kind: Kind, *, workers: int = 1, suffix: str = "", cores: tuple[int, ...] | None = None) -> Peer:
        """Start a peer, wait until it answers, and check its answers on every route.

        Raises:
            BenchError: it ends, does not answer, or answers wrongly.
        """
        peer = self.start(kind, workers=workers, suffix=suffix, cores=cores)
        eventually(f"{peer.name} answers", lambda: self._answers_at_all(peer), patience=30)
        for route in ("plain", "tls"):
            check_small(f"{peer.name} {route}", self.fetch(peer, route, "/v2/topology"))
        return peer

    def _answers_at_all(self, peer: Peer) -> bool:
        peer.process.check_alive()
        return self.fetch(peer, "plain", "/v2/topology").status == 200

    def fetch(self, peer: Peer, route: str, path: str, *, method: str = "GET", timeout: float = 30.0) -> Answer:
        """One request through a peer."""
        return fetch(peer.target(route), method, path, ca_file=str(self.site.ca_file), timeout=timeout)

    def client(self, module: str, peer: Peer, route: str, *, timeout: float, **facts: object) -> dict[str, object]:
        """Run one of this package's own clients against a peer, and give what it found.

        Raises:
            BenchError: it failed.
        """
        target = peer.target(route)
        facts |= {"port": target.port, "base": target.base, "headers": target.headers}
        found = self.python(module, self.cores.load, timeout=timeout, **facts)
        peer.process.check_alive()
        return found

    def python(self, module: str, cores: tuple[int, ...], *, timeout: float, **facts: object) -> dict[str, object]:
        """Run one of this package's modules to its end, and give the JSON that it prints last.

        Raises:
            BenchError: it failed.
        """
        path = self._folder(module) / "facts.json"
        path.write_text(
            json.dumps(facts | {"token_url": self.site.token_url, "client_secret": self.site.client_secret})
        )
        command = Command([sys.executable, "-m", f"bench.{module}", str(path)], {})
        printed = self.processes.run(module, command, cores, timeout=timeout)
        found: dict[str, object] = json.loads(printed.splitlines()[-1])
        return found

    def load(
        self, peer: Peer, route: str, *, connections: int, seconds: float, shape: wrk.Shape, warm: float = 0
    ) -> Measured:
        """Warm up, put load on a peer, and check and measure it."""
        target = peer.target(route)
        env = self._tools.libraries(self._wrk)

        def once(duration: float) -> wrk.Result:
            return wrk.run(
                self.processes,
                self._wrk,
                env,
                self.cores.load,
                target,
                connections=connections,
                seconds=duration,
                shape=shape,
            )

        if warm:
            once(warm)
        counted, cpu = origin.count(self.site), peer.process.cpu_seconds()
        result = once(seconds)
        cpu = peer.process.cpu_seconds() - cpu
        counted = origin.count(self.site) - counted - 1
        peer.process.check_alive()
        length = self._answer_length(peer, route, shape)
        faults = wrk.faults(result, connections=connections, answer_bytes=length, counted=counted)
        return Measured(result, cpu, faults)

    def _answer_length(self, peer: Peer, route: str, shape: wrk.Shape) -> int:
        """Bytes of a whole answer of this shape, checked to be the right one, once a peer and shape."""
        key = (peer.name, route, shape)
        if key not in self._answers:
            ids = {} if shape == "same" else {"traceparent": f"00-{'0' * 32}-{'0' * 16}-01", "X-Request-ID": "0" * 32}
            method, body = ("POST", b"{}") if shape == "post" else ("GET", None)
            answer = fetch(
                peer.target(route), method, "/v2/topology", headers=ids, body=body, ca_file=str(self.site.ca_file)
            )
            check_small(f"{peer.name} {route} {shape}", answer)
            self._answers[key] = answer.head_length + len(answer.body)
        return self._answers[key]
