"""10,000 idle connections and 1,000 busy ones: what each keeps in memory, and whether all still work."""

import socket
import threading
from contextlib import ExitStack

from bench.arena import Arena, Peer
from bench.options import Options
from bench.peers.kind import Kind, Target
from bench.processes import BenchError
from bench.record import Notebook
from bench.site import HOST, SMALL

IDLE = 10_000
_BUSY = 1000


def run(arena: Arena, kinds: list[Kind], options: Options, notebook: Notebook) -> None:
    for kind in kinds:
        # A relay needs an upstream connection for each: more files than a process may usually have open.
        if kind.name in ("direct", "relay"):
            continue
        for number in range(1 if options.quick else min(3, options.rounds)):
            _guarded(arena, kind, notebook, "idle", number)
            _guarded(arena, kind, notebook, "busy", number)
        mine = [r for r in notebook.records if r.section == "connections" and r.peer == kind.name]
        cells = [f"{r.case}: {r.metric} {r.figure.median:,.1f}" for r in mine if r.figure]
        faults = [fault for r in mine for fault in r.faults]
        arena.say(f"connections: {kind.name:<8} {'; '.join(cells + faults)}")


def _guarded(arena: Arena, kind: Kind, notebook: Notebook, what: str, number: int) -> None:
    case = f"{IDLE:,} idle" if what == "idle" else f"{_BUSY:,} busy"
    try:
        peer = arena.enter(kind, suffix=f"-{what}-{number}")
        try:
            (_idle if what == "idle" else _busy)(arena, peer, notebook, case)
        finally:
            arena.processes.stop(peer.process)
    except (BenchError, OSError) as error:
        notebook.fault("connections", case, kind.name, "KB a connection", [str(error)])


def _idle(arena: Arena, peer: Peer, notebook: Notebook, case: str) -> None:
    # A first load, so that what any traffic at all needs is not counted as the connections'.
    arena.load(peer, "plain", connections=32, seconds=1, shape="varied")
    before = peer.process.memory().rss
    target = peer.target("plain")
    with ExitStack() as stack:
        held: list[socket.socket] = []
        while len(held) < IDLE:
            held.append(stack.enter_context(socket.create_connection((HOST, target.port), timeout=20)))
            _ask(held[-1], target)
        after = peer.process.memory().rss
        for connection in held[:: IDLE // 100]:
            _ask(connection, target)
    notebook.add(
        "connections", case, peer.name, **{"KB a connection": (after - before) / IDLE / 1e3, "MB": after / 1e6}
    )


def _ask(connection: socket.socket, target: Target) -> None:
    """One request; its connection stays open.

    Raises:
        OSError: the answer is not the right one.
    """
    lines = "".join(f"{name}: {value}\r\n" for name, value in target.headers.items())
    connection.sendall(f"GET {target.base}/v2/topology HTTP/1.1\r\nHost: {HOST}:{target.port}\r\n{lines}\r\n".encode())
    data = b""
    while not data.endswith(SMALL):
        more = connection.recv(65536)
        if not more:
            raise ConnectionError(f"closed, after {data[:100]!r}")
        data += more
        if not data.startswith(b"HTTP/1.1 200 "[: len(data)]):
            raise OSError(f"not 200: {data[:300]!r}")


def _busy(arena: Arena, peer: Peer, notebook: Notebook, case: str) -> None:
    arena.load(peer, "plain", connections=32, seconds=1, shape="varied")
    before, peak = peer.process.memory().rss, 0
    ended = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not ended.wait(0.2):
            peak = max(peak, peer.process.memory().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        measured = arena.load(peer, "plain", connections=_BUSY, seconds=3, shape="varied")
    finally:
        ended.set()
        watcher.join()
    if measured.faults:
        raise BenchError("; ".join(measured.faults))
    figures = {"KB a connection": (peak - before) / _BUSY / 1e3, "MB": peak / 1e6, "requests/s": measured.result.rate}
    notebook.add("connections", case, peer.name, **figures)
