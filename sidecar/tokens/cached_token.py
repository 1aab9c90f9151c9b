"""The shell around one token identity: it sends events to `lifecycle.decide` and carries out what comes back.

`_carry_out` carries out the commands that take no time, `_step` the steps of a fetch. Both are exhaustive.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final, assert_never

import msgspec
import structlog

from sidecar import background
from sidecar.errors import Problem
from sidecar.tokens import commands, events, problems
from sidecar.tokens.commands import Command, Step
from sidecar.tokens.context import Context
from sidecar.tokens.events import Event, Failure
from sidecar.tokens.fetch import ends_within, fetch
from sidecar.tokens.grant import GrantSource, TokenAttachment
from sidecar.tokens.identity import Identity, Labels
from sidecar.tokens.issuer_budget import AttemptSlots, IssuerBudget
from sidecar.tokens.lifecycle import decide
from sidecar.tokens.observer import Source
from sidecar.tokens.rate_limit import COOLDOWN_FIRST
from sidecar.tokens.repository import FetchLock, TokenRepository
from sidecar.tokens.timer import Timer
from sidecar.tokens.token_record import NEVER, PutQuarantine, RefuseToken, Token, new_version
from sidecar.tokens.token_state import FetchState, TokenState, refresh_at, serves_until, usable
from sidecar.tokens.waiters import Waiters

log = structlog.get_logger(__name__)

RECHECK: Final = 5.0
"""Seconds between two looks into the store after a refusal: another process, or `doctor`, may have a token."""
SAVE_PATIENCE: Final = 1.0
"""Seconds for which an answer waits until it is on the store: much for a disk or a network, little for a client."""
SPARE: Final = 5.0
"""Seconds by which a token request may be longer than the sum of its limits before it is given up."""


class CachedToken:
    """One identity in this process."""

    def __init__(
        self, context: Context, source: GrantSource, identity: Identity, labels: Labels, budget: IssuerBudget
    ) -> None:
        self.source = source
        self.identity = identity
        self.labels = labels
        self.budget = budget
        self.state = TokenState()
        self.attachment: TokenAttachment | None = None
        self.serve_until = NEVER
        """Until this moment of the boot clock the attachment may be handed out without asking."""
        self.last_failure = ""
        """What happened at the last token request, if it failed."""
        self._context = context
        self._repository = TokenRepository(context, identity)
        self._deadline = NEVER
        """The deadline of the last client that began to wait, whether it went away since or not."""
        self._waiters: Waiters[tuple[TokenAttachment, Source]] = Waiters()
        self._impatience = Timer(context.clock, self._patience_over)
        self._refresh = Timer(context.clock, partial(self._dispatch, events.Woke()))
        self._recheck = Timer(context.clock, lambda: self._spawn(self.look()))
        self._due: Step | None = None
        self._fetching: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._retired = False

    # --- what the data plane asks for ------------------------------------------------------------------------------

    def touch(self) -> TokenAttachment | None:
        """The token that may be handed out at once, if there is one."""
        self._deadline = self._now() + self._context.requests.max_wait
        return self.attachment if commands.Serve() in self._dispatch(events.Wanted()) else None

    async def obtain(self) -> TokenAttachment:
        """The token, waiting at most `max_wait`.

        Raises:
            TokenUnavailableError, CredentialRejectedError: there is none to be had.
        """
        return await self._answered(events.Wanted())

    async def refreshed(self, since: float) -> None:
        """Wait for the end of the fetch that is under way, if there is one, until `max_wait` after `since`."""
        left = since + self._context.requests.max_wait - self._now()
        if self._fetching is not None and left > 0:
            await ends_within(self._context.clock, left, self._fetching)

    async def replace(self, refused: str) -> TokenAttachment | None:
        """The token after the version that an upstream refused; None: the refusal stands."""
        if self.state.token is not None and self.state.token.version == refused:
            await self.look()
        try:
            return await self._answered(events.Rejected(refused))
        except _PassedOnError:
            return None
        except Problem as problem:
            log.info("no other token for a refused one", reason=problem.detail)
            return None

    def invalidate(self, refused: str) -> None:
        """Drop the version that an upstream refused; nobody waits for the next."""
        self._spawn(self._invalidate(refused))

    def replayed(self, *, accepted: bool) -> None:
        """How an upstream answered the request that was sent again with the next token."""
        self._dispatch(events.Replayed(accepted))

    def received_cookies(self, version: str, set_cookie: Sequence[bytes]) -> None:
        """Take over a session that the upstream changes."""
        token = self.state.token
        if token is None or token.version != version:
            return
        grant = self.source.rotate(token.grant, set_cookie)
        if grant is not None:
            self._context.observer.invalidated(audience=self.labels.audience, reason="session_rotated")
            self._dispatch(events.SessionRotated(version, Token(new_version(), grant, token.born)))

    # --- what the manager asks for ---------------------------------------------------------------------------------

    async def end_quarantine(self) -> None:
        """Ask the issuer again when a client next wants the token, on the whole store."""
        self._dispatch(events.QuarantineEnded())
        await self._repository.save()

    async def warm(self) -> None:
        """Derive the keys and read the store before the first request needs it; the issuer is not asked."""
        await self.look()
        await self.budget.look()

    async def look(self) -> None:
        """Read the store, once for all that ask for it now."""
        if self._looking is None:
            self._looking = self._spawn(self._look())
        await asyncio.shield(self._looking)

    def take_over(self, before: CachedToken, *, clients: bool) -> None:
        """The secret has changed: the token of the one before serves until this identity has its own.

        `clients`: nobody uses the one before any more, so that those who wait for it wait here.
        """
        if before.state.token is not None:
            self._dispatch(events.SecretChanged(before.state.token, before.state.used))
        if clients and before._waiters.next_deadline() is not None:
            self._deadline = max(self._deadline, before._deadline)
            before._impatience.set(None)
            self._waiters.take(before._waiters)
            self._dispatch(events.Wanted())
            self._impatience.set(self._waiters.next_deadline())

    def retire(self) -> None:
        """No route uses this identity any more: nothing is refreshed. Who still waits is answered."""
        self._retired = True
        self._refresh.set(None)
        self._recheck.set(None)
        if self._fetching is not None and self._waiters.next_deadline() is None:
            self._fetching.cancel()

    @property
    def busy(self) -> bool:
        """Whether something is still to be done here."""
        return bool(self._tasks)

    async def close(self, problem: Problem) -> None:
        """End every task; who still waits gets `problem`."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for timer in (self._impatience, self._refresh, self._recheck):
            timer.set(None)
        self._waiters.fail(lambda: type(problem)(problem.detail, retry_after=problem.retry_after))
        if self._repository.unsaved:
            await asyncio.wait({self._spawn(self._repository.save())})

    # --- events and commands ---------------------------------------------------------------------------------------

    def _dispatch(self, event: Event) -> tuple[Command, ...]:
        """Let the lifecycle decide, and carry it out. Synchronous: nothing comes between a decision and its record."""
        now = self._now()
        before = self.state.token
        state = replace(self.state, refresh=self._context.refresh, max_wait=self._context.requests.max_wait)
        self.state, decided = decide(state, event, now, self._context.rng.uniform(-1, 1))
        token = self.state.token
        if token is not before:
            self.last_failure = self.last_failure if token is None else ""
            self.attachment = (
                TokenAttachment(token.grant.header, token.grant.unsafe_header, token.version) if token else None
            )
        self.serve_until = serves_until(self.state, now)
        for command in decided:
            self._carry_out(command, _SOURCES.get(type(event), "memory"))
        if not self._retired:
            self._refresh.set(refresh_at(self.state, now))
            self._recheck.set((self._recheck.at or now + RECHECK) if self.state.record.quarantine else None)
        return decided

    def _carry_out(self, command: Command, source: Source) -> None:
        match command:
            case commands.Serve():
                assert self.attachment is not None
                self._impatience.set(None)
                self._waiters.answer((self.attachment, source))
            case commands.Refuse():
                self._impatience.set(None)
                self._waiters.fail(lambda: problems.problem(command, self.labels))
            case commands.Save(change):
                if isinstance(change, RefuseToken):
                    self._context.observer.invalidated(audience=self.labels.audience, reason="upstream_refused")
                self._repository.unsaved.append(change)
                self._spawn(self._repository.save())
            case commands.Wait() | commands.PassOn():
                pass  # the answer to one client: `_answered`
            case commands.Look():
                self._due = command
                if self._fetching is None:
                    self._fetching = self._spawn(self._carry_out_steps())
            case commands.Lock() | commands.Delay() | commands.Fetch() | commands.SaveFirst():
                pass  # the next step of the fetch that is under way: `_carry_out_steps`
            case _:
                assert_never(command)

    async def _answered(self, event: events.Wanted | events.Rejected) -> TokenAttachment:
        """The answer to one client."""
        began = self._now()
        self._deadline = began + self._context.requests.max_wait
        for command in self._dispatch(event):
            if isinstance(command, commands.Serve):
                assert self.attachment is not None
                self._context.observer.looked_up(audience=self.labels.audience, source="memory")
                return self.attachment
            if isinstance(command, commands.Refuse):
                raise problems.problem(command, self.labels)
            if isinstance(command, commands.PassOn):
                raise _PassedOnError
        first = self._waiters.next_deadline() is None
        if first:
            self._impatience.set(self._deadline)
        future = self._waiters.join(self._deadline)
        self._context.observer.waiting()
        try:
            attachment, source = await future
        finally:
            self._context.observer.waited(self._now() - began)
        self._context.observer.looked_up(audience=self.labels.audience, source=source if first else "coalesced")
        return attachment

    def _patience_over(self) -> None:
        now = self._now()
        if usable(self.state, now):
            self._dispatch(events.PatienceOver())
            return
        max_wait, interval = self._context.requests.max_wait, self.budget.interval
        self._waiters.expire(now, lambda: problems.too_late(self.labels, max_wait, interval))
        self._impatience.set(self._waiters.next_deadline())

    # --- a fetch ---------------------------------------------------------------------------------------------------

    async def _carry_out_steps(self) -> None:
        """Carry out steps until none is due. The end of each is an event, which may make the next one due."""
        lock = FetchLock(self._repository, self._context)
        try:
            while (step := self._due) is not None:
                self._due = None
                try:
                    event = await self._step(step, lock)
                except Exception as error:  # noqa: BLE001 (whatever it is, those who wait are answered)
                    background.failed("tokens", error, **self.labels.context())
                    event = events.FetchFailed(Failure.TRANSIENT) if self.state.fetch is not FetchState.NONE else None
                for command in self._dispatch(event) if event is not None else ():
                    if isinstance(command, commands.Lock | commands.Delay | commands.Fetch | commands.SaveFirst):
                        self._due = command
                if self._due is None:
                    await self._repository.save()
                    await lock.release()
        finally:
            self._fetching = None
            await lock.release()

    async def _step(self, step: Step, lock: FetchLock) -> Event | None:
        """Carry out one step; the event that its end is."""
        match step:
            case commands.Look():
                lock.begin()
                return await self._loaded()
            case commands.Lock():
                return await self._loaded(may_fetch=await lock.attempt())
            case commands.Delay(until):
                await self._context.clock.sleep(until - self._now())
                return await self._loaded(may_fetch=True)
            case commands.Fetch():
                return await self._ask(step)
            case commands.SaveFirst(outcome, retry_after):
                self._repository.unsaved.append(outcome)
                await self._patiently(self._repository.save())
                if isinstance(outcome, PutQuarantine):
                    refusal = outcome.quarantine
                    log.error(
                        "the issuer refused a credential; it is not asked again for a while",
                        **self.labels.context(),
                        oauth_error=refusal.oauth_error,
                        detail=refusal.detail,
                        seconds=round(refusal.until - self._now()),
                    )
                return events.Saved(outcome, retry_after)
            case _:
                assert_never(step)

    async def _ask(self, step: commands.Fetch) -> events.Fetched | events.FetchFailed | None:
        context, requests = self._context, self._context.requests
        # Nobody waits for a background refresh, so that nobody's patience limits it.
        least = self._now() + requests.max_wait if step.background else NEVER
        slots = AttemptSlots(
            self.budget,
            context,
            self.labels,
            background=step.background,
            deadline=lambda: max(least, self._deadline),
            superseded=self._superseded,
        )
        limit = step.attempts * 2 * (requests.max_wait + requests.timeout) + SPARE  # a login may take two requests
        event = await fetch(self.source, slots, context.clock, self.labels, attempts=step.attempts, limit=limit)
        if isinstance(event, events.FetchFailed):
            self.last_failure = event.detail or self.last_failure
            if event.failure is Failure.THROTTLED:
                return await self._throttled(event)
        return event

    async def _throttled(self, event: events.FetchFailed) -> events.FetchFailed:
        """Put the cool-down on the store before any client is told."""
        await self._patiently(self.budget.throttled(event.retry_after or None))
        pause = self.budget.known.cooldown_until - self._now()
        if pause <= 0:  # the store hangs, and what it knows of earlier cool-downs is not known here
            pause = event.retry_after or COOLDOWN_FIRST
        log.warning(
            "the issuer throttles: nobody on this store asks it for a while",
            **self.labels.context(),
            seconds=round(pause, 1),
            detail=event.detail,
        )
        return msgspec.structs.replace(event, retry_after=pause)

    async def _superseded(self) -> bool:
        """Whether another process has the token now, or none is needed any more."""
        self._dispatch(await self._loaded())
        return self.state.fetch is FetchState.NONE

    # --- the store -------------------------------------------------------------------------------------------------

    async def _loaded(self, *, may_fetch: bool = False) -> events.Loaded:
        return events.Loaded(await self._repository.load(), may_fetch)

    async def _look(self) -> None:
        try:
            self._dispatch(await self._loaded())
        finally:
            self._looking = None

    async def _patiently(self, work: Coroutine[Any, Any, None]) -> None:
        """Wait for work on the store, but not for a store that hangs; the work goes on.

        For `SAVE_PATIENCE` at most, and half of what is left to the client that has waited longest.
        """
        deadline = self._waiters.next_deadline()
        left = math.inf if deadline is None else deadline - self._now()
        await ends_within(self._context.clock, min(SAVE_PATIENCE, left / 2), self._spawn(work))

    async def _invalidate(self, refused: str) -> None:
        if self.state.token is not None and self.state.token.version == refused:
            await self.look()
        self._dispatch(events.Rejected(refused, replay=False))
        await self._repository.save()

    def _now(self) -> float:
        return self._context.clock.boottime()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return background.spawn("tokens", work, self._tasks)


_SOURCES: Final[dict[type, Source]] = {events.Loaded: "store", events.Saved: "issuer"}
"""Where a token came from, by the event that brought it."""


class _PassedOnError(Exception):
    """The upstream's refusal stands."""
