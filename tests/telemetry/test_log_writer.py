"""Nobody who logs waits for whoever reads, and nothing is lost that could have been written."""

import os
import threading
from collections.abc import Iterator

import pytest

from sidecar.telemetry.log_writer import LogWriter

PIPE = 64 << 10
"""Bytes that a pipe holds on Linux."""


class Reader:
    """The other end of a pipe, which reads when it is told to."""

    def __init__(self) -> None:
        self.end, self.written = os.pipe()

    def line(self) -> bytes:
        """The next line, waited for."""
        line = b""
        while not line.endswith(b"\n"):
            line += os.read(self.end, 1)
        return line

    def close(self) -> None:
        for descriptor in (self.end, self.written):
            os.close(descriptor)


@pytest.fixture
def reader() -> Iterator[Reader]:
    reader = Reader()
    yield reader
    reader.close()


def fill(descriptor: int) -> None:
    """Leave no room in a pipe."""
    os.set_blocking(descriptor, False)
    try:
        while True:
            os.write(descriptor, b"x" * 4095 + b"\n")
    except BlockingIOError:
        os.set_blocking(descriptor, True)


@pytest.mark.parametrize("threaded", [False, True])
def test_lines_are_written_in_order_and_whole(reader, threaded):
    """With the thread and without; what is no UTF-8 is escaped; one that is longer than a pipe is written whole."""
    writer = LogWriter(reader.written)
    if threaded:
        writer.start(lambda _: None)
    for line in ("first", "größer \udc80"):
        writer.write(line)
    assert [reader.line() for _ in range(2)] == [b"first\n", "größer \\udc80\n".encode()]
    if threaded:
        writer.write("y" * 3 * PIPE)
        assert reader.line() == b"y" * 3 * PIPE + b"\n"
    writer.close()
    assert writer.dropped == 0


def test_a_reader_that_stops_costs_lines_and_no_time(reader):
    """Lines wait up to a bound; what is beyond is counted, and reported in one line when the reader is back."""
    reported = threading.Event()
    writer = LogWriter(reader.written, max_bytes=2 * PIPE)

    def report(lines: int) -> None:
        writer.write(f"dropped {lines}")
        reported.set()

    writer.start(report)
    line = "z" * 1023
    for _ in range(400):
        writer.write(line)
    dropped = writer.dropped
    assert 400 - 3 * PIPE // 1024 <= dropped <= 400 - 2 * PIPE // 1024
    read = []
    while not read or not read[-1].startswith(b"dropped"):
        read.append(reader.line())
    assert read == [line.encode() + b"\n"] * (400 - dropped) + [b"dropped %d\n" % dropped]
    writer.write("on")
    assert reader.line() == b"on\n"
    writer.close()
    assert writer.dropped == dropped


@pytest.mark.parametrize("threaded", [False, True])
def test_a_full_pipe_holds_up_neither_a_line_nor_the_end(reader, threaded):
    """Whoever logs goes on, and the end waits no longer than it is told to."""
    fill(reader.written)
    writer = LogWriter(reader.written)
    if threaded:
        writer.start(lambda _: None)
    writer.write("unread")
    writer.close(0.05)
    assert writer.dropped == (0 if threaded else 1)
    while reader.line() != b"unread\n" and threaded:
        pass


def test_what_waits_is_written_at_the_end(reader):
    """`close` returns when everything is written, where somebody reads."""
    writer = LogWriter(reader.written)
    writer.start(lambda _: None)
    for number in range(1000):
        writer.write(str(number))
    writer.close(10)
    assert os.read(reader.end, PIPE).split() == [b"%d" % number for number in range(1000)]
    writer.write("afterwards")
    assert reader.line() == b"afterwards\n"


def test_a_descriptor_that_somebody_made_non_blocking(reader):
    """Node does that to a pipe that it shares: a full one is waited for all the same."""
    fill(reader.written)
    os.set_blocking(reader.written, False)
    writer = LogWriter(reader.written)
    writer.start(lambda _: None)
    writer.write("patient")
    while reader.line() != b"patient\n":
        pass
    writer.close()
    assert writer.dropped == 0


@pytest.mark.parametrize("threaded", [False, True])
@pytest.mark.parametrize("closed", ["reader", "descriptor"])
def test_nobody_to_write_to(closed, threaded):
    """A reader that has gone, or a closed descriptor: each line is counted, and nothing else happens."""
    end, written = os.pipe()
    os.close(end)
    if closed == "descriptor":
        os.close(written)
    writer = LogWriter(written)
    if threaded:
        writer.start(lambda _: None)
    for _ in range(3):
        writer.write("unread")
    writer.close()
    assert writer.dropped == 3
    if closed == "reader":
        os.close(written)


def test_a_finaliser_may_log_while_its_thread_logs(reader):
    """Garbage may be collected in the middle of `write`, and what is collected may log."""
    writer = LogWriter(reader.written)
    writer.start(lambda _: None)
    with writer._changed:  # where the collector may run
        writer.write("from within")
    assert reader.line() == b"from within\n"
    writer.close()
