"""This design in virtual time: one sidecar process's tokens, as `cached_token.py` and `issuer_budget.py` keep them.

The decisions are the product's own code; only what waits is written again, with sleeps in virtual time.
"""

from __future__ import annotations

from collections import deque

from sidecar.tokens import rate_limit
from sidecar.tokens.commands import Delay, Fetch, Lock, Look, Refuse, Save, SaveFirst, Serve, Step, Wait
from sidecar.tokens.events import (
    Event,
    Failure,
    Fetched,
    FetchFailed,
    Loaded,
    PatienceOver,
    Rejected,
    Replayed,
    Saved,
    Wanted,
    Woke,
)
from sidecar.tokens.grant import Grant
from sidecar.tokens.issuer_budget import LATE_SHARE, REPEAT_AFTER
from sidecar.tokens.lifecycle import decide
from sidecar.tokens.rate_limit import RateLimit, Refused, Reserved
from sidecar.tokens.repository import FIRST_LOCK, POLL_FIRST, POLL_MOST, SECOND_LOCK
from sidecar.tokens.token_record import NEVER, Change, Token
from sidecar.tokens.token_state import FetchState, TokenState, refresh_at, serves_until, usable
from tests.simulation.engine import Process, Work
from tests.simulation.host import Counters, Host
from tests.simulation.issuer import LIFETIME, TIMEOUT

MAX_WAIT = 10.0
RECOVERY = 900.0 + MAX_WAIT
"""Seconds after the last fault within which service is promised: the longest quarantine, and a client's patience."""
HEADER = b"Authorization: Bearer x\r\n"


class NoSlotError(Exception):
    """As `issuer_budget.NoSlotError`."""

    def __init__(self, refused: Refused) -> None:
        super().__init__()
        self.refused = refused
        self.failure = Failure.COOLING if refused.cooling else Failure.NO_TURN if refused.turn else Failure.NO_SLOT


class SupersededError(Exception):
    """As `issuer_budget.SupersededError`."""


class SidecarProcess(Process):
    """One process, with an entry for each identity."""

    def __init__(self, host: Host, identities: int, counters: Counters) -> None:
        super().__init__(host.engine)
        self.host = host
        self.counters = counters
        self.budget = RateLimit()
        self._identities = identities
        self.entries: list[Entry] = []
        self.start()

    def start(self) -> None:
        """Nothing is known but what is on the store."""
        self.budget = self.host.update_budget(RateLimit(), lambda limit, _now: limit)
        self.entries = [Entry(self, identity) for identity in range(self._identities)]

    def kill(self) -> None:
        """The kernel gives its locks back; its clients' requests end with it."""
        for key in [key for key, holder in self.host.locks.items() if holder in self.entries]:
            del self.host.locks[key]
        super().kill()


class Entry:
    """One identity."""

    def __init__(self, process: SidecarProcess, identity: int) -> None:
        self.process = process
        self.host = process.host
        self.identity = identity
        self.state = TokenState()
        self.serve_until = NEVER
        self.deadline = NEVER
        self.waiting: deque[float] = deque()
        """When each client that waits began to."""
        self._changes: list[Change] = []
        self._due: Step | None = None
        self._fetching = False
        self._lock: tuple[int, int] | None = None
        self._refresh_at: float | None = None

    # --- clients -----------------------------------------------------------------------------------------------------

    def want(self) -> str:
        """A client needs a token: `served`, `waits` or `refused`."""
        now = self.host.now()
        if now < self.serve_until:
            return "served"
        self.process.counters.asked += 1
        self.deadline = now + MAX_WAIT
        commands = self.dispatch(Wanted())
        if Serve() in commands:
            self._check_served()
            return "served"
        if Wait() in commands:
            self.waiting.append(now)
            if len(self.waiting) == 1:
                self._be_impatient_at(now + MAX_WAIT)
            return "waits"
        self._failed(stopped=False)
        return "refused"

    def quiet(self) -> float:
        """Seconds for which clients are served without a decision."""
        return max(0.0, self.serve_until - self.host.now())

    def reject(self, *, bad_path: bool) -> None:
        """An upstream refuses the token; and again, if it always does."""
        self.dispatch(Loaded(self._load()))
        if self.state.token is None:
            return
        self.deadline = self.host.now() + MAX_WAIT
        if Wait() in self.dispatch(Rejected(self.state.token.version)):
            self.waiting.append(self.host.now())
            self._be_impatient_at(self.deadline)
        if not bad_path:
            self.dispatch(Replayed(accepted=True))

    def _answered(self) -> None:
        if self.waiting:
            self._check_served()
            self.process.counters.waited += len(self.waiting)
        while self.waiting:
            self._end_wait()

    def _end_wait(self) -> bool:
        """Whether the process was stopped meanwhile."""
        began = self.waiting.popleft()
        stopped = self.process.stopped_until > self.host.true(began)
        self.process.counters.end_wait(self.host.now() - began, stopped=stopped)
        return stopped

    def _failed(self, *, stopped: bool) -> None:
        counters, issuer, now = self.process.counters, self.host.issuer, self.host.engine.now
        counters.failed += 1
        deleted = issuer.weather.deleted.get(self.identity)
        excused = [*issuer.weather.outages, *issuer.weather.storms, *([deleted] if deleted else [])]
        # A quarantine, a cool-down and a back-off outlast what caused them; an answer was lost just now.
        storm = any(window.begin <= now < window.end + RECOVERY for window in excused)
        lost = now < issuer.last_lost + MAX_WAIT + TIMEOUT
        # Where the wall clock was set back as well, a quarantine may begin again with the boot.
        restarted = now < self.host.restarted_at + RECOVERY
        if not (storm or lost or stopped or restarted):
            counters.failed_in_good_weather += 1

    def _check_served(self) -> None:
        token, counters = self.state.token, self.process.counters
        assert token is not None
        if self.host.now() >= token.end:
            counters.expired_served += 1
        if token.version in self.state.record.refused_versions:
            counters.refused_served += 1

    def _be_impatient_at(self, moment: float) -> None:
        self.process.call_at(self.host.true(moment), self._patience_over)

    def _patience_over(self) -> None:
        now = self.host.now()
        if not self.waiting:
            return
        if usable(self.state, now) and self.waiting[0] + MAX_WAIT <= now:
            self.dispatch(PatienceOver())
            return
        while self.waiting and self.waiting[0] + MAX_WAIT <= now:
            self._failed(stopped=self._end_wait())
        if self.waiting:
            self._be_impatient_at(self.waiting[0] + MAX_WAIT)

    # --- `cached_token.CachedToken` ----------------------------------------------------------------------------------

    def dispatch(self, event: Event) -> tuple[object, ...]:
        """Let the lifecycle decide, and carry it out."""
        now = self.host.now()
        self.state, commands = decide(self.state, event, now, self.host.rng.uniform(-1, 1))
        self.serve_until = serves_until(self.state, now)
        self._refresh_later(refresh_at(self.state, now))
        for command in commands:
            match command:
                case Serve():
                    self._answered()
                case Refuse():
                    while self.waiting:
                        self._failed(stopped=self._end_wait())
                case Save(change):
                    self._changes.append(change)
                    self.process.call_at(self.host.engine.now + 0.002, self._flush)
                case Look():
                    self._due = command
                    if not self._fetching:
                        self._fetching = True
                        self.process.run(self._carry_out_steps())
                case _:
                    pass  # the answer to one client, or the next step of the fetch that is under way
        return commands

    def _refresh_later(self, at: float | None) -> None:
        if at == self._refresh_at:
            return
        self._refresh_at = at
        if at is not None:
            self.process.call_at(max(self.host.engine.now, self.host.true(at)), lambda: self._woke(at))

    def _woke(self, at: float) -> None:
        if at == self._refresh_at:
            self._refresh_at = None
            self.dispatch(Woke())

    def _flush(self) -> None:
        changes, self._changes = self._changes, []
        for change in changes:
            self.host.save(self.identity, change)

    def _load(self) -> object:
        self._flush()
        return self.host.load(self.identity)

    def _carry_out_steps(self) -> Work:
        yield 0.001
        while (step := self._due) is not None:
            self._due = None
            event = yield from self._step(step)
            for command in self.dispatch(event) if event is not None else ():
                if isinstance(command, Lock | Delay | Fetch | SaveFirst):
                    self._due = command
            if self._due is None:
                yield 0.002
                self._flush()
                if self._lock is not None and self.host.locks.get(self._lock) is self:
                    del self.host.locks[self._lock]
                self._lock = None
        self._fetching = False

    def _step(self, step: Step) -> Work:
        host = self.host
        match step:
            case Look():
                self._began, self._pause = host.now(), POLL_FIRST
                return Loaded(self._load())
            case Lock():
                waited = host.now() - self._began
                rank = 0 if waited < FIRST_LOCK * MAX_WAIT else 1 if waited < SECOND_LOCK * MAX_WAIT else None
                if rank is not None and self._lock is None and (self.identity, rank) not in host.locks:
                    self._lock = self.identity, rank
                    host.locks[self._lock] = self
                may_fetch = self._lock is not None or rank is None
                if not may_fetch:
                    yield self._pause * host.rng.uniform(0.5, 1.5)
                    self._pause = min(POLL_MOST, 1.5 * self._pause)
                return Loaded(self._load(), may_fetch)
            case Delay(until):
                yield host.true(until) - host.engine.now
                return Loaded(self._load(), may_fetch=True)
            case Fetch():
                return (yield from self._fetch(step))
            case SaveFirst(outcome, retry_after):
                yield 0.002
                self._flush()
                host.save(self.identity, outcome)
                return Saved(outcome, retry_after)

    def _fetch(self, command: Fetch) -> Work:
        host = self.host
        least = host.now() + MAX_WAIT if command.background else NEVER
        for attempt in range(command.attempts):
            try:
                yield from self._slot(attempt, least, background=command.background)
            except SupersededError:
                return None
            except NoSlotError as error:
                failure = Failure.TRANSIENT if attempt else error.failure
                return FetchFailed(failure, error.refused.retry_after)
            yield host.rng.uniform(0.01, 0.2)  # name, connection, TLS
            sent = host.now()
            self._update_budget(lambda budget, _now, sent=sent: rate_limit.sent(budget, sent, host.interval))
            answer = host.issuer.ask(self.identity, host.engine.now)
            yield answer.seconds
            match answer.kind:
                case "token":
                    version = f"{host.rng.getrandbits(64):x}"
                    if self.process.budget.throttled:
                        self._update_budget(lambda budget, _now: rate_limit.granted(budget))
                    return Fetched(Token(version, Grant(HEADER, LIFETIME), sent))
                case "refused":
                    return FetchFailed(Failure.REFUSED, oauth_error="access_denied")
                case "throttled":
                    jitter = host.rng.uniform(-1, 1)
                    self._update_budget(
                        lambda budget, now, answer=answer, jitter=jitter: rate_limit.throttled(
                            budget, now, answer.retry_after, jitter
                        )
                    )
                    pause = self.process.budget.cooldown_until - host.now()
                    return FetchFailed(Failure.THROTTLED, pause)
        return FetchFailed(Failure.TRANSIENT)

    # --- `issuer_budget.AttemptSlots` --------------------------------------------------------------------------------

    def _slot(self, attempt: int, least: float, *, background: bool) -> Work:
        host = self.host
        not_before = host.now() + REPEAT_AFTER * 2.0 ** (attempt - 1) if attempt else NEVER
        while True:
            slot = self._reserve(max(least, self.deadline), not_before, background=background and attempt == 0)
            turns = host.turns
            if slot.at > host.now():
                yield slot.at - host.now()
                self.dispatch(Loaded(self._load()))
                if self.state.fetch is FetchState.NONE:
                    self._update_budget(lambda budget, _now, slot=slot: rate_limit.release(budget, slot, host.interval))
                    raise SupersededError
                self._update_budget(lambda budget, _now: budget)
                if self.process.budget.cooldown_until > slot.at or (turns is None and host.turns is not None):
                    not_before = host.now()
                    continue
            if host.now() - slot.at <= LATE_SHARE * host.interval:
                host.slots.append(host.true(slot.at))
                return

    def _reserve(self, deadline: float, not_before: float, *, background: bool) -> Reserved:
        answers: list[Reserved | Refused] = []

        def change(budget: RateLimit, now: float) -> RateLimit:
            patience = deadline - now
            budget, answer = rate_limit.reserve(
                budget,
                now,
                self.host.interval,
                patience=patience,
                background=background,
                not_before=not_before,
                turns=self.host.turns,
            )
            answers.append(answer)
            return budget

        self._update_budget(change)
        answer = answers[-1]
        if isinstance(answer, Refused):
            raise NoSlotError(answer)
        return answer

    def _update_budget(self, change: object) -> None:
        self.process.budget = self.host.update_budget(self.process.budget, change)
