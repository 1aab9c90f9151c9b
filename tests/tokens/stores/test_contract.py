"""What every store promises; one suite for memory, a directory, Redis, and each of the latter two made unfailing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import count

import pytest

from sidecar.clock import SystemClock
from sidecar.tokens.observer import TokenObserver
from sidecar.tokens.stores import degrading
from sidecar.tokens.stores.base import Store
from sidecar.tokens.stores.degrading import DegradingStore
from sidecar.tokens.stores.file import FileStore
from sidecar.tokens.stores.memory import MemoryStore
from tests.tokens.stores.support import redis_store

KINDS = ["memory", "file", "redis", "unfailing-file", "unfailing-redis"]
CLOCK = SystemClock()
databases = count()

Another = Callable[[], Awaitable[Store]]


@pytest.fixture(params=KINDS)
async def another(request, tmp_path) -> AsyncIterator[Another]:
    """Opens the same store once more, as another process would; a memory store is its process's alone."""
    kind = request.param
    port = request.getfixturevalue("redis_port") if "redis" in kind else 0
    database = next(databases) % 16
    alone = MemoryStore(CLOCK)
    opened: list[Store] = []

    async def open_another() -> Store:
        match kind.rpartition("-")[2]:
            case "memory":
                store: Store = alone
            case "file":
                store = FileStore(tmp_path / "store", None, CLOCK)
            case _:
                store = redis_store(port, CLOCK, database)
        store = DegradingStore(store, CLOCK, TokenObserver()) if kind.startswith("unfailing") else store
        await store.open()
        opened.append(store)
        return store

    if port:
        store = redis_store(port, CLOCK, database)
        await store.open()
        await store._redis.flushdb()
        await store.close()
    yield open_another
    for store in opened:
        await store.close()


def put(data: bytes):
    return lambda _record, _now: data


async def test_what_is_written_is_read_by_all(another) -> None:
    """By who wrote it and by another process, with the moment of its writing."""
    one, other = await another(), await another()
    assert await one.load("key") is None
    before = CLOCK.boottime()
    written = await one.update("key", put(b"data"))
    after = CLOCK.boottime()
    for record in (written, await one.load("key"), await other.load("key")):
        assert (record.data, record.damaged, record.certain) == (b"data", False, True)
        assert before - 0.01 <= record.written <= after + 0.01
    assert await other.load("another-key") is None


async def test_a_change_sees_what_is_there(another) -> None:
    """And may leave it."""
    one, other = await another(), await another()
    await one.update("key", put(b"1"))
    seen: list[bytes] = []

    def change(record, now):
        assert abs(now - CLOCK.boottime()) < 1
        seen.append(record.data)
        return record.data + b"2"

    assert (await other.update("key", change)).data == b"12"
    assert seen == [b"1"]
    left = await one.update("key", lambda record, _now: None)
    assert left.data == b"12"
    assert await one.update("nothing", lambda record, _now: None) is None
    assert await one.load("nothing") is None


async def test_changes_by_many_at_once_are_all_there(another, monkeypatch) -> None:
    """Atomic: none is lost, whoever is faster, on a loaded machine too: how long one may take is another promise."""
    monkeypatch.setattr(degrading, "PATIENCE", 60.0)
    stores = [await another() for _ in range(4)]

    def increment(record, _now):
        return str(int(record.data if record else b"0") + 1).encode()

    await asyncio.gather(*(store.update("counter", increment) for store in stores for _ in range(25)))
    assert (await stores[0].load("counter")).data == b"100"


async def test_a_record_may_count_as_written_earlier(another) -> None:
    """As one does that comes back from a time when the store was away."""
    one, other = await another(), await another()
    moment = CLOCK.boottime() - 100
    await one.update("key", put(b"data"), written=moment)
    assert (await other.load("key")).written == pytest.approx(moment, abs=0.05)


async def test_a_lock_is_held_by_one(another) -> None:
    """Until it is given back; others are not kept waiting to hear so; locks of other names are others."""
    one, other = await another(), await another()
    release = await one.acquire("key")
    assert release is not None
    assert await one.acquire("key") is None
    assert await other.acquire("key") is None
    second = await other.acquire("another-key")
    assert second is not None
    await release()
    third = await other.acquire("key")
    assert third is not None
    await second()
    await third()


async def test_a_lock_does_not_keep_records_from_changing(another) -> None:
    """It is thrift; whoever is stopped while holding it stops nobody else's writing."""
    one, other = await another(), await another()
    release = await one.acquire("key")
    await other.update("key", put(b"data"))
    assert (await one.load("key")).data == b"data"
    await release()


async def test_large_and_binary_content(another) -> None:
    """Some issuers' tokens are large."""
    one, other = await another(), await another()
    data = bytes(range(256)) * 400
    await one.update("key", put(data))
    assert (await other.load("key")).data == data


async def test_closed_and_opened_again(another) -> None:
    """It is the same store."""
    one = await another()
    await one.update("key", put(b"data"))
    again = await another()
    assert (await again.load("key")).data == b"data"


async def test_a_store_that_works_says_so(another) -> None:
    """A check changes nothing."""
    one = await another()
    await one.update("key", put(b"data"))
    await one.check()
    assert (await one.load("key")).data == b"data"
    assert getattr(one, "fault", None) is None
