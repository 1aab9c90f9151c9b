"""A request's id in the log lines of the token request that it began, and nowhere else."""

from __future__ import annotations

import pytest
from structlog.contextvars import bound_contextvars, get_contextvars, merge_contextvars
from structlog.testing import capture_logs

from sidecar.tokens.timer import Timer
from tests.tokens.support import ManualClock, rig, settle

pytestmark = pytest.mark.usefixtures("quick_keys")


async def test_a_token_request_is_found_by_the_request_that_began_it() -> None:
    """Of a thousand that wait, the one that came first."""
    one = await rig()
    with capture_logs([merge_contextvars]) as lines:
        with bound_contextvars(request_id="first"):
            one.asking()
            await settle()
        with bound_contextvars(request_id="second"):
            one.asking()
        await one.clock.advance(1)
    [obtained] = [line for line in lines if line["event"] == "token obtained"]
    assert obtained["request_id"] == "first"


async def test_what_a_timer_does_later_is_no_requests_doing() -> None:
    """A refresh an hour later does not carry the id of the request that saw the token come."""
    clock = ManualClock()
    seen: list[object] = []
    timer = Timer(clock, lambda: seen.append(get_contextvars().get("request_id")))
    with bound_contextvars(request_id="long ago"):
        timer.set(clock.boottime() + 10)
    await clock.advance(20)
    assert seen == [None]
