"""100 MB down and up, one transfer at a time over one connection."""

from bench.arena import Arena, Peer
from bench.options import Options
from bench.processes import BenchError
from bench.record import Notebook
from bench.site import BIG

_ROUTES = {("down", False): "plain", ("down", True): "tls", ("up", False): "sink", ("up", True): "tls-sink"}


def run(arena: Arena, peers: list[Peer], options: Options, notebook: Notebook) -> None:
    count = 1 if options.quick else 3
    for (direction, tls), route in _ROUTES.items():
        case = f"100 MB {direction}, {'TLS' if tls else 'plain'}"
        for peer in peers:
            if peer.name != "direct" or not tls:
                _guarded(arena, peer, route, notebook, case, direction=direction, count=0, checksum=True)
        for number in range(options.rounds):
            for peer in peers if number % 2 == 0 else reversed(peers):
                # The client does no TLS of its own, so without a proxy there is nothing to compare.
                if peer.name != "direct" or not tls:
                    _guarded(arena, peer, route, notebook, case, direction=direction, count=count, checksum=False)
        arena.say(summary(notebook, case))


def _guarded(arena: Arena, peer: Peer, route: str, notebook: Notebook, case: str, **how: object) -> None:
    """One round; `how`: direction, count, checksum."""
    count = int(str(how["count"]))
    cpu = peer.process.cpu_seconds()
    try:
        seconds = float(str(arena.client("bulk", peer, route, timeout=300, **how)["seconds"]))
    except BenchError as error:
        notebook.fault("bodies", case, peer.name, "MB/s", [str(error)])
        return
    cpu = peer.process.cpu_seconds() - cpu
    if count:
        notebook.add("bodies", case, peer.name, **{"MB/s": count * BIG / 1e6 / seconds})
        if peer.name != "direct":
            notebook.add("bodies", case, peer.name, **{"CPU s per GB": cpu / (count * BIG / 1e9)})


def summary(notebook: Notebook, case: str) -> str:
    lines = [case]
    for record in notebook.records:
        if record.section == "bodies" and record.case == case and record.metric == "MB/s":
            found = record.figure
            text = f"{found.median:7,.0f} MB/s ±{found.spread:4.0%}" if found else "failed"
            cost = notebook.record("bodies", case, "CPU s per GB", record.peer).figure
            text += f" {cost.median:6.2f} s CPU per GB" if cost else ""
            lines.append(f"  {record.peer:<8} {text} {'; '.join(record.faults)}".rstrip())
    return "\n".join(lines)
