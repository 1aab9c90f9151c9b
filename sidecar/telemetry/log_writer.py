"""Writes finished log lines to standard error, and keeps everybody who logs from waiting for whoever reads them."""

from __future__ import annotations

import atexit
import os
import select
import threading
from collections import deque
from collections.abc import Callable

from sidecar.clock import SystemClock

STDERR = 2
MAX_BYTES = 1 << 20
"""The most bytes of lines that wait for a slow reader; further lines are dropped."""
PATIENCE = 0.1
"""Seconds that a line waits for its reader where there is no thread."""
FLUSH_SECONDS = 1.0


class LogWriter:
    """Writes to one file descriptor, after `start` in a thread.

    Without the thread a line is written at once, or dropped after `PATIENCE`: commands that serve nobody need no more,
    and the parent of the workers must have no thread when it forks.
    """

    def __init__(self, descriptor: int = STDERR, max_bytes: int = MAX_BYTES) -> None:
        self.dropped = 0
        """How many lines were dropped: too much waited, or the descriptor is closed or has no reader any more."""
        self.dropped_at: float | None = None
        """When the last of them was dropped, in seconds since 1970."""
        self._descriptor = descriptor
        self._max_bytes = max_bytes
        self._lines: deque[bytes] = deque()
        self._bytes = 0
        self._changed = threading.Condition()  # reentrant: a finaliser may log while its thread is in here
        self._thread: threading.Thread | None = None
        self._ending = False
        self._reported = 0

    def start(self, report: Callable[[int], None]) -> None:
        """Write in a thread from now on; `report` is told how many lines were dropped once all is well again."""
        self._ending = False
        self._thread = threading.Thread(target=self._run, args=(report,), name="log-writer", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def close(self, timeout: float = FLUSH_SECONDS) -> None:
        """Write what waits, for at most `timeout` seconds, and end the thread."""
        thread, self._thread = self._thread, None
        if thread is not None:
            with self._changed:
                self._ending = True
                self._changed.notify()
            thread.join(timeout)

    def write(self, line: str) -> None:
        """Write `line` and a line feed. This neither raises nor waits."""
        data = line.encode("utf-8", "backslashreplace") + b"\n"
        with self._changed:
            if self._thread is None:
                self._wrote(is_whole=self._write(data, PATIENCE))
            elif self._bytes + len(data) > self._max_bytes:
                self._wrote(is_whole=False)
            else:
                self._lines.append(data)
                self._bytes += len(data)
                self._changed.notify()

    def _wrote(self, *, is_whole: bool) -> None:
        if not is_whole:
            self.dropped += 1
            self.dropped_at = SystemClock.wall()

    def _run(self, report: Callable[[int], None]) -> None:
        while (data := self._next()) is not None:
            is_written = self._write(data, None)
            with self._changed:
                self._bytes -= len(data)
                self._wrote(is_whole=is_written)
                news = self.dropped - self._reported if is_written and not self._lines else 0
                self._reported += news
            if news:
                report(news)

    def _next(self) -> bytes | None:
        with self._changed:
            while not self._lines and not self._ending:
                self._changed.wait()
            return self._lines.popleft() if self._lines else None

    def _write(self, data: bytes, patience: float | None) -> bool:
        """Write all of `data` with a system call a line, so that processes which share a pipe do not mix theirs."""
        poller = select.poll()
        poller.register(self._descriptor, select.POLLOUT)
        try:
            while data:
                if not poller.poll(None if patience is None else patience * 1000):
                    return False
                data = data[_write_some(self._descriptor, data) :]
        except OSError:
            return False
        return True


def _write_some(descriptor: int, data: bytes) -> int:
    """Return how many bytes were written; 0 where another process made the descriptor non-blocking and it is full."""
    try:
        return os.write(descriptor, data)
    except BlockingIOError:
        return 0


WRITER = LogWriter()
"""The writer of this process's standard error."""
