"""This design in virtual time: one sidecar process's entries, as `tokens/entry.py`, `fetching.py` and `gate.py` are.

The decisions are the product's own code; only what waits is written again, with sleeps in virtual time.
"""

from __future__ import annotations

from collections import deque

from sidecar.tokens import budget as budgets
from sidecar.tokens.budget import Budget, Refused, Reserved
from sidecar.tokens.events import (
    Event,
    Failure,
    Fetch,
    Fetched,
    FetchFailed,
    Hold,
    Loaded,
    Lock,
    Look,
    PatienceOver,
    Refuse,
    Rejected,
    Replayed,
    Save,
    Saved,
    SaveFirst,
    Serve,
    Wait,
    Wake,
    Wanted,
    Woke,
)
from sidecar.tokens.fetching import FIRST_LOCK, POLL_FIRST, POLL_MOST, SECOND_LOCK
from sidecar.tokens.gate import LATE_SHARE, REPEAT_AFTER
from sidecar.tokens.grant import Grant
from sidecar.tokens.lifecycle import decide
from sidecar.tokens.shared import NEVER, Change, Token
from sidecar.tokens.slot import Flight, Slot, quiet_until, usable
from tests.simulation.engine import Process, Work
from tests.simulation.host import Counters, Host
from tests.simulation.issuer import LIFETIME, TIMEOUT

MAX_WAIT = 10.0
RECOVERY = 900.0 + MAX_WAIT
"""Seconds after the last fault within which service is promised: the longest quarantine, and a client's patience."""
HEADER = b"Authorization: Bearer x\r\n"


class NoSlotError(Exception):
    """See `gate.NoSlotError`."""

    def __init__(self, refused: Refused) -> None:
        super().__init__()
        self.refused = refused


class SupersededError(Exception):
    """See `gate.SupersededError`."""


class SidecarProcess(Process):
    """One process, with an entry for each identity."""

    def __init__(self, host: Host, identities: int, counters: Counters) -> None:
        super().__init__(host.engine)
        self.host = host
        self.counters = counters
        self.budget = Budget()
        self._identities = identities
        self.entries: list[Entry] = []
        self.start()

    def start(self) -> None:
        """Nothing is known but what is on the store."""
        self.budget = Budget()
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
        self.slot = Slot()
        self.serve_until = NEVER
        self.deadline = NEVER
        self.waiting: deque[float] = deque()
        """When each client that waits began to."""
        self._changes: list[Change] = []
        self._flying = False
        self._again = False
        self._wake = 0

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
        if self.slot.token is None:
            return
        self.deadline = self.host.now() + MAX_WAIT
        if Wait() in self.dispatch(Rejected(self.slot.token.version)):
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
        if not (storm or lost or stopped):
            counters.failed_in_good_weather += 1

    def _check_served(self) -> None:
        token, counters = self.slot.token, self.process.counters
        assert token is not None
        if self.host.now() >= token.end:
            counters.expired_served += 1
        if token.version in self.slot.shared.refused:
            counters.refused_served += 1

    def _be_impatient_at(self, moment: float) -> None:
        self.process.call_at(self.host.true(moment), self._patience_over)

    def _patience_over(self) -> None:
        now = self.host.now()
        if not self.waiting:
            return
        if usable(self.slot, now) and self.waiting[0] + MAX_WAIT <= now:
            self.dispatch(PatienceOver())
            return
        while self.waiting and self.waiting[0] + MAX_WAIT <= now:
            self._failed(stopped=self._end_wait())
        if self.waiting:
            self._be_impatient_at(self.waiting[0] + MAX_WAIT)

    # --- `entry.Entry` -----------------------------------------------------------------------------------------------

    def dispatch(self, event: Event) -> tuple[object, ...]:
        """See there."""
        now = self.host.now()
        self.slot, commands = decide(self.slot, event, now, self.host.rng.uniform(-1, 1))
        self.serve_until = quiet_until(self.slot, now)
        for command in commands:
            match command:
                case Serve():
                    self._answered()
                case Refuse():
                    while self.waiting:
                        self._failed(stopped=self._end_wait())
                case Look():
                    if self._flying:
                        self._again = True
                    else:
                        self._flying = True
                        self.process.run(self._fly())
                case Save(change):
                    self._changes.append(change)
                    self.process.call_at(self.host.engine.now + 0.002, self._flush)
                case Wake(at):
                    self._wake += 1
                    self._wake_at(at, self._wake)
                case _:
                    pass
        return commands

    def _wake_at(self, at: float, number: int) -> None:
        self.process.call_at(
            max(self.host.engine.now, self.host.true(at)), lambda: self.dispatch(Woke()) if number == self._wake else ()
        )

    def _flush(self) -> None:
        changes, self._changes = self._changes, []
        for change in changes:
            self.host.save(self.identity, change)

    def _load(self) -> object:
        self._flush()
        return self.host.load(self.identity)

    # --- `fetching.Flight` -------------------------------------------------------------------------------------------

    def _fly(self) -> Work:
        while True:
            self._again = False
            yield from self._flight()
            if not self._again:
                self._flying = False
                return

    def _look(self, *, may_fetch: bool = False) -> tuple[object, ...]:
        return self.dispatch(Loaded(self._load(), may_fetch))

    def _flight(self) -> Work:
        host, began, pause, key = self.host, self.host.now(), POLL_FIRST, None
        yield 0.001
        commands = self._look()
        while Lock() in commands:
            waited = host.now() - began
            rank = 0 if waited < FIRST_LOCK * MAX_WAIT else 1 if waited < SECOND_LOCK * MAX_WAIT else None
            if rank is not None and (self.identity, rank) not in host.locks:
                key = self.identity, rank
                host.locks[key] = self
            if key is None and rank is not None:
                yield pause * host.rng.uniform(0.5, 1.5)
                pause = min(POLL_MOST, 1.5 * pause)
            commands = self._look(may_fetch=key is not None or rank is None)
        while hold := next((command for command in commands if isinstance(command, Hold)), None):
            yield self.host.true(hold.until) - self.host.engine.now
            commands = self._look(may_fetch=True)
        for command in commands:
            if isinstance(command, Fetch):
                yield from self._fetch(command)
        yield 0.002
        self._flush()
        if key is not None and host.locks.get(key) is self:
            del host.locks[key]

    def _fetch(self, command: Fetch) -> Work:
        host = self.host
        failure = FetchFailed(Failure.TRANSIENT)
        least = host.now() + MAX_WAIT if command.background else NEVER
        for attempt in range(command.attempts):
            try:
                yield from self._slot(attempt, least, background=command.background)
            except SupersededError:
                return
            except NoSlotError as error:
                cooling = Failure.COOLING if error.refused.cooling else Failure.NO_SLOT
                cooling = Failure.TRANSIENT if attempt else cooling
                yield from self._conclude(FetchFailed(cooling, error.refused.retry_after))
                return
            yield host.rng.uniform(0.01, 0.2)  # name, connection, TLS
            sent = host.now()
            self._update_budget(lambda budget, _now, sent=sent: budgets.sent(budget, sent, host.interval))
            answer = host.issuer.ask(self.identity, host.engine.now)
            yield answer.seconds
            match answer.kind:
                case "token":
                    version = f"{host.rng.getrandbits(64):x}"
                    if self.process.budget.throttled:
                        self._update_budget(lambda budget, _now: budgets.granted(budget))
                    yield from self._conclude(Fetched(Token(version, Grant(HEADER, LIFETIME), sent)))
                    return
                case "refused":
                    yield from self._conclude(FetchFailed(Failure.REFUSED, oauth_error="access_denied"))
                    return
                case "throttled":
                    jitter = host.rng.uniform(-1, 1)
                    self._update_budget(
                        lambda budget, now, answer=answer, jitter=jitter: budgets.throttled(
                            budget, now, answer.retry_after, jitter
                        )
                    )
                    pause = self.process.budget.cooldown_until - host.now()
                    yield from self._conclude(FetchFailed(Failure.THROTTLED, pause))
                    return
        yield from self._conclude(failure)

    def _conclude(self, event: Event) -> Work:
        """As `entry.Entry.conclude`: the store knows it before the clients do."""
        commands = self.dispatch(event)
        while first := next((command for command in commands if isinstance(command, SaveFirst)), None):
            yield 0.002
            self._flush()
            self.host.save(self.identity, first.outcome)
            commands = self.dispatch(Saved(first.outcome, first.retry_after))

    # --- `gate.Gate` -------------------------------------------------------------------------------------------------

    def _slot(self, attempt: int, least: float, *, background: bool) -> Work:
        host = self.host
        not_before = host.now() + REPEAT_AFTER * 2.0 ** (attempt - 1) if attempt else NEVER
        while True:
            slot = self._reserve(max(least, self.deadline), not_before, background=background and attempt == 0)
            if slot.at > host.now():
                yield slot.at - host.now()
                self._look()
                if self.slot.flight is Flight.NONE:
                    self._update_budget(lambda budget, _now, slot=slot: budgets.release(budget, slot, host.interval))
                    raise SupersededError
                self._update_budget(lambda budget, _now: budget)
                if self.process.budget.cooldown_until > slot.at:
                    continue
            if host.now() - slot.at <= LATE_SHARE * host.interval:
                host.slots.append(host.true(slot.at))
                return

    def _reserve(self, deadline: float, not_before: float, *, background: bool) -> Reserved:
        answers: list[Reserved | Refused] = []

        def change(budget: Budget, now: float) -> Budget:
            patience = deadline - now
            budget, answer = budgets.reserve(
                budget, now, self.host.interval, patience=patience, background=background, not_before=not_before
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
