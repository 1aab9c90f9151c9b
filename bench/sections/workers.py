"""Two workers beside one. Where the machine has no core to spare for the load, only the CPU's share is told."""

from bench.arena import Arena, Peer
from bench.options import Options
from bench.peers.kind import Kind
from bench.processes import BenchError
from bench.record import Notebook

_KINDS = ("nginx", "haproxy", "envoy", "sidecar", "compiled")


def run(arena: Arena, kinds: list[Kind], options: Options, notebook: Notebook) -> None:
    available = arena.cores.all
    roomy = len(available) >= 4
    if not roomy:
        arena.say("workers: proxies and load share the cores (fewer than 4): judge by CPU, not by requests a second")
    for kind in kinds:
        if kind.name not in _KINDS:
            continue
        peers: dict[int, Peer] = {}
        for workers in (1, 2):
            cores = available[:workers] if roomy else available
            try:
                peers[workers] = arena.enter(kind, workers=workers, suffix=f"-workers-{workers}", cores=cores)
            except BenchError as error:
                notebook.fault("workers", _case(workers), kind.name, "requests/s", [str(error)])
        for _ in range(options.rounds):
            for workers, peer in peers.items():
                _round(arena, peer, workers, options, notebook)
        for peer in peers.values():
            arena.processes.stop(peer.process)
        for record in notebook.records:
            if record.section == "workers" and record.peer == kind.name:
                text = f"{record.figure.median:,.1f} ±{record.figure.spread:.0%}" if record.figure else "failed"
                arena.say(
                    f"workers: {kind.name:<8} {record.case}: {record.metric} {text} {'; '.join(record.faults)}".rstrip()
                )


def _case(workers: int) -> str:
    return f"{workers} worker{'s' if workers > 1 else ''}"


def _round(arena: Arena, peer: Peer, workers: int, options: Options, notebook: Notebook) -> None:
    try:
        measured = arena.load(peer, "plain", connections=64, seconds=options.seconds, shape="varied", warm=1)
    except BenchError as error:
        notebook.fault("workers", _case(workers), peer.name, "requests/s", [str(error)])
        return
    figures = {"requests/s": measured.result.rate, "CPU ms per 1,000 requests": measured.cpu_ms_per_1000}
    if measured.faults:
        notebook.fault("workers", _case(workers), peer.name, "requests/s", measured.faults)
    else:
        notebook.add("workers", _case(workers), peer.name, **figures)
