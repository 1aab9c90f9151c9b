"""A store that goes away, hangs, was never there, and comes back."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import shutil

import pytest
from structlog.testing import capture_logs

from sidecar.clock import SystemClock
from sidecar.config import settings
from sidecar.errors import GrantInterruptedError, GrantRefusedError, GrantThrottledError, TokenUnavailableError
from sidecar.tokens.issuer_budget import NotSharedError
from sidecar.tokens.observer import TokenObserver
from sidecar.tokens.rate_limit import Turns
from sidecar.tokens.stores import build_store, degrading, file
from sidecar.tokens.stores.base import Record, Release, Store, StoreError, StoreFault, Update
from sidecar.tokens.stores.degrading import CHECK_EVERY, DegradingStore
from sidecar.tokens.stores.file import FileStore
from sidecar.tokens.stores.memory import MemoryStore
from tests.tokens.support import ErasableStore, Events, FakeIssuer, ManualClock, bearer, ignored, rig, settle

pytestmark = pytest.mark.usefixtures("quick_keys")


class Fragile(ErasableStore):
    """A store that can be broken, in one way or the other, and repaired."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.broken = False
        self.hangs = False
        self.read_only = False
        self.full = False
        """It can be looked at, and takes nothing."""
        self.asked: list[str] = []

    async def open(self) -> None:
        await self._fail("open")

    async def check(self) -> None:
        await self._fail("check", writes=True)

    async def load(self, key: str) -> Record | None:
        await self._fail("load")
        return await super().load(key)

    async def update(self, key: str, change: Update, *, written: float | None = None) -> Record | None:
        await self._fail("update", writes=True)
        return await super().update(key, change, written=written)

    async def acquire(self, key: str) -> Release | None:
        await self._fail("acquire", writes=True)
        return await super().acquire(key)

    async def _fail(self, operation: str, *, writes: bool = False) -> None:
        self.asked.append(operation)
        if self.hangs:
            await asyncio.Event().wait()
        if self.broken:
            raise StoreError("No space left on device.")
        if self.full and operation == "update":
            raise StoreError("It is full.")
        if self.read_only and writes:
            raise StoreError("Read-only file system.", readable=True)


class Counted(Fragile):
    """One that many hosts share: it counts who does."""

    def __init__(self, clock: ManualClock, answer: Turns) -> None:
        super().__init__(clock)
        self.answer = answer

    def erase(self) -> None:
        """The records alone."""
        self._records.clear()

    async def check(self) -> Turns:
        await super().check()
        return self.answer


STRANGER = Turns(70, 100, 0.0)


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
    again = await rig(store=DegradingStore(beneath, one.clock, TokenObserver()), issuer=one.issuer)
    assert await again.ask(0.1) == bearer("token-2")
    assert len(one.issuer.requests) == 2


async def written_while_away() -> tuple[ManualClock, Fragile, DegradingStore]:
    """A store that broke after it was opened, and `token-x`, which was written to memory meanwhile."""
    clock = ManualClock()
    beneath = Fragile(clock)
    store = DegradingStore(beneath, clock, TokenObserver())
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


async def test_what_cannot_be_brought_is_brought_later() -> None:
    """The store is there again and takes nothing yet: it is not in use, and nothing is lost."""
    clock, beneath, store = await written_while_away()
    beneath.broken, beneath.full = False, True
    await store.check()
    assert (store.fault, beneath.peek("token-x")) == (StoreFault("It is full.", readable=False), None)
    beneath.full = False
    await clock.advance(10)
    assert (store.fault, beneath.peek("token-x").data) == (None, b"mine")
    await store.close()


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
    one = await rig(store=DegradingStore(beneath, clock, TokenObserver()), issuer=FakeIssuer(clock))
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
    authorizers = [one.manager.authorizer(source, credential="c", audience="a") for source in sources]
    asking = [ignored(authorizer.obtain()) for authorizer in authorizers]
    await clock.advance(5)
    assert all(each.done() for each in asking)
    mine = [authorizer.token.state.record for authorizer in authorizers]
    beneath.broken = False
    await clock.advance(4)
    again = await rig(store=DegradingStore(beneath, clock, TokenObserver()), issuer=one.issuer)
    others = [again.manager.authorizer(source, credential="c", audience="a") for source in sources]
    await settle()
    assert [other.token.state.record for other in others] == mine
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
    beneath.erase()
    beneath.broken = False
    await one.clock.advance(3)
    again = await rig(store=DegradingStore(beneath, one.clock, TokenObserver()), issuer=one.issuer)
    assert await again.ask(0.1) == bearer("token-1")
    assert len(one.issuer.requests) == 1


async def test_a_directory_that_could_not_be_opened_at_the_start(tmp_path) -> None:
    """Something else stood in its place; then the others' directory is there: they find the token."""
    clock = ManualClock(wall=SystemClock().wall())
    others = FileStore(tmp_path / "mounted later", None, clock)
    await others.open()
    await others.close()
    (tmp_path / "store").write_bytes(b"")
    stores = [DegradingStore(FileStore(tmp_path / "store", None, clock), clock, TokenObserver()) for _ in range(2)]
    one = await rig(store=stores[0], issuer=FakeIssuer(clock))
    assert await one.ask(0.1) == bearer("token-1")
    assert stores[0].fault is not None
    (tmp_path / "store").unlink()
    (tmp_path / "mounted later").rename(tmp_path / "store")
    await stores[0].open()
    again = await rig(store=stores[1], issuer=one.issuer)
    assert (await again.authorizer.obtain()).header == bearer("token-1")
    assert len(one.issuer.requests) == 1


async def test_nobody_waits_for_a_store_that_is_tried_again() -> None:
    """It hangs: who needs a token meanwhile goes on with memory."""
    one, beneath, _ = await on_fragile()
    beneath.broken = True
    await one.ask()
    beneath.hangs = True
    await one.clock.advance(10)
    assert beneath.asked[-1] in {"open", "check"}
    other = one.manager.authorizer(FakeIssuer(one.clock, parameters=(("a", "b"),)), credential="c", audience="a")
    asking = ignored(other.obtain())
    await settle()
    assert asking.result().header == bearer("token-1")
    beneath.hangs = False


async def test_a_store_that_raises_what_it_must_not_is_one_that_fails() -> None:
    """Whatever it was: it is counted, said, and tried again; no request fails for it."""

    class Faulty(Fragile):
        async def _fail(self, operation: str, *, writes: bool = False) -> None:
            if self.broken:
                raise MemoryError

    clock = ManualClock()
    beneath, events = Faulty(clock), Events()
    beneath.broken = True
    store = DegradingStore(beneath, clock, events)
    await store.open()
    assert (await store.update("key", lambda _record, _now: b"data")).data == b"data"
    assert store.fault == StoreFault("Unexpectedly: MemoryError.", readable=False)
    beneath.broken = False
    await clock.advance(2)
    assert store.fault is None
    assert beneath.peek("key").data == b"data"
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
        await store.open()
        for _ in range(300):
            await store.load("key")
            await clock.advance(1)
    assert 10 < len(events.of("store_failed")) < 16
    await store.close()
    assert len(logs) == 1


async def test_a_lock_of_a_store_that_went_away_is_let_go() -> None:
    """Giving it back is not worth an error."""

    class Unreleasable(Fragile):
        async def acquire(self, key: str) -> Release | None:
            return self.release

        async def release(self) -> None:
            raise StoreError("gone")

    clock = ManualClock()
    store = DegradingStore(Unreleasable(clock), clock, TokenObserver())
    await store.open()
    release = await store.acquire("key")
    with capture_logs() as logs:
        await release()
    assert len(logs) == 1
    await store.close()


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


@pytest.mark.parametrize(("code", "readable"), [(errno.ENOSPC, True), (errno.EROFS, True), (errno.EIO, False)])
async def test_an_error_of_the_system_names_the_directory_and_the_reason(tmp_path, monkeypatch, code, readable) -> None:
    """A full disk, for one; whether what is there can still be read follows from it."""
    clock = ManualClock()
    store = FileStore(tmp_path / "store", None, clock)
    await store.open()

    def full(*_positional, **_named):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("sidecar.tokens.stores.versioned_files.os.write", full)
    with pytest.raises(
        StoreError, match=rf"{re.escape(str(tmp_path))}/store cannot be used: {os.strerror(code)}"
    ) as raised:
        await store.update("key", lambda _record, _now: b"data")
    assert raised.value.readable is readable
    monkeypatch.undo()
    # Nothing half-written stays: version 0 is an empty file, and no record.
    left = {path.name: path.stat().st_size for path in (tmp_path / "store").iterdir()}
    assert left == {"key.0": 0}
    await store.close()


async def test_a_store_that_is_not_open_says_so(tmp_path) -> None:
    """To whoever forgot."""
    with pytest.raises(StoreError, match="not open"):
        await FileStore(tmp_path / "store", None, ManualClock()).load("key")


async def test_a_lock_that_is_won_for_nobody_is_given_back(tmp_path) -> None:
    """Who wanted it went away while a thread was winning it."""
    clock = ManualClock(wall=SystemClock().wall())
    one, other = FileStore(tmp_path / "store", None, clock), FileStore(tmp_path / "store", None, clock)
    await one.open()
    await other.open()
    for _ in range(20):
        winning = asyncio.ensure_future(one.acquire("key"))
        await asyncio.sleep(0)
        winning.cancel()
        await asyncio.gather(winning, return_exceptions=True)
        await asyncio.gather(*(one.check() for _ in range(file.THREADS)))  # they come after, in its place
        release = await other.acquire("key")
        assert release is not None
        await release()
    await one.close()
    await other.close()


@pytest.mark.parametrize(
    ("configured", "kind"),
    [(settings.MemoryStore(), MemoryStore), (None, DegradingStore)],
)
async def test_the_configured_store_is_built(tmp_path, configured, kind) -> None:
    """A directory cannot fail once it is built; memory never could."""
    store: Store = build_store(configured or settings.FileStore(tmp_path / "s"), ManualClock(), TokenObserver())
    assert isinstance(store, kind)
    await store.open()
    await store.update("key", lambda _record, _now: b"data")
    assert (await store.load("key")).data == b"data"
    await store.close()


# --- other hosts' processes --------------------------------------------------------------------------------------


async def test_without_its_store_a_process_keeps_to_its_turns_until_all_are_back() -> None:
    """From the failure's first moment; and the others notice up to half a minute later that the store is back."""
    clock = ManualClock()
    beneath = Counted(clock, Turns(3, 20, 0.0))
    store = DegradingStore(beneath, clock, Events(), STRANGER)
    assert store.turns is STRANGER
    await store.open()
    assert store.turns is None
    beneath.broken = True
    await store.load("key")
    assert store.turns == Turns(3, 20, 0.0)
    await clock.advance(100)
    beneath.broken = False
    await clock.advance(31)
    assert (store.fault, store.turns) == (None, Turns(3, 20, 0.0))
    await clock.advance(45)
    assert store.turns is None
    await store.close()


async def test_a_process_that_has_never_reached_the_store_takes_a_strangers_turns() -> None:
    """It cannot know how many there are."""
    clock = ManualClock()
    beneath = Counted(clock, Turns(3, 20, 0.0))
    beneath.broken = True
    store = DegradingStore(beneath, clock, Events(), STRANGER)
    await store.open()
    await clock.advance(100)
    assert store.turns is STRANGER
    one = await rig(store=store, issuer=FakeIssuer(clock))
    answer = await one.ask(0.1)
    assert isinstance(answer, TokenUnavailableError)
    assert "in its turn alone" in answer.detail
    await clock.advance(answer.retry_after)
    assert await one.ask(3.0) == bearer("token-1")
    await store.close()


async def test_a_reserved_slot_is_not_used_when_the_store_has_gone_meanwhile() -> None:
    """It is in the turn of another process, which does not know of it."""
    clock = ManualClock()
    beneath = Counted(clock, Turns(3, 20, 0.0))
    one = await rig(store=DegradingStore(beneath, clock, Events(), STRANGER), issuer=FakeIssuer(clock))
    assert await one.ask() == bearer("token-1")
    other = FakeIssuer(clock, parameters=(("audience", "other"),))
    asking = ignored(one.manager.authorizer(other, credential="c", audience="other").obtain())
    await clock.advance(1)
    beneath.broken = True
    await clock.advance(1)
    assert not other.requests
    await clock.advance(30)
    assert (asking.done(), len(other.requests)) == (True, 1)
    assert other.requests[0] % 25 == pytest.approx(3 * 1.25, abs=0.2)


async def test_what_a_store_forgot_while_it_was_in_use_is_brought_back() -> None:
    """Somebody flushed it: the next process finds the token."""
    clock = ManualClock()
    beneath, events = Counted(clock, Turns(0, 2, 0.0)), Events()
    one = await rig(store=DegradingStore(beneath, clock, events, STRANGER), issuer=FakeIssuer(clock))
    assert await one.ask() == bearer("token-1")
    beneath.erase()
    beneath.answer = Turns(0, 2, 0.0, lost=True)
    await clock.advance(CHECK_EVERY)
    assert events.of("store_up") == [(True,)]
    again = await rig(store=beneath, issuer=one.issuer)
    assert await again.ask(0.1) == bearer("token-1")


# --- looked after while nobody asks ------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["broken", "hangs", "read_only"])
async def test_a_store_that_fails_while_nobody_uses_it_is_noticed_within_seconds(how, monkeypatch) -> None:
    """Tokens are fresh for an hour, and no operation is due: `store_up` must not say 1 until then."""
    monkeypatch.setattr(degrading, "PATIENCE", 0.01)
    one, beneath, events = await on_fragile()
    await one.ask()
    await one.clock.advance(60)
    setattr(beneath, how, True)
    await one.clock.advance(CHECK_EVERY)
    async with asyncio.timeout(5):
        while events.of("store_up")[-1] == (True,):  # noqa: ASYNC110 (its patience is the system clock's)
            await asyncio.sleep(0.001)
    setattr(beneath, how, False)
    await one.clock.advance(2)
    assert events.of("store_up") == [(True,), (False,), (True,)]


async def test_looking_after_a_store_costs_one_look_in_five_seconds_and_asks_no_issuer() -> None:
    """A minute without a request."""
    one, beneath, _ = await on_fragile()
    await one.ask()
    beneath.asked.clear()
    await one.clock.advance(60)
    assert beneath.asked == ["check"] * 12
    assert len(one.issuer.requests) == 1


async def test_a_directory_that_vanishes_while_nobody_uses_it_is_made_anew(tmp_path) -> None:
    """With all that this process knows, within seconds; the next process finds the token there."""
    clock = ManualClock()
    events = Events()
    one = await rig(
        store=DegradingStore(FileStore(tmp_path / "store", None, clock), clock, events), issuer=FakeIssuer(clock)
    )
    assert (await one.authorizer.obtain()).header == bearer("token-1")
    shutil.rmtree(tmp_path / "store")
    await one.store.check()
    assert events.of("store_up") == [(True,), (False,)]
    await one.store.check()
    assert events.of("store_up")[-1] == (True,)
    assert any(path.name.startswith("token-") for path in (tmp_path / "store").iterdir())


# --- readable and not writable -----------------------------------------------------------------------------------


async def test_a_store_that_cannot_be_written_to_is_read() -> None:
    """What others put there is used, at any time; what this process changes stays with it."""
    clock = ManualClock()
    beneath = Fragile(clock)
    beneath.read_only = True
    events = Events()
    store = DegradingStore(beneath, clock, events)
    beneath.put("key", b"theirs", clock.boottime())
    await store.open()
    assert store.fault == StoreFault("Read-only file system.", readable=True)
    assert events.of("store_up") == [(False,)]
    assert (await store.load("key")).data == b"theirs"
    clock.suspend(10)
    assert (await store.update("key", lambda record, _now: record.data + b" and mine")).data == b"theirs and mine"
    assert (await store.load("key")).data == b"theirs and mine"
    clock.suspend(10)
    beneath.put("key", b"theirs again", clock.boottime())
    assert (await store.load("key")).data == b"theirs again"
    beneath.read_only = False
    await store.check()
    assert store.fault is None
    await store.close()


async def test_a_running_sidecar_finds_others_tokens_on_a_store_that_it_cannot_write_to() -> None:
    """And keeps to the slots that they took."""
    clock = ManualClock()
    beneath = Fragile(clock)
    writer = await rig(store=beneath, issuer=FakeIssuer(clock))
    assert await writer.ask() == bearer("token-1")
    beneath.read_only = True
    reader = await rig(store=DegradingStore(beneath, clock, Events()), issuer=writer.issuer)
    assert await reader.ask(0.1) == bearer("token-1")
    other = FakeIssuer(clock, parameters=(("audience", "other"),))
    asking = ignored(reader.manager.authorizer(other, credential="c", audience="other").obtain())
    await clock.advance(1)
    assert not asking.done()
    await clock.advance(0.3)
    assert asking.done()


@pytest.mark.parametrize("how", ["read_only", "broken"])
async def test_a_command_beside_it_uses_what_is_there_and_asks_no_issuer(how) -> None:
    """Its slots would be its own: a script that calls it again and again would get the address throttled."""
    clock = ManualClock()
    beneath = Fragile(clock)
    writer = await rig(store=beneath, issuer=FakeIssuer(clock))
    await writer.ask()
    setattr(beneath, how, True)
    command = await rig(
        store=DegradingStore(beneath, clock, Events()),
        issuer=FakeIssuer(clock, password=writer.issuer.password),
        shared_only=True,
    )
    answer = await command.ask(0.1)
    if how == "read_only":
        assert answer == bearer("token-1")
    other = FakeIssuer(clock, parameters=(("audience", "other"),))
    asking = ignored(command.manager.authorizer(other, credential="c", audience="other").obtain())
    await clock.advance(0.1)
    assert isinstance(asking.exception(), TokenUnavailableError)
    assert "the token store cannot be written to" in asking.exception().detail
    with pytest.raises(NotSharedError, match=r"Read-only|No space left"):
        await command.manager.fetch_now(other)
    assert (other.requests, command.issuer.requests) == ([], [])
