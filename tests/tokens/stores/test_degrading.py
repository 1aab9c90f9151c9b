"""A store that goes away, hangs, was never there, and comes back."""

from __future__ import annotations

import asyncio
import errno
import os
import threading

import pytest
from structlog.testing import capture_logs

from sidecar.config import settings
from sidecar.errors import GrantInterruptedError, GrantRefusedError, GrantThrottledError
from sidecar.secret import Secret
from sidecar.tokens.observer import NoObserver
from sidecar.tokens.stores import build_store, degrading, file
from sidecar.tokens.stores.base import Lease, Move, Record, Store, StoreError, Update
from sidecar.tokens.stores.degrading import DegradingStore
from sidecar.tokens.stores.file import FileStore
from sidecar.tokens.stores.memory import MemoryStore
from tests.tokens.support import Events, FakeIssuer, ManualClock, bearer, ignored, rig, settle

pytestmark = pytest.mark.usefixtures("quick_keys")


class Fragile(MemoryStore):
    """A store that can be broken, in one way or the other, and repaired."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.broken = False
        self.hangs = False
        self.opened = 0

    async def open(self, salt: bytes | None = None) -> None:
        await self._fail()
        self.opened += 1

    async def load(self, key: str) -> Record | None:
        await self._fail()
        return await super().load(key)

    async def update(self, key: str, change: Update, *, written: float | None = None) -> Record | None:
        await self._fail()
        return await super().update(key, change, written=written)

    async def acquire(self, key: str) -> Lease | None:
        await self._fail()
        return await super().acquire(key)

    async def _fail(self) -> None:
        if self.hangs:
            await asyncio.Event().wait()
        if self.broken:
            raise StoreError("No space left on device.")


async def on_fragile(clock: ManualClock | None = None):
    """A process on such a store; the store beneath, and what was heard of it."""
    clock = clock or ManualClock()
    beneath, events = Fragile(clock), Events()
    one = await rig(store=DegradingStore(beneath, clock, events), issuer=FakeIssuer(clock))
    return one, beneath, events


async def test_a_store_that_goes_away_is_replaced_by_memory() -> None:
    """`store_up` 0, an error counted, one log line; tokens are served and obtained as before."""
    one, beneath, events = await on_fragile()
    await one.ask()
    beneath.broken = True
    with capture_logs() as logs:
        await one.clock.advance(2881)
        assert one.now_attached() == bearer("token-2")
    assert events.of("store_up") == [(True,), (False,)]
    (line,) = [line for line in logs if line["log_level"] == "error"]
    assert "No space left" in line["reason"]
    assert {operation for (operation,) in events.of("store_failed")} <= {"load", "open", "lock", "reserve", "save"}


async def test_it_recovers_by_itself_and_brings_what_it_has() -> None:
    """Others on the store find the token that was obtained meanwhile, as old as it is."""
    one, beneath, events = await on_fragile()
    await one.ask()
    beneath.broken = True
    await one.clock.advance(2881)
    beneath.broken = False
    with capture_logs() as logs:
        await one.clock.advance(100)
        await one.store.load("anything")
    assert "the token store is in use again" in [line["event"] for line in logs]
    assert events.of("store_up") == [(True,), (False,), (True,)]
    again = await rig(store=DegradingStore(beneath, one.clock, NoObserver()), issuer=one.issuer)
    assert await again.ask(0.1) == bearer("token-2")
    assert len(one.issuer.requests) == 2


async def written_while_away() -> tuple[ManualClock, Fragile, DegradingStore]:
    """A store that broke after it was opened, and `token-x`, which was written to memory meanwhile."""
    clock = ManualClock()
    beneath = Fragile(clock)
    store = DegradingStore(beneath, clock, NoObserver())
    await store.open()
    beneath.broken = True
    await store.update("token-x", lambda _record, _now: b"mine")
    return clock, beneath, store


async def test_what_is_brought_keeps_its_age() -> None:
    """A token that is a quarter of an hour old when the store comes back has three quarters left."""
    clock, beneath, store = await written_while_away()
    moment = clock.boottime()
    clock.suspend(900)
    beneath.broken = False
    await store.open()
    assert beneath.peek("token-x") == Record(b"mine", moment, moment)


async def test_what_others_wrote_meanwhile_is_not_buried() -> None:
    """The younger record counts."""
    clock, beneath, store = await written_while_away()
    clock.suspend(100)
    beneath.put("token-x", b"theirs", clock.boottime())
    beneath.broken = False
    await store.open()
    assert (await store.load("token-x")).data == b"theirs"


async def test_budget_cool_down_and_quarantine_go_on_without_the_store() -> None:
    """Its last state is kept in memory."""
    one, beneath, _ = await on_fragile()
    one.issuer.answers = [GrantThrottledError("429", retry_after=60.0)]
    await one.ask(0.1)
    refused = FakeIssuer(
        one.clock,
        parameters=(("audience", "refused"),),
        otherwise=lambda _: GrantRefusedError("no", oauth_error="access_denied"),
    )
    beneath.broken = True
    error = await one.ask(0.1)
    assert error.retry_after == pytest.approx(59.9, abs=0.2)
    await one.clock.advance(60)
    authorizer = one.manager.authorizer(refused, credential="c", audience="refused")
    for _ in range(3):
        asking = asyncio.ensure_future(authorizer.obtain())
        await one.clock.advance(2)
        assert asking.exception().code == "credential_rejected"
    assert len(refused.requests) == 1
    assert await one.ask(3) == bearer("token-2")


async def test_a_store_that_was_never_there_is_no_reason_not_to_serve() -> None:
    """Started without it; when it comes, it is used."""
    clock = ManualClock()
    beneath, events = Fragile(clock), Events()
    beneath.broken = True
    one = await rig(store=DegradingStore(beneath, clock, events), issuer=FakeIssuer(clock))
    assert events.of("store_up") == [(False,)]
    assert await one.ask(0.1) == bearer("token-1")
    beneath.broken = False
    await one.clock.advance(30)
    assert events.of("store_up") == [(False,), (True,)]
    assert one.store.salt == beneath.salt
    again = await rig(store=DegradingStore(beneath, clock, events), issuer=one.issuer)
    assert await again.ask(0.1) == one.now_attached() == bearer("token-1")
    await one.clock.advance(2900)
    assert await again.ask(0.1) == one.now_attached() == bearer("token-2")


@pytest.mark.parametrize("later", [False, True], ids=["never there", "went away"])
async def test_all_that_memory_holds_is_brought(later) -> None:
    """Tokens, quarantines, back-offs, cool-downs and slots, as old as they are; the next process asks for nothing."""
    clock = ManualClock()
    beneath = Fragile(clock)
    beneath.broken = not later
    one = await rig(store=DegradingStore(beneath, clock, NoObserver()), issuer=FakeIssuer(clock))
    beneath.broken = True
    refused = FakeIssuer(
        clock,
        parameters=(("audience", "refused"),),
        otherwise=lambda _: GrantRefusedError("no", oauth_error="access_denied"),
    )
    throttled = FakeIssuer(
        clock, issuer="https://other.example/token", otherwise=lambda _: GrantThrottledError("429", retry_after=600.0)
    )
    failing = FakeIssuer(clock, issuer="https://third.example/token", otherwise=lambda _: GrantInterruptedError("503"))
    sources = [one.issuer, refused, throttled, failing]
    asking = [ignored(one.manager.authorizer(source, credential="c", audience="a").obtain()) for source in sources]
    await clock.advance(5)
    assert all(each.done() for each in asking)
    mine = [entry.slot.shared for entry in one.manager._entries.values()]
    beneath.broken = False
    await clock.advance(4)
    again = await rig(store=DegradingStore(beneath, clock, NoObserver()), issuer=one.issuer)
    others = [again.manager.authorizer(source, credential="c", audience="a") for source in sources]
    await settle()
    theirs = [entry.slot.shared for entry in again.manager._entries.values()]
    assert theirs == mine
    answers = [ignored(other.obtain()) for other in others[:3]]
    await clock.advance(0.1)
    assert (answers[0].result().header, answers[1].exception().code) == (bearer("token-1"), "credential_rejected")
    assert answers[2].exception().retry_after == pytest.approx(600 - 9.1, abs=1)
    assert [len(source.requests) for source in sources] == [1, 1, 1, 3]


async def test_what_the_store_has_lost_is_brought_too() -> None:
    """It was there before; the store comes back empty."""
    one, beneath, _ = await on_fragile()
    await one.ask()
    beneath.broken = True
    assert await one.store.load("anything") is None
    for key in beneath.names():
        beneath.take(key)
    beneath.broken = False
    await one.clock.advance(3)
    again = await rig(store=DegradingStore(beneath, one.clock, NoObserver()), issuer=one.issuer)
    assert await again.ask(0.1) == bearer("token-1")
    assert len(one.issuer.requests) == 1


async def test_a_directory_that_could_not_be_opened_at_the_start(tmp_path) -> None:
    """Something else stood in its place; then it is there, with others' salt: they find the token."""
    clock = ManualClock()
    others = FileStore(tmp_path / "mounted later", None, clock)
    await others.open()
    await others.close()
    (tmp_path / "store").write_bytes(b"")
    stores = [DegradingStore(FileStore(tmp_path / "store", None, clock), clock, NoObserver()) for _ in range(2)]
    one = await rig(store=stores[0], issuer=FakeIssuer(clock))
    assert await one.ask(0.1) == bearer("token-1")
    assert not stores[0].up
    (tmp_path / "store").unlink()
    (tmp_path / "mounted later").rename(tmp_path / "store")
    await stores[0].open()
    again = await rig(store=stores[1], issuer=one.issuer)
    assert (await again.authorizer.obtain()).header == bearer("token-1")
    assert len(one.issuer.requests) == 1


async def test_a_record_of_a_secret_that_is_not_in_force_any_more_is_not_brought() -> None:
    """Nobody could open it there."""
    clock = ManualClock()
    beneath = Fragile(clock)
    beneath.broken = True
    one = await rig(store=DegradingStore(beneath, clock, NoObserver()), issuer=FakeIssuer(clock))
    await one.ask(0.1)
    one.issuer.password = Secret("another")
    one.manager.secrets_changed()
    beneath.broken = False
    await clock.advance(30)
    assert one.store.up
    assert sorted(key.partition("-")[0] for key in beneath.names()) == ["budget", "token"]  # the new secret's


async def test_nobody_waits_for_a_store_that_is_tried_again() -> None:
    """It hangs: who needs a token meanwhile goes on with memory."""
    one, beneath, _ = await on_fragile()
    beneath.broken = True
    await one.ask()
    beneath.hangs = True
    await one.clock.advance(10)
    assert one.store._trying is not None
    assert not one.store._trying.done()
    other = one.manager.authorizer(FakeIssuer(one.clock, parameters=(("a", "b"),)), credential="c", audience="a")
    asking = ignored(other.obtain())
    await settle()
    assert asking.result().header == bearer("token-1")
    beneath.hangs = False


async def test_a_recovery_that_fails_at_something_else_is_tried_again() -> None:
    """Whatever it was; it does not end in silence."""
    clock = ManualClock()
    beneath, events = Fragile(clock), Events()
    beneath.broken = True
    store = DegradingStore(beneath, clock, events)
    await store.open()

    async def no_memory(_before: bytes, _after: bytes) -> dict[str, Move]:
        store.reseal = None
        raise MemoryError

    store.reseal = no_memory
    beneath.broken = False
    await clock.advance(2)
    assert (store.up, store.reseal) == (False, None)
    await clock.advance(4)
    assert store.up
    await store.close()


async def test_who_comes_first_when_it_is_time_has_it_tried_again() -> None:
    """A machine that was suspended has timers that are late; asking for anything is as good."""
    clock = ManualClock()
    beneath = Fragile(clock)
    beneath.broken = True
    store = DegradingStore(beneath, clock, NoObserver())
    await store.open()
    beneath.broken = False
    clock.suspend(3600)
    assert await store.load("key") is None
    await settle()
    assert store.up
    await store.close()


async def test_a_store_that_hangs_is_given_up_after_a_while(monkeypatch) -> None:
    """A disk or a network that hangs is as bad as one that is gone."""
    monkeypatch.setattr(degrading, "PATIENCE", 0.02)
    clock = ManualClock()
    beneath, events = Fragile(clock), Events()
    store = DegradingStore(beneath, clock, events)
    await store.open()
    beneath.hangs = True
    assert await store.load("key") is None
    assert events.of("store_up") == [(True,), (False,)]
    assert (await store.update("key", lambda _record, _now: b"data")).data == b"data"
    assert (await store.load("key")).data == b"data"


async def test_a_store_that_stays_away_is_tried_less_and_less() -> None:
    """2 s, 4 s, … 30 s; and said once."""
    clock = ManualClock()
    beneath, events = Fragile(clock), Events()
    beneath.broken = True
    store = DegradingStore(beneath, clock, events)
    with capture_logs() as logs:
        for _ in range(300):
            await store.load("key")
            await clock.advance(1)
    assert 10 < len(events.of("store_failed")) < 16
    await store.close()
    assert len(logs) == 1


async def test_a_lock_of_a_store_that_went_away_is_let_go() -> None:
    """Giving it back is not worth an error."""

    class Unreleasable(Fragile):
        async def acquire(self, key: str) -> Lease | None:
            return self

        async def release(self) -> None:
            raise StoreError("gone")

    clock = ManualClock()
    store = DegradingStore(Unreleasable(clock), clock, NoObserver())
    await store.open()
    lease = await store.acquire("key")
    with capture_logs() as logs:
        await lease.release()
    assert len(logs) == 1


async def test_a_directory_that_is_taken_away_and_given_back(tmp_path) -> None:
    """Somebody cleans up: it is made anew."""
    clock = ManualClock()
    events = Events()
    store = DegradingStore(FileStore(tmp_path / "store", None, clock), clock, events)
    await store.open()
    await store.update("key", lambda _record, _now: b"1")
    for path in (tmp_path / "store").iterdir():
        path.unlink()
    (tmp_path / "store").rmdir()
    assert (await store.update("key", lambda record, _now: record.data + b"2")).data == b"12"
    assert events.of("store_up") == [(True,), (False,)]
    await store.open()
    assert (await store.load("key")).data == b"12"
    assert events.of("store_up") == [(True,), (False,), (True,)]
    await store.close()
    assert (tmp_path / "store" / "key.1").exists()


async def test_an_error_of_the_system_names_the_directory_and_the_reason(tmp_path, monkeypatch) -> None:
    """A full disk, for one."""
    clock = ManualClock()
    store = FileStore(tmp_path / "store", None, clock)
    await store.open()

    def full(*_positional, **_named):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("sidecar.tokens.stores.records.os.write", full)
    with pytest.raises(StoreError, match=rf"{tmp_path}/store cannot be used: No space left on device"):
        await store.update("key", lambda _record, _now: b"data")
    monkeypatch.undo()
    # Nothing half-written stays: version 0 is an empty file, and no record.
    left = {path.name: path.stat().st_size for path in (tmp_path / "store").iterdir() if path.name != "salt"}
    assert left == {"key.0": 0}
    await store.close()


async def test_a_store_that_is_not_open_says_so(tmp_path) -> None:
    """To whoever forgot."""
    with pytest.raises(StoreError, match="not open"):
        await FileStore(tmp_path / "store", None, ManualClock()).load("key")


async def test_a_lock_that_is_won_for_nobody_is_given_back(tmp_path) -> None:
    """Who wanted it went away while a thread was winning it."""
    clock = ManualClock()
    one, other = FileStore(tmp_path / "store", None, clock), FileStore(tmp_path / "store", None, clock)
    await one.open()
    await other.open()
    for _ in range(20):
        winning = asyncio.ensure_future(one.acquire("key"))
        await asyncio.sleep(0)
        winning.cancel()
        await asyncio.gather(winning, return_exceptions=True)
        all_here = threading.Barrier(file.THREADS)  # each thread has come past what it did, its callback included
        await asyncio.gather(*(asyncio.wrap_future(one._pool.submit(all_here.wait)) for _ in range(file.THREADS)))
        lease = await other.acquire("key")
        assert lease is not None
        await lease.release()
    await one.close()
    await other.close()


@pytest.mark.parametrize(
    ("configured", "kind"),
    [(settings.MemoryStore(), MemoryStore), (None, DegradingStore)],
)
async def test_the_configured_store_is_built(tmp_path, configured, kind) -> None:
    """A directory cannot fail once it is built; memory never could."""
    store: Store = build_store(configured or settings.FileStore(tmp_path / "s"), ManualClock(), NoObserver())
    assert isinstance(store, kind)
    await store.open()
    await store.update("key", lambda _record, _now: b"data")
    assert (await store.load("key")).data == b"data"
    await store.close()
