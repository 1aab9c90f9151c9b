"""Work that nobody awaits: it is heard of when it fails, goes on, and never keeps the process from ending."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable

import pytest
from structlog.testing import capture_logs

from sidecar import background
from sidecar.telemetry.http import HttpStats
from sidecar.telemetry.metrics import Metrics
from tests.telemetry.support import ManualClock, samples


class PanicError(BaseException):
    """As pyo3's PanicException: no `Exception`, so that most nets let it through."""


def counted(work: background.Work) -> Callable[[], float]:
    """What the metric has for `work` since now."""
    metrics = Metrics(HttpStats(), ManualClock())

    def value() -> float:
        return samples(metrics)["camunda_sidecar_background_failures_total", ("work", work)]

    before = value()
    return lambda: value() - before


@pytest.mark.parametrize("error", [ValueError("odd"), PanicError("worse")])
async def test_repeated_work_goes_on_after_any_failure(error: BaseException) -> None:
    """One log line and one count for each failure; the next round is a pause later, as always."""
    failures, rounds, clock = counted("secret_files"), [error, error, None], ManualClock()
    done = asyncio.Event()

    async def work() -> None:
        if (raised := rounds.pop(0)) is not None:
            raise raised
        done.set()

    with capture_logs() as logs:
        task = asyncio.create_task(background.repeat("secret_files", work, clock, 2.0))
        await done.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert (task.cancelled(), failures()) == (True, 2)
    assert [(entry["log_level"], entry["work"], entry["exc_info"]) for entry in logs] == [
        ("error", "secret_files", error)
    ] * 2


async def test_a_task_that_nobody_awaits_is_heard_of_and_forgotten() -> None:
    """Its failure is said when it happens, not when the collector finds it; its end frees it."""
    failures, tasks = counted("tokens"), set[asyncio.Task[None]]()

    async def fail() -> None:
        raise ValueError("odd")

    with capture_logs() as logs:
        task = background.spawn("tokens", fail(), tasks)
        assert tasks == {task}
        await asyncio.wait(tasks)
        await asyncio.sleep(0)
    assert (failures(), tasks) == (1, set())
    assert [entry["work"] for entry in logs] == ["tokens"]


async def test_a_callback_that_raises_is_heard_of() -> None:
    """The net below all others: the loop's own exception handler."""
    failures, handled = counted("event_loop"), asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(background.unhandled)
    with capture_logs() as logs:
        loop.call_soon(lambda: 1 // 0)
        loop.call_soon(handled.set)
        await handled.wait()
    assert failures() == 1
    assert isinstance(logs[0]["exc_info"], ZeroDivisionError)


async def test_a_threads_result_and_its_error_come_back() -> None:
    """As from `asyncio.to_thread`."""
    assert await background.in_thread(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        await background.in_thread(lambda: 1 // 0)


def test_a_thread_that_never_returns_does_not_keep_the_process() -> None:
    """A file system that hangs holds the thread that asked it; the program ends all the same."""
    program = """
import asyncio, threading
from sidecar import background

async def main():
    begun = threading.Event()
    def hang():
        begun.set()
        threading.Event().wait()
    asyncio.ensure_future(background.in_thread(hang))
    while not begun.is_set():
        await asyncio.sleep(0)

asyncio.run(main())
"""
    assert subprocess.run([sys.executable, "-c", program], timeout=30, check=False).returncode == 0
