"""The open loop: a slow answer makes later ones late, and leaves none of them out."""

import socket
import threading
import time
from array import array
from contextlib import closing

from bench.openloop import Load, Outcome, Schedule, request_maker
from bench.site import HOST, SMALL


def test_moments_come_evenly_and_all():
    """Asked late, the schedule gives every moment that has passed, each with its own time."""
    schedule = Schedule(1_000_000_000, rate=1000, seconds=0.005)
    assert schedule.take(999_999_999) == []
    assert schedule.take(1_002_500_000) == [1_000_000_000, 1_001_000_000, 1_002_000_000]
    assert schedule.next_due() == 1_003_000_000
    assert schedule.take(2_000_000_000) == [1_003_000_000, 1_004_000_000]
    assert schedule.next_due() is None


def test_no_two_requests_are_alike():
    """Nobody can remember a head that never comes again."""
    make = request_maker("/plain", {"Authorization": "Bearer t"}, 80)
    assert len({make(number) for number in range(100)}) == 100
    assert make(1).endswith(b"\r\n\r\n")
    assert b"Authorization: Bearer t\r\n" in make(1)


def test_percentiles_are_in_microseconds():
    """Latencies are kept in nanoseconds and told in microseconds."""
    outcome = Outcome(array("q", range(1000, 1_001_000, 1000)), array("q", [5000]), {})
    told = outcome.as_json(sent=1000, seconds=2.0)
    assert told["microseconds"] == {"p50": 500.0, "p99": 990.0, "p99.9": 999.0, "max": 1000.0}
    assert told["rate"] == 500.0


def _server(answers):
    """Answers the n-th request when `answers[n]` is set."""
    listener = socket.create_server((HOST, 0))

    def serve():
        connection, _ = listener.accept()
        with connection, listener:
            for may_answer in answers:
                data = b""
                while not data.endswith(b"\r\n\r\n"):
                    data += connection.recv(65536)
                assert may_answer.wait(10)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(SMALL) + SMALL)

    thread = threading.Thread(target=serve)
    thread.start()
    return listener.getsockname()[1], thread


def test_a_stall_is_seen_by_all_that_it_delays():
    """One connection, one stalled answer: the requests behind it count from when they were due, not from when sent."""
    answers = [threading.Event() for _ in range(3)]
    port, thread = _server(answers)
    load = Load({"port": port, "base": "", "headers": {}, "connections": 1})
    for event in answers:
        event.set()
    # All three were due a second ago.
    now = time.perf_counter_ns() - 1_000_000_000
    with closing(load):
        load.run(Schedule(now, rate=1e9, seconds=3e-9))
    thread.join()
    assert len(load.outcome.latencies) == 3
    assert min(load.outcome.latencies) >= 1_000_000_000
    assert load.outcome.faults == {}


def test_a_wrong_answer_is_a_fault():
    """An error page that comes fast must not count as a fast answer."""
    listener = socket.create_server((HOST, 0))

    def serve():
        connection, _ = listener.accept()
        with connection, listener:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")

    thread = threading.Thread(target=serve)
    thread.start()
    load = Load({"port": listener.getsockname()[1], "base": "", "headers": {}, "connections": 1})
    with closing(load):
        load.run(Schedule(time.perf_counter_ns(), rate=1000, seconds=0.001))
    thread.join()
    assert load.outcome.faults == {"answer 503": 1}
    assert len(load.outcome.latencies) == 0
