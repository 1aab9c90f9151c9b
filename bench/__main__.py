"""`python -m bench`: see `--help` and docs/performance.md."""

import os
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench import machine, publish
from bench.arena import Arena, Peer
from bench.options import Options, parse
from bench.peers.all import KINDS
from bench.peers.kind import Kind
from bench.processes import BenchError, Processes
from bench.record import Notebook
from bench.sections import bodies, connections, latency, lookup, memory, startup, throughput, workers
from bench.tools import WORK, Toolbox

_SIDE_BY_SIDE = {
    "throughput": lambda *given: throughput.run(*given, section="throughput", route="plain"),
    "tls": lambda *given: throughput.run(*given, section="tls", route="tls"),
    "latency": latency.run,
    "bodies": bodies.run,
}
_ONE_BY_ONE = {
    "connections": connections.run,
    "memory": memory.run,
    "startup": startup.run,
    "lookup": lookup.run,
    "workers": workers.run,
}


def find(options: Options, tools: Toolbox, say: Callable[[str], None]) -> dict[str, tuple[Kind, str]]:
    """The peers that are to be had, with their versions; of each other one a line says that it is left out."""
    found = {}
    for make in KINDS:
        kind = make()
        if kind.name in options.peers:
            version = kind.find(tools)
            if version is None:
                say(f"left out: {kind.label} is neither installed nor could be fetched")
            else:
                found[kind.name] = (kind, version)
    return found


def enter(arena: Arena, kinds: list[Kind]) -> list[Peer]:
    """Start all of them; of one that does not start a line says why."""
    peers = []
    for kind in kinds:
        try:
            peers.append(arena.enter(kind))
        except BenchError as error:
            arena.say(f"left out: {error}")
    return peers


def hold(arena: Arena, kinds: list[Kind]) -> None:
    """For profilers and curl: everything stands until Ctrl-C."""
    for peer in enter(arena, kinds):
        urls = " ".join(peer.target(route.name).url for route in arena.site.routes)
        arena.say(f"{peer.name} pid {peer.process.popen.pid} {urls}")
    signal.pause()


def measure(arena: Arena, kinds: list[Kind], options: Options, notebook: Notebook) -> None:
    side_by_side = [run for name, run in _SIDE_BY_SIDE.items() if name in options.sections]
    if side_by_side:
        peers = enter(arena, kinds)
        for run in side_by_side:
            run(arena, peers, options, notebook)
        for peer in peers:
            arena.processes.stop(peer.process)
    for name, run in _ONE_BY_ONE.items():
        if name in options.sections:
            run(arena, kinds, options, notebook)


def main(argv: list[str]) -> int:
    """
    Raises:
        BenchError: what every section needs is missing.
    """
    options = parse(argv)
    # A shell starts background jobs with SIGINT ignored; this one is to end in every case.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    machine.raise_file_limit()
    try:
        cores = machine.split_cores(machine.usable_cores())
    except ValueError as error:
        raise BenchError(str(error)) from error
    WORK.mkdir(exist_ok=True)
    tools = Toolbox(install=options.install)
    notebook = Notebook()
    with tempfile.TemporaryDirectory(dir=WORK, prefix="run-") as name, Processes(Path(name)) as processes:
        found = find(options, tools, print)
        os.sched_setaffinity(0, cores.load)
        arena = Arena(processes, Path(name), cores, tools, print)
        arena.open()
        kinds = [kind for kind, _ in found.values()]
        if options.hold:
            hold(arena, kinds)
        environment = machine.environment(cores) | {kind.label: version for kind, version in found.values() if version}
        measure(arena, kinds, options, notebook)
    environment["load average at the end"] = machine.load_average()
    labels = {kind.name: kind.label for kind, _ in found.values()}
    for path in publish.write(notebook, environment, labels, published=options.complete and options.publish):
        print(f"written: {path}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except BenchError as error:
        sys.exit(f"bench: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
