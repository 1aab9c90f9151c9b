"""The shell around one token identity: it sends events to `lifecycle.decide` and carries out what comes back."""

from __future__ import annotations

import asyncio
import math
import random
from collections import deque
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import structlog

from sidecar import background
from sidecar.clock import Clock
from sidecar.config.settings import TokenRequests
from sidecar.errors import Problem
from sidecar.tokens import words
from sidecar.tokens.alarm import Alarm
from sidecar.tokens.events import (
    Command,
    Event,
    Failure,
    Fetched,
    FetchFailed,
    Loaded,
    Look,
    PassOn,
    PatienceOver,
    QuarantineEnded,
    Refuse,
    Rejected,
    Replayed,
    Rotated,
    Save,
    Saved,
    SaveFirst,
    SecretChanged,
    Serve,
    Wake,
    Wanted,
    Woke,
)
from sidecar.tokens.fetching import Flight
from sidecar.tokens.gate import IssuerBudget
from sidecar.tokens.grant import GrantSource
from sidecar.tokens.identity import Identity
from sidecar.tokens.ledger import Ledger
from sidecar.tokens.lifecycle import decide
from sidecar.tokens.observer import Source, TokenObserver
from sidecar.tokens.shared import NEVER, Change, RefuseToken, Token, new_version
from sidecar.tokens.slot import Flight as FlightState
from sidecar.tokens.slot import Rules, Slot, quiet_until, usable
from sidecar.tokens.waiters import Waiters

log = structlog.get_logger(__name__)

RECHECK: Final = 5.0
"""Seconds between two looks into the store, after a refusal: another process, or `doctor`, may have a token."""
SAVE_PATIENCE: Final = 1.0
"""Seconds for which an answer waits until it is on the store: much for a disk or a network, little for a client."""


@dataclass(frozen=True, slots=True)
class Held:
    """One version of a credential, ready to send: `proxy.authorizer.Attachment`."""

    header: bytes = field(repr=False)
    unsafe_header: bytes = field(repr=False)
    version: str


@dataclass(slots=True)
class Surroundings:
    """What all entries of one manager share."""

    clock: Clock
    observer: TokenObserver
    rng: random.Random
    requests: TokenRequests


class Entry:
    """One identity in this process."""

    def __init__(
        self,
        surroundings: Surroundings,
        source: GrantSource,
        identity: Identity,
        ledger: Ledger,
        budget: IssuerBudget,
        *,
        issuer: str,
        credential: str,
        audience: str,
        rules: Rules,
    ) -> None:
        self.source = source
        self.identity = identity
        self.ledger = ledger
        self.budget = budget
        self.issuer = issuer
        self.credential = credential
        self.audience = audience
        self.around = surroundings
        self.slot = Slot(rules=rules)
        self.attachment: Held | None = None
        self.serve_until = NEVER
        """Until this moment of the boot clock the attachment may be handed out without asking."""
        self.deadline = NEVER
        """Of the last client that began to wait, whether it went away since or not."""
        self.last_failure = ""
        self._waiters: Waiters[tuple[Held, Source]] = Waiters()
        self._impatience = Alarm(surroundings.clock, self._patience_over)
        self._wake = Alarm(surroundings.clock, self._woke)
        self._recheck = Alarm(surroundings.clock, self.warm)
        self._flight = Flight(self)
        self._flying: asyncio.Task[None] | None = None
        self._again = False
        self._retired = False
        self._peeking: asyncio.Task[None] | None = None
        self._changes: deque[Change] = deque()
        self._saving = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    # --- what the data plane asks for ------------------------------------------------------------------------------

    def touch(self) -> Held | None:
        """What `current` does where the fast answer is not enough."""
        self.deadline = self._now() + self.around.requests.max_wait
        return self.attachment if Serve() in self.dispatch(Wanted()) else None

    async def obtain(self) -> Held:
        """A credential, waiting at most `max_wait`.

        Raises:
            TokenUnavailableError, CredentialRejectedError: there is none to be had.
        """
        return await self._answered(Wanted())

    async def replace(self, refused: str) -> Held | None:
        """The credential after the version that an upstream refused; None: the refusal stands."""
        if self.slot.token is not None and self.slot.token.version == refused:
            await self.peek()
        try:
            return await self._answered(Rejected(refused))
        except _PassedOnError:
            return None
        except Problem as problem:
            log.info("no other token for a refused one", reason=problem.detail)
            return None

    def invalidate(self, refused: str) -> None:
        """The same, without anybody waiting for it."""
        self._spawn(self._invalidate(refused))

    def replayed(self, *, accepted: bool) -> None:
        """How it went with the credential after."""
        self.dispatch(Replayed(accepted))

    def received_cookies(self, version: str, set_cookie: Sequence[bytes]) -> None:
        """A session that the upstream changes is taken over."""
        token = self.slot.token
        if token is None or token.version != version:
            return
        grant = self.source.rotate(token.grant, set_cookie)
        if grant is not None:
            self.around.observer.invalidated(audience=self.audience, reason="session_rotated")
            self.dispatch(Rotated(version, Token(new_version(), grant, token.born)))

    async def end_quarantine(self) -> None:
        """Ask the issuer again when next wanted, on the whole store."""
        self.dispatch(QuarantineEnded())
        await self.flush()

    def follow(self, rules: Rules) -> None:
        """New settings: for tokens that come from now on."""
        self.slot = replace(self.slot, rules=rules)

    def take_over(self, before: Entry) -> None:
        """The secret has changed: the token of the one before serves until this identity has its own."""
        if before.slot.token is not None:
            self.dispatch(SecretChanged(before.slot.token, before.slot.used))

    def take_waiters(self, before: Entry) -> None:
        """Those who wait for an identity that nobody uses any more wait for this one."""
        if before.waiting:
            self.deadline = max(self.deadline, before.deadline)
            before._impatience.clear()
            self._waiters.take(before._waiters)
            self.dispatch(Wanted())
            self._be_impatient()

    def retire(self) -> None:
        """No route uses this identity any more: nothing is refreshed. Who still waits is answered."""
        self._retired = True
        self._wake.clear()
        self._recheck.clear()
        if self._flying is not None and not self.waiting:
            self._flying.cancel()

    async def close(self, problem: Problem) -> None:
        """No more flights; who still waits gets `problem`."""
        tasks = [task for task in (self._flying, self._peeking, *self._tasks) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for alarm in (self._impatience, self._wake, self._recheck):
            alarm.clear()
        self._waiters.fail(lambda: type(problem)(problem.detail, retry_after=problem.retry_after))
        if self._changes:
            await self._guarded(self.flush())

    @property
    def busy(self) -> bool:
        """Whether something is still to be done here."""
        return self._flying is not None or bool(self._tasks)

    @property
    def waiting(self) -> int:
        """Clients that wait now."""
        return len(self._waiters)

    # --- events and commands ---------------------------------------------------------------------------------------

    def dispatch(self, event: Event) -> tuple[Command, ...]:
        """Let the lifecycle decide, and carry it out. Synchronous: nothing comes between a decision and its record."""
        now = self._now()
        before = self.slot.token
        self.slot, commands = decide(self.slot, event, now, self.around.rng.uniform(-1, 1))
        token = self.slot.token
        if token is not before:
            self.last_failure = self.last_failure if token is None else ""
            self.attachment = (
                Held(token.grant.header, token.grant.unsafe_header, token.version) if token is not None else None
            )
        self.serve_until = quiet_until(self.slot, now)
        for command in commands:
            self._carry_out(command, _SOURCES.get(type(event), "memory"))
        if self.slot.shared.quarantine is None:
            self._recheck.clear()
        elif not self._retired and not self._recheck.is_set:
            self._recheck.set(now + RECHECK)
        return commands

    def _woke(self) -> None:
        self.dispatch(Woke())

    def _carry_out(self, command: Command, source: Source) -> None:
        match command:
            case Serve():
                assert self.attachment is not None
                self._impatience.clear()
                self._waiters.answer((self.attachment, source))
            case Refuse():
                self._impatience.clear()
                self._waiters.fail(lambda: self._problem(command))
            case Look():
                self._look()
            case Save(change):
                if isinstance(change, RefuseToken):
                    self.around.observer.invalidated(audience=self.audience, reason="upstream_refused")
                self._changes.append(change)
                self._spawn(self.flush())
            case Wake(at):
                if not self._retired:
                    self._wake.set(at)
            case _:
                pass  # the flight's, or the caller's

    def _look(self) -> None:
        if self._flying is not None:
            self._again = True
        else:
            self._flying = asyncio.get_running_loop().create_task(self._fly())

    async def _fly(self) -> None:
        try:
            while True:
                self._again = False
                try:
                    await self._flight.run()
                except Exception as error:  # noqa: BLE001 (whatever it is, those who wait are answered)
                    await self.unexpected(error)
                if not self._again:
                    return
        finally:
            self._flying = None

    async def unexpected(self, error: Exception) -> None:
        """A fault that nobody foresaw ends the flight as any other fault does."""
        background.failed("tokens", error, **self.names)
        if self.slot.flight is not FlightState.NONE:
            await self.conclude(FetchFailed(Failure.TRANSIENT))

    async def conclude(self, event: Fetched | FetchFailed) -> None:
        """An attempt's end: what others rely on goes to the store first, then who waits is answered."""
        commands = self.dispatch(event)
        while first := next((command for command in commands if isinstance(command, SaveFirst)), None):
            self._changes.append(first.outcome)
            await self.patiently(self.flush())
            commands = self.dispatch(Saved(first.outcome, first.retry_after))

    async def patiently(self, work: Coroutine[Any, Any, None]) -> None:
        """Wait for work on the store, but not for a store that hangs; the work goes on.

        For `SAVE_PATIENCE` at most, and half of what is left to the client that has waited longest.
        """
        deadline = self._waiters.next_deadline()
        left = math.inf if deadline is None else deadline - self._now()
        patience = asyncio.ensure_future(self.around.clock.sleep(min(SAVE_PATIENCE, left / 2)))
        try:
            await asyncio.wait({self._spawn(work), patience}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            patience.cancel()

    async def _answered(self, event: Wanted | Rejected) -> Held:
        began = self._now()
        self.deadline = began + self.around.requests.max_wait
        for command in self.dispatch(event):
            match command:
                case Serve():
                    assert self.attachment is not None
                    self.around.observer.looked_up(audience=self.audience, source="memory")
                    return self.attachment
                case Refuse():
                    raise self._problem(command)
                case PassOn():
                    raise _PassedOnError
                case _:
                    pass
        return await self._wait(began)

    async def _wait(self, began: float) -> Held:
        first = len(self._waiters) == 0
        if first:
            self._impatience.set(self.deadline)
        future = self._waiters.join(self.deadline)
        self.around.observer.waiting()
        try:
            held, source = await future
        finally:
            self.around.observer.waited(self._now() - began)
        self.around.observer.looked_up(audience=self.audience, source=source if first else "coalesced")
        return held

    def _patience_over(self) -> None:
        now = self._now()
        if usable(self.slot, now):
            self.dispatch(PatienceOver())
            return
        self._waiters.expire(now, self._too_late)
        self._be_impatient()

    def _be_impatient(self) -> None:
        deadline = self._waiters.next_deadline()
        if deadline is not None:
            self._impatience.set(deadline)

    # --- the store -------------------------------------------------------------------------------------------------

    async def flush(self) -> None:
        """Put on the store what was decided."""
        async with self._saving:
            if self._changes:
                changes = list(self._changes)
                await self.ledger.change(changes)
                for _ in changes:
                    self._changes.popleft()

    async def peek(self) -> None:
        """Look into the store, once for all that ask for it now."""
        if self._peeking is None:
            self._peeking = asyncio.get_running_loop().create_task(self._peek())
            self._peeking.add_done_callback(self._peeked)
        await asyncio.shield(self._peeking)

    def warm(self) -> None:
        """Derive the keys and look into the store before the first request needs it; the issuer is not asked."""
        self._spawn(self.peek())

    async def _peek(self) -> None:
        await self._flight.look()

    def _peeked(self, _task: asyncio.Task[None]) -> None:
        self._peeking = None

    async def _invalidate(self, refused: str) -> None:
        if self.slot.token is not None and self.slot.token.version == refused:
            await self.peek()
        self.dispatch(Rejected(refused, replay=False))
        await self.flush()

    # --- words -----------------------------------------------------------------------------------------------------

    @property
    def names(self) -> dict[str, str]:
        """For a log line."""
        return {"credential": self.credential, "audience": self.audience, "issuer": self.issuer}

    def _problem(self, refuse: Refuse) -> Problem:
        return words.problem(refuse, self.credential, self.audience)

    def _too_late(self) -> Problem:
        retry_after = max(words.LEAST_RETRY_AFTER, self.budget.interval)
        return words.too_late(self.credential, self.audience, self.around.requests.max_wait, retry_after)

    def _now(self) -> float:
        return self.around.clock.boottime()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(self._guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001 (nobody awaits it)
            background.failed("tokens", error, **self.names)


_SOURCES: Final[dict[type, Source]] = {Loaded: "store", Saved: "issuer"}
"""Where a token came from, by the event that brought it."""


class _PassedOnError(Exception):
    """The upstream's refusal stands."""
