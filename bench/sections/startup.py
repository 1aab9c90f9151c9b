"""From the start of the process to ready, and how long the first request then takes."""

import time

from bench.arena import Arena, Peer
from bench.fetch import check_small
from bench.options import Options
from bench.peers.kind import HttpKind, Kind
from bench.processes import BenchError, eventually
from bench.record import Notebook


def run(arena: Arena, kinds: list[Kind], options: Options, notebook: Notebook) -> None:
    fit = [kind for kind in kinds if isinstance(kind, HttpKind)]
    for number in range(options.rounds):
        for kind in fit:
            # A folder of its own for each round is a cold start; the second start in it finds the token in the store.
            cases = ("cold", "cached token") if kind.name in ("sidecar", "compiled") else ("cold",)
            for case in cases:
                try:
                    _once(arena, kind, f"-startup-{number}", case, notebook)
                except (BenchError, OSError) as error:
                    notebook.fault("startup", case, kind.name, "ms to ready", [str(error)])
    for record in notebook.records:
        if record.section == "startup":
            found = record.figure
            text = f"{found.median:,.1f} ±{found.spread:.0%}" if found else "failed"
            arena.say(
                f"startup: {record.peer:<8} {record.case}, {record.metric}: {text} {'; '.join(record.faults)}".rstrip()
            )


def _once(arena: Arena, kind: HttpKind, suffix: str, case: str, notebook: Notebook) -> None:
    begin = time.perf_counter()
    peer = arena.start(kind, suffix=suffix)
    try:
        eventually(f"{kind.name} is ready", lambda: _ready(kind, peer), patience=30)
        ready = time.perf_counter()
        # Envoy listens before it has a token, and answers 401 until then: the first answer counts that is the origin's.
        check_small(kind.name, _first_answer(arena, peer))
        first = time.perf_counter()
        second = time.perf_counter()
        check_small(kind.name, arena.fetch(peer, "plain", "/v2/topology"))
        usual = time.perf_counter() - second
    finally:
        arena.processes.stop(peer.process)
    figures = {"ms to ready": ready - begin, "ms of the first request": first - ready, "ms of the second": usual}
    notebook.add("startup", case, kind.name, **{name: value * 1e3 for name, value in figures.items()})


def _ready(kind: HttpKind, peer: Peer) -> bool:
    peer.process.check_alive()
    return kind.ready(peer.port)


def _first_answer(arena: Arena, peer: Peer):
    while (answer := arena.fetch(peer, "plain", "/v2/topology")).status == 401 and peer.name == "envoy":
        time.sleep(0.001)
    return answer
