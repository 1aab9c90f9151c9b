"""The shell itself through a day in manual time: three processes, one store; and on uvloop, with real files."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from sidecar.clock import SystemClock
from sidecar.errors import GrantInterruptedError, Problem
from sidecar.tokens.manager import TokenManager
from sidecar.tokens.observer import TokenObserver
from sidecar.tokens.stores.degrading import DegradingStore
from sidecar.tokens.stores.file import FileStore
from tests.tokens.support import FakeIssuer, grant, ignored, rig

ROOT = Path(__file__).parents[2]


@pytest.mark.usefixtures("quick_keys")
async def test_a_day_of_three_processes() -> None:
    """A client a minute in each: thirty requests, and none is waited for but the first, and some in an outage.

    This is what the simulation says, done by the product's own shell.
    """
    one = await rig()
    rigs = [one, await rig(beside=one), await rig(beside=one)]
    began, waited = one.clock.boottime(), []
    outage = range(10 * 3600, 11 * 3600)
    one.issuer.otherwise = lambda number: (
        GrantInterruptedError("503") if int(one.clock.boottime() - began) in outage else grant(f"token-{number}")
    )
    for minute in range(24 * 60):
        cold = [each for each in rigs if each.authorizer.current() is None]
        waited += [(minute, ignored(each.authorizer.obtain())) for each in cold]
        await one.clock.advance(60)
    assert all(future.done() for _, future in waited)
    failed = [minute for minute, future in waited if isinstance(future.exception(), Problem)]
    assert all(600 <= minute < 662 for minute in failed)
    outside = [at - began for at in one.issuer.requests if int(at - began) not in outage]
    assert 28 <= len(outside) <= 34
    assert len([minute for minute, _ in waited if not 600 <= minute < 662]) <= 3
    assert all(later - earlier >= 1.25 - 1e-6 for earlier, later in pairwise(one.issuer.requests))


def test_on_uvloop() -> None:
    """The loop that the product runs on: a cold token over a file store, shared by a hundred clients, and an end."""
    script = """
import asyncio, pathlib, tempfile, uvloop
from sidecar.clock import SystemClock
from sidecar.config import settings
from sidecar.tokens.manager import TokenManager
from sidecar.tokens.observer import TokenObserver
from sidecar.tokens.stores import build_store
from tests.tokens.support import FakeIssuer

async def main():
    clock = SystemClock()
    with tempfile.TemporaryDirectory() as name:
        for _ in range(2):
            store = build_store(settings.FileStore(pathlib.Path(name) / "store"), clock, TokenObserver())
            manager = TokenManager(store, clock)
            await manager.start()
            issuer = FakeIssuer(clock)
            authorizer = manager.authorizer(issuer, credential="c", audience="a")
            tokens = await asyncio.gather(*(authorizer.obtain() for _ in range(100)))
            print(len(issuer.requests), len({token.version for token in tokens}))
            await manager.close()

uvloop.run(main(), debug=True)
"""
    command = [sys.executable, "-W", "error", "-c", script]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert [line for line in done.stdout.splitlines() if line[0] in "01" and len(line) == 3] == ["1 1", "0 1"]


async def test_asyncio_is_not_held_up(tmp_path) -> None:
    """While keys are derived (a quarter of a second) and files are read, the loop goes on turning."""
    clock = SystemClock()
    manager = TokenManager(DegradingStore(FileStore(tmp_path / "store", None, clock), clock, TokenObserver()), clock)
    await manager.start()
    asking = ignored(manager.authorizer(FakeIssuer(clock), credential="c", audience="a").obtain())
    turns = 0
    while not asking.done():
        turns += 1
        await asyncio.sleep(0)
    assert asking.result().header
    assert turns > 100
    await manager.close()
