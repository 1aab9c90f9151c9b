"""When an issuer may be asked."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from sidecar.tokens.rate_limit import (
    RateLimit,
    Refused,
    Reserved,
    Turns,
    granted,
    merged,
    postpone,
    release,
    reserve,
    sent,
    throttled,
    unreadable,
)
from sidecar.tokens.token_record import NEVER

NOW = 100.0


@pytest.mark.parametrize(
    ("budget", "patience", "background", "not_before", "answer", "free_at"),
    [
        (RateLimit(), 10, False, NEVER, Reserved(100.0), 101.25),
        (RateLimit(), 10, True, NEVER, Reserved(100.0), 101.25),
        (RateLimit(free_at=99), 10, True, NEVER, Reserved(100.0), 101.25),
        (RateLimit(free_at=105), 10, False, NEVER, Reserved(105), 106.25),
        (RateLimit(free_at=110), 10, False, NEVER, Reserved(110), 111.25),
        (RateLimit(free_at=110.1), 10, False, NEVER, Refused(10.1, cooling=False), 110.1),
        (RateLimit(free_at=101), 10, True, NEVER, Refused(1, cooling=False), 101),
        (RateLimit(free_at=105), -1, False, NEVER, Refused(5, cooling=False), 105),
        (RateLimit(), -1, False, NEVER, Refused(0, cooling=False), NEVER),
        (RateLimit(cooldown_until=104), 10, False, NEVER, Reserved(104), 105.25),
        (RateLimit(cooldown_until=104, free_at=107), 10, False, NEVER, Reserved(107), 108.25),
        (RateLimit(cooldown_until=400), 10, False, NEVER, Refused(300, cooling=True), NEVER),
        (RateLimit(cooldown_until=104), 10, True, NEVER, Refused(4, cooling=True), NEVER),
        (RateLimit(cooldown_until=100), 10, True, NEVER, Reserved(100.0), 101.25),
        (RateLimit(), 10, False, 102.0, Reserved(102.0), 103.25),
        (RateLimit(), 10, True, 102.0, Reserved(102.0), 103.25),  # a slow store's second try
        (RateLimit(free_at=104), 10, False, 102.0, Reserved(104), 105.25),
    ],
)
def test_slots(*, budget, patience, background, not_before, answer, free_at) -> None:
    """Slots are apart; a refusal reserves nothing and says when; a background refresh takes what is free now."""
    after, given = reserve(budget, NOW, 1.25, patience=patience, background=background, not_before=not_before)
    assert after.free_at == free_at
    assert type(given) is type(answer)
    if isinstance(given, Refused):
        assert (given.retry_after, given.cooling) == (pytest.approx(answer.retry_after), answer.cooling)
    else:
        assert given == answer


@pytest.mark.parametrize(
    ("turns", "background", "not_before", "answer"),
    [
        (Turns(0, 4, 0.0), False, NEVER, Reserved(100.0)),  # 100 is its turn: 20 times 4 x 1.25
        (Turns(1, 4, 0.0), False, NEVER, Reserved(101.25)),
        (Turns(0, 4, -2.5), False, NEVER, Reserved(102.5)),  # this machine's clock is 2.5 s ahead of the store's
        (Turns(0, 4, 0.0), False, 100.1, Reserved(100.1)),
        (Turns(0, 4, 0.0), False, 100.2, Reserved(105.0)),  # it has begun too long ago
        (Turns(3, 4, 0.0), True, NEVER, Reserved(103.75)),  # a background refresh waits for it, too
        (Turns(40, 400, 0.0), False, NEVER, Refused(450 - 2.0, turn=True)),
        (Turns(40, 400, 0.0), True, NEVER, Refused(450 - 2.0, turn=True)),
        (Turns(0, 1, 0.3), False, NEVER, Reserved(100.0)),  # there is nobody else
    ],
)
def test_turns(*, turns, background, not_before, answer) -> None:
    """A process that does not know of the others asks in its turns; who is refused may come back just before one."""
    _, given = reserve(RateLimit(), NOW, 1.25, patience=10, background=background, not_before=not_before, turns=turns)
    assert given == answer


def test_a_turn_is_for_one_request() -> None:
    """The next is the next one's, a whole round later."""
    limit, first = reserve(RateLimit(), NOW, 1.25, patience=10, background=False, turns=Turns(1, 4, 0.0))
    _, second = reserve(limit, NOW, 1.25, patience=10, background=False, turns=Turns(1, 4, 0.0))
    assert second.at - first.at == 5.0


@pytest.mark.parametrize("processes", [2, 5, 8, 20, 499, 512])
def test_all_together_are_below_the_limit(processes) -> None:
    """Whenever they are asked: at most ten in any ten seconds, and nobody within 0.9 intervals of another."""
    asked = []
    for place in range(processes):
        turns, now = Turns(place, processes, 0.013 * math.sin(place)), 7.0
        while now < 2000:
            asked.append(now := turns.next(now + 1.25, 1.25))
    asked.sort()
    assert all(later - earlier >= 0.85 * 1.25 for earlier, later in pairwise(asked))
    assert all(later - earlier > 10 for earlier, later in zip(asked, asked[10:], strict=False))


def test_an_issuer_without_a_limit_is_not_recorded() -> None:
    """`min_interval: 0s`: no slot is in anybody's way, a cool-down is."""
    assert reserve(RateLimit(), NOW, 0.0, patience=10, background=True) == (RateLimit(), Reserved(NOW))
    cooling = RateLimit(cooldown_until=104)
    assert reserve(cooling, NOW, 0.0, patience=10, background=False) == (cooling, Reserved(104))


@pytest.mark.parametrize(
    ("free_at", "after"),
    [(106.25, 105.0), (106.2504, 105.0), (107.5, 107.5), (NEVER, NEVER)],
)
def test_a_slot_is_given_back_if_it_is_the_last(free_at, after) -> None:
    """Another has reserved after it: then it stays taken."""
    assert release(RateLimit(free_at=free_at), Reserved(105.0), 1.25).free_at == after


@pytest.mark.parametrize(("seconds", "until"), [(30.0, 130.0), (1e12, 3700.0), (2.0, 105.0)])
def test_a_pause_that_an_unavailable_issuer_asks_for_counts_as_no_throttling(seconds, until) -> None:
    """503 with `Retry-After`; an absurd one is an hour, and a longer cool-down stays."""
    after = postpone(RateLimit(cooldown_until=105.0, throttled=1), NOW, seconds)
    assert after == RateLimit(cooldown_until=until, throttled=1)


def test_the_next_slot_counts_from_the_sending() -> None:
    """Not from the slot: the connection may have taken long."""
    assert sent(RateLimit(free_at=101.25), 100.5, 1.25).free_at == 101.75
    assert sent(RateLimit(free_at=105), 100.5, 1.25).free_at == 105


@pytest.mark.parametrize(
    ("budget", "retry_after", "jitter", "until", "count"),
    [
        (RateLimit(), 30.0, 1.0, 130.0, 1),
        (RateLimit(), 0.2, 0.0, 101.0, 1),
        (RateLimit(), 3600.0, 0.0, 3700.0, 1),
        (RateLimit(), 1e12, 0.0, 3700.0, 1),  # absurd
        (RateLimit(), math.inf, 0.0, 105.0, 1),
        (RateLimit(), math.nan, 0.0, 105.0, 1),
        (RateLimit(), 0.0, 0.0, 105.0, 1),
        (RateLimit(), -5.0, 0.0, 105.0, 1),
        (RateLimit(), None, 0.0, 105.0, 1),
        (RateLimit(), None, 1.0, 106.25, 1),
        (RateLimit(), None, -1.0, 106.25, 1),
        (RateLimit(throttled=1), None, 0.0, 110.0, 2),
        (RateLimit(throttled=4), None, 0.0, 180.0, 5),
        (RateLimit(throttled=7), None, 0.0, 400.0, 8),
        (RateLimit(throttled=1000), None, 0.0, 400.0, 1001),
        (RateLimit(cooldown_until=900.0), 30.0, 0.0, 900.0, 1),
    ],
)
def test_cool_downs(budget, retry_after, jitter, until, count) -> None:
    """What the issuer asks for within reason, else longer each time; never shorter than one in force."""
    after = throttled(budget, NOW, retry_after, jitter)
    assert (after.cooldown_until, after.throttled) == (until, count)


def test_a_grant_ends_the_growth() -> None:
    """Not the cool-down itself, which others may have been told of."""
    assert granted(RateLimit(101.0, 130.0, 5)) == RateLimit(101.0, 130.0, 0)


def test_the_stricter_of_two_records_holds() -> None:
    """What this process knows is a floor under what a store says that was away."""
    assert merged(RateLimit(105.0, 120.0, 1), RateLimit(103.0, 130.0, 2)) == RateLimit(105.0, 130.0, 2)


def test_an_unreadable_record_costs_one_interval() -> None:
    """Somebody may have asked just now."""
    assert unreadable(NOW, 1.25) == RateLimit(free_at=101.25)
