"""Work that nobody awaits: none of it fails quietly, and no thread of it keeps the process from ending.

Every failure is one log line, and is counted for `camunda_sidecar_background_failures_total`.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, Final, Literal, TypeVar, get_args

import structlog

from sidecar.clock import Clock

T = TypeVar("T")
Work = Literal[
    "dials", "event_loop", "grpc", "problems", "reload", "requests", "secret_files", "sweep", "tokens", "watchdog"
]
"""The names of what runs in the background; `event_loop` stands for callbacks and tasks that nobody named."""

failures: Final[Counter[Work]] = Counter(dict.fromkeys(get_args(Work), 0))
"""Failures of this process so far: the metric's values."""

_log = structlog.get_logger(__name__)


def failed(name: Work, error: BaseException, **context: str) -> None:
    """Log a failure, with what the log line is to have besides, and count it."""
    failures[name] += 1
    _log.error("work in the background failed by a fault in the sidecar", work=name, **context, exc_info=error)


def spawn(name: Work, work: Coroutine[Any, Any, None], tasks: set[asyncio.Task[None]]) -> asyncio.Task[None]:
    """Start a task that stays in `tasks` until its end; an exception that ends it is reported by `failed`."""

    def ended(task: asyncio.Task[None]) -> None:
        tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            failed(name, error)

    task = asyncio.get_running_loop().create_task(work)
    tasks.add(task)
    task.add_done_callback(ended)
    return task


async def repeat(name: Work, work: Callable[[], Awaitable[None]], clock: Clock, seconds: float) -> None:
    """Do `work` again and again until cancelled, `seconds` after its last end; a failure does not end it."""
    while True:
        await clock.sleep(seconds)
        try:
            await work()
        except (asyncio.CancelledError, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 (a panic in Rust code is no Exception)
            failed(name, error)


def unhandled(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """An event loop's exception handler, for what raised in a callback or in a task that nobody awaited."""
    failures["event_loop"] += 1
    _log.error(
        "an exception in the event loop was not handled", what=context["message"], exc_info=context.get("exception")
    )


async def in_thread(work: Callable[[], T]) -> T:
    """The result of blocking work, from a daemon thread.

    A file system may never answer. The threads of asyncio's executor are waited for when the process ends; this one
    is not.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def deliver(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(result)  # type: ignore[arg-type]
        else:
            future.set_exception(error)

    def run() -> None:
        result, raised = None, None
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 (it is raised where it is awaited)
            raised = error
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(deliver, result, raised)

    threading.Thread(target=run, name="background", daemon=True).start()
    return await future
