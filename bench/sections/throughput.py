"""Requests a second, and what each costs the proxy in CPU: closed loop, rounds interleaved."""

from dataclasses import dataclass

from bench.arena import Arena, Peer
from bench.options import Options
from bench.processes import BenchError
from bench.record import Notebook
from bench.wrk import Shape


def cases(options: Options) -> list[tuple[int, Shape]]:
    """Connections and shape: every number of connections with the first shape, the middle one with all shapes."""
    numbers = options.connections
    middle = numbers[len(numbers) // 2]
    first, *others = options.shapes
    return [(number, first) for number in numbers] + [(middle, shape) for shape in others]


def name(connections: int, shape: str) -> str:
    return f"{connections} connection{'s' if connections > 1 else ''}, {shape}"


def run(arena: Arena, peers: list[Peer], options: Options, notebook: Notebook, *, section: str, route: str) -> None:
    for connections, shape in cases(options):
        case = _Case(arena, notebook, section, route, connections, shape, options.seconds)
        for number in range(options.rounds):
            # Every other round backwards: nobody always comes after the same neighbour.
            for peer in peers if number % 2 == 0 else reversed(peers):
                case.round(peer)
        arena.say(summary(notebook, section, case.name))


@dataclass(frozen=True, slots=True)
class _Case:
    arena: Arena
    notebook: Notebook
    section: str
    route: str
    connections: int
    shape: Shape
    seconds: int

    @property
    def name(self) -> str:
        return name(self.connections, self.shape)

    def round(self, peer: Peer) -> None:
        how = {"connections": self.connections, "seconds": self.seconds, "shape": self.shape}
        try:
            measured = self.arena.load(peer, self.route, warm=1, **how)
        except BenchError as error:
            self.notebook.fault(self.section, self.name, peer.name, "requests/s", [str(error)])
            return
        if measured.faults:
            self.notebook.fault(self.section, self.name, peer.name, "requests/s", measured.faults)
            return
        self.notebook.add(self.section, self.name, peer.name, **{"requests/s": measured.result.rate})
        if peer.name != "direct":
            cost = {"CPU ms per 1,000 requests": measured.cpu_ms_per_1000}
            self.notebook.add(self.section, self.name, peer.name, **cost)


def summary(notebook: Notebook, section: str, case: str) -> str:
    """A few lines for the person who waits."""
    lines = [f"{section}: {case}"]
    mine = [r for r in notebook.records if (r.section, r.case) == (section, case)]
    costs = {r.peer: r.figure for r in mine if r.metric.startswith("CPU")}
    for record in mine:
        if record.metric == "requests/s":
            rate, cost = record.figure, costs.get(record.peer)
            text = f"{rate.median:>9,.0f}/s ±{rate.spread:4.0%}" if rate else "   failed  "
            text += f"  {cost.median:6.1f} ms CPU per 1,000 ±{cost.spread:4.0%}" if cost else ""
            lines.append(f"  {record.peer:<8} {text} {'; '.join(record.faults)}".rstrip())
    return "\n".join(lines)
