"""An upstream refuses a token, changes a session, or is given one that was replaced already."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from sidecar.errors import GrantInterruptedError, GrantRefusedError
from sidecar.tokens.grant import Grant
from tests.tokens.support import FakeIssuer, ManualClock, bearer, ignored, rig, settle

pytestmark = pytest.mark.usefixtures("quick_keys")


async def replaced(one, held, seconds: float = 2.0) -> bytes | None:
    """What an exchange replays with."""
    replacing = ignored(one.authorizer.replace(held))
    await one.clock.advance(seconds)
    assert replacing.done()
    new = replacing.result()
    return new.header if new else None


async def test_a_refused_token_is_replaced() -> None:
    """Only the one that was refused, and once for all that were refused it."""
    one = await rig()
    await one.ask()
    held = one.authorizer.current()
    replacing = [ignored(one.authorizer.replace(held)) for _ in range(200)]
    await one.clock.advance(2)
    assert {future.result().header for future in replacing} == {bearer("token-2")}
    assert len(one.issuer.requests) == 2
    assert one.events.of("invalidated") == [("operate.camunda.io", "upstream_refused")]


async def test_one_that_comes_late_with_the_old_token_gets_the_new_one() -> None:
    """Compare and invalidate: no request for it."""
    one = await rig()
    await one.ask()
    held = one.authorizer.current()
    await replaced(one, held)
    assert await replaced(one, held, 0.0) == bearer("token-2")
    assert len(one.issuer.requests) == 2


async def test_a_refusal_right_after_a_replay_was_refused_is_passed_on() -> None:
    """The forced refresh did not help: the next waits a minute, doubling; meanwhile the token serves the others."""
    one = await rig()
    await one.ask()
    forced_at = []
    for second in range(0, 3600, 5):
        held = one.authorizer.current()
        new = await replaced(one, held, 3.0)
        if new is not None:
            forced_at.append(second)
            one.authorizer.replayed(one.authorizer.current(), accepted=False)
        assert one.now_attached() is not None
        await one.clock.advance(2)
    assert forced_at == [0, 60, 180, 420, 900, 1860]


async def test_a_replay_that_is_accepted_resets_the_back_off() -> None:
    """A token that is really revoked twice is replaced twice at once."""
    one = await rig()
    await one.ask()
    for number in (2, 3, 4):
        assert await replaced(one, one.authorizer.current()) == bearer(f"token-{number}")
        one.authorizer.replayed(one.authorizer.current(), accepted=True)
        await settle()


async def test_the_back_off_is_shared_on_the_store() -> None:
    """The path that always says 401 is behind every process; a restart does not begin anew."""
    one = await rig()
    await one.ask()
    await replaced(one, one.authorizer.current())
    beside = await rig(beside=one)
    await beside.ask()
    assert await replaced(beside, beside.authorizer.current()) is None
    assert len(one.issuer.requests) == 2


async def test_a_process_that_did_not_hear_of_it_looks_before_it_asks() -> None:
    """It holds the token that another has replaced already."""
    one = await rig()
    beside = await rig(beside=one)
    await one.ask()
    await beside.ask()
    old = beside.authorizer.current()
    await replaced(one, one.authorizer.current())
    assert await replaced(beside, old, 0.1) == bearer("token-2")
    assert len(one.issuer.requests) == 2


async def test_a_refused_token_is_not_taken_from_the_store_again() -> None:
    """Though the fetch of the next one fails, and a new process comes."""
    one = await rig()
    await one.ask()
    one.issuer.otherwise = lambda _: GrantInterruptedError("503")
    assert await replaced(one, one.authorizer.current(), 11) is None
    assert one.authorizer.current() is None
    again = await rig(beside=one)
    await settle()
    assert again.authorizer.current() is None


async def test_without_a_replay_nobody_waits() -> None:
    """The request's body is gone: the token is dropped, and the next client has it fetched."""
    one = await rig()
    await one.ask()
    held = one.authorizer.current()
    one.authorizer.invalidate(held)
    one.authorizer.invalidate(held)
    await settle()
    assert (one.authorizer.current(), len(one.issuer.requests)) == (None, 1)
    assert await one.ask(2) == bearer("token-2")
    one.authorizer.invalidate(held)
    await settle()
    assert one.now_attached() == bearer("token-2")


async def test_a_credential_that_was_deleted_meanwhile() -> None:
    """The upstream refuses the token, the issuer the credential: the 401 is passed on."""
    one = await rig()
    await one.ask()
    one.issuer.otherwise = lambda _: GrantRefusedError("No.", oauth_error="invalid_client")
    with capture_logs() as logs:
        assert await replaced(one, one.authorizer.current()) is None
    assert "invalid_client" in next(
        entry["reason"] for entry in logs if entry["event"] == "no other token for a refused one"
    )


@pytest.mark.parametrize(("status", "expected"), [(401, True), (403, False)])
async def test_the_source_says_what_a_refusal_is(status, expected) -> None:
    """403 never refreshes a bearer token."""
    one = await rig()
    assert one.authorizer.refuses(status, safe=True) is expected


async def test_what_is_no_attachment_of_ours_is_left_alone() -> None:
    """A route changed its kind of credential in a reload, while a request was under way."""
    one = await rig()
    await one.ask()
    stranger = Grant(b"Authorization: Basic x\r\n", 1.0)
    assert await one.authorizer.replace(stranger) is None
    one.authorizer.invalidate(stranger)
    one.authorizer.received_cookies(stranger, [b"a=b"])
    await settle()
    assert one.now_attached() == bearer("token-1")


async def test_a_session_that_the_server_rotates_is_taken_over() -> None:
    """Here and by every process; its life goes on, no login is made."""
    clock = ManualClock()
    session = Grant(b"Cookie: SESSION=1\r\n", 28800.0, b"X-CSRF-TOKEN: 1\r\n")
    one = await rig(issuer=FakeIssuer(clock, answers=[session]))
    await one.ask()
    held = one.authorizer.current()
    one.authorizer.received_cookies(held, [b"unrelated=1"])  # the source says: nothing changes
    assert one.authorizer.current() is held
    one.issuer.rotated = Grant(b"Cookie: SESSION=2\r\n", 28800.0, b"X-CSRF-TOKEN: 2\r\n")
    one.authorizer.received_cookies(held, [b"SESSION=2"])
    new = one.authorizer.current()
    assert (new.header, new.unsafe_header) == (b"Cookie: SESSION=2\r\n", b"X-CSRF-TOKEN: 2\r\n")
    one.authorizer.received_cookies(held, [b"SESSION=3"])  # an answer to the old one comes late
    assert one.authorizer.current() is new
    await settle()
    again = await rig(beside=one)
    assert await again.ask(0.1) == b"Cookie: SESSION=2\r\n"
    assert len(one.issuer.requests) == 1
    assert one.events.of("invalidated") == [("operate.camunda.io", "session_rotated")]


async def test_a_refused_token_waits_out_a_flight_that_is_under_way() -> None:
    """A background refresh that has begun is joined, not repeated."""
    one = await rig()
    await one.ask()
    one.issuer.held = asyncio.Event()
    await one.clock.advance(2881)
    assert len(one.issuer.requests) == 2
    replacing = ignored(one.authorizer.replace(one.authorizer.current()))
    await settle()
    one.issuer.held.set()
    await settle()
    assert replacing.result().header == bearer("token-2")
    assert len(one.issuer.requests) == 2
