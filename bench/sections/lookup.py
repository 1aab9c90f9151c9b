"""What handing out a fresh token costs, in nanoseconds: the sidecar only."""

from bench.arena import Arena
from bench.options import Options
from bench.peers.kind import Kind
from bench.processes import BenchError
from bench.record import Notebook


def run(arena: Arena, kinds: list[Kind], options: Options, notebook: Notebook) -> None:
    if not any(kind.name == "sidecar" for kind in kinds):
        return
    for _ in range(options.rounds):
        try:
            found = arena.python("tokenlookup", arena.cores.proxy, timeout=60)
        except BenchError as error:
            notebook.fault("lookup", "a fresh token", "sidecar", "ns", [str(error)])
            break
        notebook.add("lookup", "a fresh token", "sidecar", ns=float(str(found["nanoseconds"])))
    record = notebook.record("lookup", "a fresh token", "ns", "sidecar")
    text = f"{record.figure.median:.0f} ns ±{record.figure.spread:.0%}" if record.figure else "failed"
    arena.say(f"lookup: a fresh token {text} {'; '.join(record.faults)}".rstrip())
