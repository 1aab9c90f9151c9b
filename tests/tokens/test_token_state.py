"""The moments of a token's life."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.settings import Refresh
from sidecar.tokens.token_record import NEVER
from sidecar.tokens.token_state import FetchState, Freshness, freshness, refresh_at, schedule, serves_until, usable
from tests.tokens.states import BORN, FRESH, GONE, LAST, STALE, empty, holding, token, with_quarantine


@pytest.mark.parametrize(
    ("lifetime", "rules", "jitter", "stale", "wait", "last"),
    [
        (3600, Refresh(), 0.0, 2880, 3570, 3598),
        (3600, Refresh(), 1.0, 3060, 3570, 3598),
        (3600, Refresh(), -1.0, 3060, 3570, 3598),
        (300, Refresh(), 0.0, 240, 270, 298),
        (60, Refresh(), 0.0, 48, 54, 58),  # the leeway is a tenth of a short life
        (10, Refresh(), 0.0, 8, 9, 9),
        (1, Refresh(), 0.0, 0.8, 0.9, 0.9),
        (86400, Refresh(), 0.0, 69120, 86370, 86398),
        (3600, Refresh(after=0.99), 0.0, 3540, 3570, 3598),  # twice the leeway before the end is earlier
        (3600, Refresh(after=0.99), 1.0, 3555, 3570, 3598),  # and jitter does not push it into the leeway
        (3600, Refresh(leeway=0), 0.0, 2880, 3598, 3598),
        (3600, Refresh(leeway=100_000), 0.0, 2880, 3240, 3598),
    ],
)
def test_the_moments_of_a_life_follow_the_rules(*, lifetime, rules, jitter, stale, wait, last) -> None:
    """Stale at 80 %, waited for inside the leeway, unused at the very end."""
    moments = schedule(token(lifetime=lifetime), rules, jitter)
    assert [moment - BORN for moment in (moments.stale_at, moments.wait_from, moments.last_use)] == pytest.approx(
        [stale, wait, last]
    )


@given(
    lifetime=st.floats(0.1, 86400),
    after=st.floats(0.1, 0.99),
    leeway=st.floats(0, 600),
    jitter=st.floats(-1, 1),
)
def test_no_life_is_out_of_order(lifetime, after, leeway, jitter) -> None:
    """Whatever the settings: stale before waited for, before unusable, before expired; never later than 5 % says."""
    moments = schedule(token(lifetime=lifetime), Refresh(after, leeway), jitter)
    assert moments.stale_at <= moments.wait_from <= moments.last_use < BORN + lifetime
    assert moments.stale_at - BORN <= (after + 0.05) * lifetime + 1e-6


@pytest.mark.parametrize(
    ("now", "expected", "is_usable"),
    [
        (FRESH, Freshness.FRESH, True),
        (BORN + 2880, Freshness.STALE, True),
        (STALE, Freshness.STALE, True),
        (BORN + 3570, Freshness.EXPIRED, True),
        (LAST, Freshness.EXPIRED, True),
        (BORN + 3598, Freshness.EXPIRED, False),
        (GONE, Freshness.EXPIRED, False),
    ],
)
def test_freshness_and_use_by_moment(now, expected, is_usable) -> None:
    """FRESH, STALE, EXPIRED; and the last seconds in which a token serves because there is no better one."""
    state = holding()
    assert (freshness(state, now), usable(state, now)) == (expected, is_usable)


def test_without_a_token_everything_is_expired() -> None:
    """Nothing is not fresh."""
    assert (freshness(empty(), FRESH), usable(empty(), FRESH)) == (Freshness.EXPIRED, False)


@pytest.mark.parametrize(
    ("state", "now", "until"),
    [
        (empty(), FRESH, NEVER),
        (holding(used=False), FRESH, NEVER),  # so that the first use is seen
        (holding(), FRESH, BORN + 2880),
        (holding(), STALE, NEVER),  # so that a refresh begins
        (holding(fetch=FetchState.BACKGROUND), STALE, BORN + 3570),
        (holding(retry_at=STALE + 30), STALE, STALE + 30),
        (holding(retry_at=LAST), STALE, BORN + 3570),
        (with_quarantine(holding(), STALE + 60), STALE, STALE + 60),
        (holding(), LAST, NEVER),  # so that it is waited for
        (holding(fetch=FetchState.WAITED), LAST, NEVER),
        (holding(retry_at=LAST + 5), LAST, LAST + 5),
        (holding(retry_at=GONE + 5), LAST, BORN + 3598),
        (holding(retry_at=GONE + 5), GONE, NEVER),
    ],
)
def test_the_fast_path_is_open_exactly_while_nothing_is_to_be_decided(state, now, until) -> None:
    """What the hot path compares the time with, in every state."""
    assert serves_until(state, now) == until


def test_a_changed_rule_holds_for_tokens_that_come_later() -> None:
    """A reload does not move the moments of a token that is there."""
    state = replace(holding(), refresh=Refresh(after=0.1))
    assert freshness(state, FRESH + 1000) is Freshness.FRESH


@pytest.mark.parametrize(
    ("state", "now", "at"),
    [
        (holding(), FRESH, BORN + 2880),
        (holding(), LAST, BORN + 2880),  # at once, then
        (holding(retry_at=STALE + 5), STALE, STALE + 5),
        (with_quarantine(holding(), STALE + 7), STALE, STALE + 7),
        (holding(fetch=FetchState.BACKGROUND), STALE, None),
        (holding(used=False), STALE, None),  # nobody wanted it for a whole life
        (holding(), GONE, None),
        (empty(), FRESH, None),
    ],
)
def test_a_used_token_is_refreshed_though_nobody_asks(state, now, at) -> None:
    """When it becomes stale, or the issuer may be asked again; one that is not used, or not usable, is left alone."""
    assert refresh_at(state, now) == at
