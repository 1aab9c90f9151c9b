"""Every asynchronous test of the data plane runs on both event loops, in debug mode, with blocking calls detected."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator, Mapping

import pytest
import uvloop
from blockbuster import blockbuster_ctx


def _debugging(make: Callable[[], asyncio.AbstractEventLoop]) -> Callable[[], asyncio.AbstractEventLoop]:
    def factory() -> asyncio.AbstractEventLoop:
        loop = make()
        loop.set_debug(True)
        return loop

    return factory


LOOPS = {"asyncio": _debugging(asyncio.new_event_loop), "uvloop": _debugging(uvloop.new_event_loop)}


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """See pytest-asyncio; the id of each test says which loop it ran on."""
    return LOOPS


@pytest.fixture(autouse=True)
def _no_blocking_calls(request: pytest.FixtureRequest) -> Iterator[None]:
    """What blocks the loop raises, where code of ours is on the stack; a start may, before anybody is served."""
    if not inspect.iscoroutinefunction(getattr(request, "function", None)):
        yield
        return
    with blockbuster_ctx(scanned_modules=["sidecar"]) as detector:
        for function in detector.functions.values():
            function.can_block_in("sidecar/proxy/server.py", {"_unix_socket", "close"})
            function.can_block_in("sidecar/clock.py", {"__init__"})
        yield
