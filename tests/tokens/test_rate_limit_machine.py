"""The budget against every order of things: processes that reserve, wait, send late, crash, and are throttled."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sidecar.tokens import rate_limit as rules
from sidecar.tokens.rate_limit import RateLimit, Refused, Reserved
from sidecar.tokens.serialization import read_rate_limit, write_rate_limit

INTERVAL = 1.25


class BudgetMachine(RuleBasedStateMachine):
    """One record, any number of processes. Every change goes through the bytes that a store would keep."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.record = write_rate_limit(RateLimit(), 0.0), 0.0
        self.waiting: list[Reserved] = []
        self.granted_slots: list[float] = []
        self.cooldowns: list[tuple[float, float]] = []

    def _read(self) -> RateLimit:
        return read_rate_limit(*self.record)

    def _write(self, budget: RateLimit) -> None:
        self.record = write_rate_limit(budget, self.now), self.now

    @rule(seconds=st.floats(0, 30))
    def time_passes(self, seconds) -> None:
        self.now += seconds

    @rule(patience=st.floats(0, 20), background=st.booleans())
    def somebody_reserves(self, patience, background) -> None:
        before = self._read()
        budget, answer = rules.reserve(before, self.now, INTERVAL, patience=patience, background=background)
        if isinstance(answer, Refused):
            assert budget == before
            assert answer.retry_after > (0 if background else patience)
            return
        assert self.now <= answer.at <= self.now + patience + rules.SAME
        assert not background or answer.at == self.now
        assert all(not began <= answer.at < until - rules.SAME for began, until in self.cooldowns)
        self._write(budget)
        self.waiting.append(answer)
        self.granted_slots.append(answer.at)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def somebody_is_served_by_another_and_gives_its_slot_back(self, data) -> None:
        slot = data.draw(st.sampled_from(self.waiting))
        self.waiting.remove(slot)
        before = self._read()
        after = rules.release(before, slot, INTERVAL)
        if after != before:
            self.granted_slots.remove(slot.at)
            self._write(after)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data(), late=st.floats(0, 0.2))
    def somebody_sends(self, data, late) -> None:
        slot = data.draw(st.sampled_from(self.waiting))
        self.waiting.remove(slot)
        self.now = max(self.now, slot.at) + late
        self._write(rules.sent(self._read(), self.now, INTERVAL))

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def somebody_crashes(self, data) -> None:
        self.waiting.remove(data.draw(st.sampled_from(self.waiting)))

    @rule(retry_after=st.none() | st.floats(allow_nan=True, allow_infinity=True), jitter=st.floats(-1, 1))
    def the_issuer_throttles(self, retry_after, jitter) -> None:
        after = rules.throttled(self._read(), self.now, retry_after, jitter)
        assert self.now + 1 <= after.cooldown_until + rules.SAME
        assert after.cooldown_until <= self.now + rules.RETRY_AFTER_MOST + rules.SAME
        self.cooldowns.append((self.now, after.cooldown_until))
        self._write(after)

    @rule()
    def the_issuer_grants(self) -> None:
        self._write(rules.granted(self._read()))

    @invariant()
    def no_two_slots_are_closer_than_the_interval(self) -> None:
        slots = sorted(self.granted_slots)
        assert all(later - earlier >= INTERVAL - 1e-6 for earlier, later in pairwise(slots))

    @invariant()
    def service_is_never_further_away_than_the_longest_cool_down(self) -> None:
        budget = self._read()
        assert budget.cooldown_until <= self.now + rules.RETRY_AFTER_MOST + rules.SAME
        assert budget.free_at <= self.now + rules.RETRY_AFTER_MOST + 30 * INTERVAL + 40


TestBudget = BudgetMachine.TestCase
TestBudget.__doc__ = "Never two requests within `min_interval`; nothing reserved by a refusal; never in a cool-down."
TestBudget.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
