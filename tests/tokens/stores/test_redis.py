"""Redis, beyond the contract: hosts whose clocks differ, holders that are gone, a server that is gone."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from sidecar.clock import SystemClock
from sidecar.config import settings
from sidecar.credentials.tls import client_context
from sidecar.secret import Secret, SecretSource
from sidecar.tokens.observer import TokenObserver
from sidecar.tokens.stores import build_store
from sidecar.tokens.stores import redis as module
from sidecar.tokens.stores.base import StoreError
from sidecar.tokens.stores.degrading import DegradingStore
from sidecar.tokens.stores.redis import RedisStore
from tests.tokens.stores.support import free_port, redis_server, redis_store
from tests.tokens.support import Events, FakeIssuer, ManualClock, bearer, rig

CLOCK = SystemClock()
PREFIX = "camunda-sidecar:"


@pytest.fixture
async def store(redis_port):
    opened = redis_store(redis_port, CLOCK, 15)
    await opened.open()
    await opened._redis.flushdb()
    await opened.open()
    yield opened
    await opened.close()


def put(data: bytes):
    return lambda _record, _now: data


async def test_hosts_whose_clocks_differ_agree_on_how_old_a_record_is(store, redis_port) -> None:
    """One is six minutes ahead, booted at another time: the server's time counts."""
    elsewhere = ManualClock(wall=CLOCK.wall() + 360, boottime=77.0, boot_id="elsewhere")
    other = redis_store(redis_port, elsewhere, 15)
    await other.open()
    await store.update("key", put(b"data"))
    age = CLOCK.boottime() - (await store.load("key")).written
    assert elsewhere.boottime() - (await other.load("key")).written == pytest.approx(age, abs=0.1)
    await other.close()


async def test_a_record_from_the_future_is_from_now_once_and_for_all(store) -> None:
    """The server's clock was set back: a cool-down does not begin anew at every look."""
    await store.update("key", put(b"data"))
    now = CLOCK.boottime()
    await store._redis.hset(f"{PREFIX}key", "written", 10**17)
    first = (await store.load("key")).written
    await asyncio.sleep(0.02)
    assert now <= first + 0.01
    assert (await store.load("key")).written == pytest.approx(first, abs=0.005)


async def opened(port: int, count: int) -> list[RedisStore]:
    """So many processes, each counted."""
    stores = [redis_store(port, CLOCK, 15) for _ in range(count)]
    for each in stores:
        await each.open()
        await each.check()
    return stores


async def counted(stores) -> list[tuple[float, int]]:
    """The place and the number of processes, as each of them hears it now."""
    return [(turns.place, turns.count) for each in stores if (turns := await each.check())]


@pytest.mark.usefixtures("store")
async def test_each_process_knows_how_many_there_are_and_has_a_place_of_its_own(redis_port) -> None:
    """A number over fifteen is rounded up a little, so that all of them nearly always remember the same."""
    stores = await opened(redis_port, 17)
    assert await counted(stores) == [(place, 18) for place in range(17)]
    for each in stores:
        await each.close()


async def test_places_survive_the_loss_of_all_data(store, redis_port) -> None:
    """The first to notice makes as many as it knew, and each finds its own: the store may be lost at any moment."""
    stores = await opened(redis_port, 6)
    await counted(stores)
    await store._redis.flushdb()
    turns = await stores[4].check()
    assert (turns.place, turns.count, turns.lost) == (4, 6, True)
    newcomer = await opened(redis_port, 1)
    assert await counted(newcomer) == [(6, 7)]
    assert [place for place, _ in await counted(stores)] == list(range(6))
    assert not (await stores[4].check()).lost
    for each in (*stores, *newcomer):
        await each.close()


async def test_the_places_of_those_who_have_gone_are_filled(redis_port, store, monkeypatch) -> None:
    """And the number of processes is again what it is."""
    stores = await opened(redis_port, 10)
    monkeypatch.setattr(module, "PLACE_SECONDS", 0.5)
    async with asyncio.timeout(20):
        while sorted(await counted(stores[7:])) != [(0, 3), (1, 3), (2, 3)]:  # noqa: ASYNC110 (the server tells nobody)
            await asyncio.sleep(0.02)
    for each in stores:
        await each.close()


async def test_a_command_beside_a_sidecar_is_not_counted(store, redis_port) -> None:
    """`token` in a script, once a second, is no process that asks an issuer."""
    beside = redis_store(redis_port, CLOCK, 15, counted=False)
    await beside.open()
    assert await beside.check() is None
    assert (await store.check()).count == 1
    await beside.close()


async def test_a_lock_whose_holder_is_gone_ends_by_itself(store, redis_port, monkeypatch) -> None:
    """And it is its owner's: who comes late gives nobody else's back."""
    monkeypatch.setattr(module, "LEASE_SECONDS", 0.05)
    lost = await store.acquire("key")
    monkeypatch.undo()
    async with asyncio.timeout(5):
        while (release := await store.acquire("key")) is None:  # noqa: ASYNC110 (the server tells nobody)
            await asyncio.sleep(0.01)
    await lost()
    assert await store.acquire("key") is None
    await release()
    assert await store.acquire("key") is not None


async def test_who_was_stopped_while_it_changed_a_record_begins_again(store, redis_port) -> None:
    """The version is the fencing token: what others wrote meanwhile is neither lost nor undone."""
    other = redis_store(redis_port, CLOCK, 15)
    await other.open()
    await store.update("key", put(b"1"))
    seen: list[bytes] = []
    loop = asyncio.get_running_loop()

    def change(record, _now):
        seen.append(record.data)
        return record.data + b"2"

    load, interrupted = store._load, False

    async def load_and_be_stopped(key):
        nonlocal interrupted
        found = await load(key)
        if not interrupted:
            interrupted = True
            await other.update(key, lambda record, _now: record.data + b"x")
        return found

    store._load = load_and_be_stopped
    assert (await store.update("key", change)).data == b"1x2"
    assert seen == [b"1", b"1x"]
    assert loop.is_running()
    await other.close()


async def test_records_do_not_stay_for_ever(store) -> None:
    """Nothing in them means anything after two days."""
    await store.update("key", put(b"data"))
    assert 0 < await store._redis.ttl(f"{PREFIX}key") <= 2 * 24 * 3600


async def test_all_of_it_is_under_one_prefix(store) -> None:
    """An operator can tell what is the sidecar's."""
    await store.update("key", put(b"data"))
    await store.acquire("key")
    names = {name.decode() for name in await store._redis.keys("*")}
    assert {name for name in names if "check" not in name} == {f"{PREFIX}key", f"{PREFIX}{{key}}:lock"}
    assert all(name.startswith(PREFIX) for name in names)


@pytest.mark.parametrize("found", ["text", "no version", "no moment", "no data"])
async def test_what_is_no_record_is_set_aside(store, found) -> None:
    """Another format's, or somebody else's: it is removed, and the record is made anew; the store stays in use."""
    if found == "text":
        await store._redis.set(f"{PREFIX}key", "something")
    else:
        whole = {"version": "1", "written": "1", "data": "x"}
        del whole[{"no version": "version", "no moment": "written", "no data": "data"}[found]]
        await store._redis.hset(f"{PREFIX}key", mapping={**whole, "other": "z"})
    assert await store.load("key") is None
    assert (await store.update("key", put(b"data"))).data == b"data"
    assert (await store.load("key")).data == b"data"


async def test_a_server_that_answers_and_takes_nothing(store, redis_port) -> None:
    """A replica: it can be read and not written, and that is known by a look."""
    await store.update("key", put(b"data"))
    events = Events()
    degrading = DegradingStore(redis_store(redis_port, CLOCK, 15), CLOCK, events)
    await degrading.open()
    await store._redis.replicaof("127.0.0.1", str(free_port()))
    await degrading.check()
    assert (events.of("store_up"), degrading.fault.readable) == ([(True,), (False,)], True)
    await store._redis.replicaof("NO", "ONE")
    await degrading.check()
    assert events.of("store_up")[-1] == (True,)
    await degrading.close()


@pytest.mark.parametrize(
    "url",
    [
        "redis://user:hunter2@127.0.0.1:{port}/0",
        "redis://:hunter2@127.0.0.1:{closed}/0",
        "redis://:hunter2@no-such-host.invalid:6379/0",
        "nonsense://:hunter2@127.0.0.1",
        "redis://:hunter2@127.0.0.1:notaport/0",
    ],
)
async def test_what_is_wrong_is_said_without_the_password(redis_port, url) -> None:
    """A wrong password, nobody there, no such host, no such scheme: the process goes on with its memory."""
    source = SecretSource(value=Secret(url.format(port=redis_port, closed=free_port())))
    store = build_store(settings.RedisStore(source), CLOCK, TokenObserver(), client_context)
    with capture_logs() as logs:
        await store.open()
        assert (await store.update("key", put(b"data"))).data == b"data"
    assert len(logs) == 1
    assert "hunter2" not in repr(logs)
    assert "token_store.url" in logs[0]["reason"]
    await store.close()


async def test_an_address_in_a_file_that_is_not_there(tmp_path) -> None:
    """Likewise."""
    store = RedisStore(settings.RedisStore(SecretSource(file=tmp_path / "url")), CLOCK, client_context)
    with pytest.raises(StoreError, match="cannot be read"):
        await store.open()
    with pytest.raises(StoreError, match="not connected"):
        await store.load("key")


async def bookkeeping() -> None:
    """What goes on after a client was answered is done."""
    working = {"AttemptSlots._update_soon.<locals>.update", "CachedToken._carry_out_steps", "TokenRepository.save"}
    await asyncio.gather(*(task for task in asyncio.all_tasks() if task.get_coro().__qualname__ in working))


@pytest.mark.usefixtures("quick_keys")
async def test_a_server_that_goes_and_comes(tmp_path) -> None:
    """Tokens are served and obtained without it; when it is back, though it forgot everything, they are shared."""
    clock = ManualClock(boottime=CLOCK.boottime())
    events = Events()
    port = free_port()
    with redis_server(tmp_path, port=port):
        one = await rig(store=DegradingStore(redis_store(port, clock), clock, events), issuer=FakeIssuer(clock))
        assert (await one.authorizer.obtain()).header == bearer("token-1")
        assert events.of("store_up") == [(True,)]
        await bookkeeping()
    clock.suspend(2900)
    assert one.authorizer.current() is not None
    await bookkeeping()
    assert one.now_attached() == bearer("token-2")
    assert events.of("store_up")[-1] == (False,)
    with redis_server(tmp_path, port=port):
        clock.suspend(60)
        await one.store.open()
        assert events.of("store_up")[-1] == (True,)
        again = await rig(store=DegradingStore(redis_store(port, clock), clock, Events()), issuer=one.issuer)
        assert (await again.authorizer.obtain()).header == bearer("token-2")
        assert len(one.issuer.requests) == 2
        await again.manager.close()
        await one.manager.close()


@pytest.mark.parametrize("field", ["version", "written"])
@pytest.mark.parametrize("planted", ["1.5", "0x10", "-inf", "nan", "9" * 40])
async def test_a_record_with_a_number_that_is_none_is_removed(store, field, planted) -> None:
    """Whoever may write to this Redis makes no process's store unusable for longer than one look."""
    await store.update("key", put(b"data"))
    await store._redis.hset(f"{PREFIX}key", field, planted)
    assert await store.load("key") is None
    await store.update("key", put(b"again"))
    assert (await store.load("key")).data == b"again"


@pytest.mark.parametrize("planted", ["x notnumber", "x inf", "x nan", f"x {10**15}"])
async def test_planted_places_are_those_of_processes_that_are_gone(store, planted) -> None:
    """They would make every turn of the others rarer, and no process could remove them."""
    await store._redis.hset(f"{PREFIX}processes", mapping={str(number): planted for number in range(50)})
    turns = await store.check()
    assert (turns.place, turns.count) == (0, 1)


async def test_a_release_from_the_future_is_no_busy_loop(store) -> None:
    """The server's clock was set back, or somebody put it there: a waiter does not look thousands of times a second."""
    await store._redis.xadd(store._lock("key")[1], {"released": 1}, id="9999999999999-1")
    began = CLOCK.boottime()
    await store.released("key", 0.0)
    assert CLOCK.boottime() - began >= 0.09
