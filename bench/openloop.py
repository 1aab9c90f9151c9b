"""Open-loop load: requests leave at fixed moments, whatever the answers do, and latency counts from those moments.

A closed loop waits for a slow answer before it sends the next request, and so leaves out the very requests that would
have suffered ("coordinated omission"). Here a request whose moment has come while every connection is busy waits in a
queue, and that wait is part of its latency.

`python -m bench.openloop FACTS.json`, with port, base, headers, rate, seconds, connections. It does not spin: origin
and load share a core. Sleeping is by `select`, whose time limit has microseconds where epoll's has milliseconds.
"""

import ctypes
import gc
import json
import os
import select
import socket
import sys
import time
from array import array
from collections import deque
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from bench.site import HOST, SMALL
from bench.stats import percentile

_PR_SET_TIMERSLACK = 29
_LONGEST_ANSWER = 16 << 10
_DRAIN = 5.0


class _Connection:
    __slots__ = ("due", "part", "socket")

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection((HOST, port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.due = 0
        self.part = b""


@dataclass(slots=True)
class Outcome:
    """Nanoseconds."""

    latencies: "array[int]"
    lags: "array[int]"
    """How late the load itself was; well below the latencies, or they say nothing."""
    faults: dict[str, int]
    span: int = 0
    """From the first request that was due to the last answer."""

    def as_json(self, *, sent: int, seconds: float) -> dict[str, object]:
        ordered, lags = sorted(self.latencies), sorted(self.lags)
        shares = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
        return {
            "sent": sent,
            "answered": len(ordered),
            "rate": sent / seconds,
            "most": len(ordered) / (self.span / 1e9) if self.span else 0.0,
            "microseconds": {name: percentile(ordered, share) / 1e3 for name, share in shares.items()}
            if ordered
            else {},
            "lag_p99": percentile(lags, 0.99) / 1e3 if lags else 0.0,
            "cpu_share": time.process_time() / seconds,
            "faults": self.faults,
        }


class Schedule:
    """When requests are due: evenly, `rate` a second, the first at `start`. All times are in nanoseconds."""

    def __init__(self, start: int, rate: float, seconds: float) -> None:
        self._start = start
        self._rate = rate
        self.total = int(rate * seconds)
        self.taken = 0

    def next_due(self) -> int | None:
        """None after the last."""
        return self._start + int(self.taken * 1e9 / self._rate) if self.taken < self.total else None

    def take(self, now: int) -> list[int]:
        """The moments that have come since it was last asked."""
        due = []
        while (moment := self.next_due()) is not None and moment <= now:
            due.append(moment)
            self.taken += 1
        return due


def request_maker(base: str, headers: dict[str, str], port: int):
    """Makes requests of which no two are alike, as wrk's `varied` does."""
    fixed = {"Host": f"{HOST}:{port}", "Accept": "application/json", "User-Agent": "bench/1"} | headers
    lines = "".join(f"{name}: {value}\r\n" for name, value in fixed.items())
    run = os.getpid() & 0xFFFFFFFF

    def make(number: int) -> bytes:
        one = f"{run:08x}{number:08x}"
        return (
            f"GET {base}/v2/process-instances/{one} HTTP/1.1\r\n{lines}X-Request-ID: {one}{one}\r\n"
            f"traceparent: 00-{one}{one}-{one}-01\r\n\r\n"
        ).encode()

    return make


class Load:
    """One run over non-blocking sockets."""

    def __init__(self, facts: dict[str, object]) -> None:
        port = int(str(facts["port"]))
        self._make = request_maker(str(facts["base"]), dict(facts["headers"]), port)  # type: ignore[call-overload]
        self._connections = [_Connection(port) for _ in range(int(str(facts["connections"])))]
        self._by_fd = {connection.socket.fileno(): connection for connection in self._connections}
        self._idle = deque(self._connections)
        self._waiting: deque[int] = deque()
        self._poll = select.epoll()
        for fd in self._by_fd:
            self._poll.register(fd, select.EPOLLIN)
        self.outcome = Outcome(array("q"), array("q"), {})
        self._number = 0
        self._begin = 0

    def close(self) -> None:
        """End all connections."""
        self._poll.close()
        for connection in self._connections:
            connection.socket.close()

    def run(self, schedule: Schedule) -> None:
        give_up: int | None = None
        clock = time.perf_counter_ns
        self._begin = schedule.next_due() or 0
        while schedule.next_due() is not None or len(self._idle) < len(self._by_fd) or self._waiting:
            now = clock()
            taken = schedule.take(now)
            if taken and self._idle and not self._waiting:
                self.outcome.lags.append(now - taken[0])
            self._waiting.extend(taken)
            while self._waiting and self._idle:
                self._send(self._idle.popleft(), self._waiting.popleft())
            due = schedule.next_due()
            if due is None:
                give_up = give_up or now + int(_DRAIN * 1e9)
                if now > give_up or not self._by_fd:
                    self._fault("no answer")
                    return
            self._sleep(due)
            for fd, _ in self._poll.poll(0):
                self._read(self._by_fd[fd], fd)

    def _sleep(self, due: int | None) -> None:
        wait = 0.05 if due is None else max(0.0, (due - time.perf_counter_ns()) / 1e9)
        select.select([self._poll], [], [], wait)

    def _send(self, connection: _Connection, due: int) -> None:
        connection.due = due
        self._number += 1
        data = self._make(self._number)
        try:
            if connection.socket.send(data) != len(data):
                self._fault("short write")
        except OSError as error:
            self._fault(type(error).__name__)

    def _read(self, connection: _Connection, fd: int) -> None:
        data = b""
        with suppress(BlockingIOError):
            try:
                data = connection.socket.recv(65536)
            except ConnectionError as error:
                self._fault(type(error).__name__)
        if not data:
            self._fault("closed")
            self._poll.unregister(fd)
            del self._by_fd[fd]
            return
        data = connection.part + data
        if data.endswith(SMALL) and data.startswith(b"HTTP/1.1 200 "):
            self.outcome.latencies.append(time.perf_counter_ns() - connection.due)
            connection.part = b""
            self._idle.append(connection)
            self.outcome.span = time.perf_counter_ns() - self._begin
        elif len(data) > _LONGEST_ANSWER or not b"HTTP/1.1 200 ".startswith(data[:13]):
            self._fault(f"answer {data[9:12].decode('latin-1')}")
            connection.part = b""
            self._idle.append(connection)
        else:
            connection.part = data

    def _fault(self, what: str) -> None:
        self.outcome.faults[what] = self.outcome.faults.get(what, 0) + 1


def main(facts: dict[str, object]) -> dict[str, object]:
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1)
    load = Load(facts)
    gc.collect()
    gc.disable()
    seconds = float(str(facts["seconds"]))
    schedule = Schedule(time.perf_counter_ns() + 10_000_000, float(str(facts["rate"])), seconds)
    with closing(load):
        load.run(schedule)
    return load.outcome.as_json(sent=schedule.taken, seconds=seconds)


if __name__ == "__main__":
    print(json.dumps(main(json.loads(Path(sys.argv[1]).read_text()))))
