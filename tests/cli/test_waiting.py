"""`wait` and `shutdown` without a sidecar: what they do with their time, and that they start fast."""

from __future__ import annotations

import subprocess
import sys

import pytest

from sidecar.cli import shutdown, wait
from sidecar.clock import BlockingClock
from sidecar.config.settings import TcpAddress

NOWHERE = TcpAddress("127.0.0.1", 1)


class ManualBlockingClock(BlockingClock):
    """A sleep takes no time, and time goes on by it."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def test_wait_asks_ten_times_a_second_and_ends_at_its_limit() -> None:
    """By the clock alone; the last pause is shorter."""
    clock = ManualBlockingClock()
    assert wait.until_ready(lambda: NOWHERE, 0.25, clock) is not None
    assert clock.slept == pytest.approx([0.1, 0.1, 0.05])


def test_shutdown_without_pidfd_looks_until_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the process is gone is asked by its number; one that stays is given up."""
    sent: list[int] = []
    monkeypatch.setattr("sidecar.cli.shutdown.os.kill", lambda _pid, number: sent.append(number))
    clock = ManualBlockingClock()
    assert not shutdown.end_by_number(7, 0.18, clock)
    assert (sent, len(clock.slept)) == ([15, 0, 0, 0, 0], 4)


@pytest.mark.parametrize("command", ["wait", "shutdown"])
def test_commands_that_only_ask_start_without_an_event_loop(command: str) -> None:
    """They run in probes and start-up scripts: asyncio and what it brings cost as much as all the rest."""
    program = (
        f"import sys, sidecar.cli.{command}; print([name for name in ('asyncio', 'aiohttp') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
