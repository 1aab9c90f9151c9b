"""Tokens that are handed to programs: what is left of them when they are."""

from __future__ import annotations

import pytest

from sidecar.errors import GrantFailedError, Problem, TokenUnavailableError
from tests.tokens.support import Rig, grant, ignored, rig

pytestmark = pytest.mark.usefixtures("quick_keys")


async def issued(one: Rig, seconds: float = 0.0) -> tuple[str, int, str] | Problem:
    """What a program gets, within so many seconds."""
    asking = ignored(one.authorizer.issue())
    await one.clock.advance(seconds)
    assert asking.done()
    error = asking.exception()
    return error if isinstance(error, Problem) else asking.result()


async def test_what_is_left_of_it() -> None:
    """The rest of its life counts from the moment when its request was sent; one token serves everybody."""
    one = await rig()
    assert await issued(one) == ("token-1", 3600, "")
    await one.clock.advance(1000)
    assert await issued(one) == ("token-1", 2600, "")
    assert len(one.issuer.requests) == 1


async def test_one_that_is_about_to_end_is_refreshed_first() -> None:
    """Nobody used it for long, so that nobody refreshed it: it would be good for a minute more, and is not given."""
    one = await rig()
    await issued(one)
    one.authorizer.token.retire()  # no timer refreshes it
    await one.clock.advance(3600 - 90)
    assert await issued(one, 1) == ("token-2", 3600, "")


async def test_a_stale_one_is_given_while_the_next_is_fetched() -> None:
    """Enough is left of it, and nobody waits."""
    one = await rig()
    await issued(one)
    one.authorizer.token.retire()
    await one.clock.advance(3000)
    assert await issued(one) == ("token-1", 600, "")
    assert await issued(one) == ("token-2", 3600, "")


async def test_no_other_is_to_be_had() -> None:
    """The issuer fails: what forwarded requests still use is not handed out, and when to ask again is said."""
    one = await rig()
    one.issuer.answers = [grant("token-1"), *[GrantFailedError("no")] * 1000]
    await issued(one)
    await one.clock.advance(3600 - 90)
    assert await one.ask() == b"Authorization: Bearer token-1\r\n"
    refusal = await issued(one, 10)
    assert isinstance(refusal, TokenUnavailableError)
    assert refusal.retry_after is not None


async def test_a_fetch_that_hangs_is_waited_for_no_longer_than_max_wait() -> None:
    """A program's whole wait is bounded as a request's is."""
    one = await rig()
    await issued(one)
    one.authorizer.token.retire()
    await one.clock.advance(3600 - 90)
    one.issuer.takes = 30.0
    assert isinstance(await issued(one, 10), TokenUnavailableError)
