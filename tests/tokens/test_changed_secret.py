"""A changed secret: the old one's token serves until the new one has a token, an upstream refuses it, or it ends."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from sidecar.errors import CredentialRejectedError, GrantInterruptedError, GrantRefusedError, TokenUnavailableError
from sidecar.secret import Secret
from sidecar.tokens.grant import Grant
from tests.tokens.support import FakeIssuer, Rig, bearer, grant, ignored, rig, settle

pytestmark = pytest.mark.usefixtures("quick_keys")

FAULT = GrantInterruptedError("The issuer answered 503.")
REFUSAL = GrantRefusedError("The issuer answered 401 invalid_client. Check the secret.", oauth_error="invalid_client")
OLD, NEW = "secret", "the new one"


async def in_use(answer: object = None) -> Rig:
    """A process with a token that clients use; what the new secret gets."""
    one = await rig()
    await one.ask()
    assert one.now_attached() == bearer("token-1")
    await one.clock.advance(60)
    one.issuer.by_secret = {NEW: answer or grant("new")}
    return one


def change(one: Rig, secret: str = NEW) -> None:
    """Its file has another content."""
    one.issuer.password = Secret(secret)
    one.manager.secrets_changed()


def told(one: Rig) -> tuple[str, bool, str]:
    """State, whether it is refused, and what is said of the new secret."""
    status = one.status()
    return status.state, status.refused, status.new_secret


async def test_a_token_in_use_is_replaced_at_once_and_nobody_waits() -> None:
    """Make before break: the new secret's first token comes in the background; until then the old one serves."""
    one = await in_use()
    one.issuer.takes = 2.0
    with capture_logs() as logs:
        change(one)
    assert [line["event"].partition(":")[0] for line in logs] == ["a credential's secret changed"]
    await one.clock.advance(1)
    assert one.now_attached() == bearer("token-1")
    assert told(one) == ("stale", False, "pending")
    await one.clock.advance(2)
    assert one.now_attached() == bearer("new")
    assert told(one) == ("fresh", False, "")
    assert len(one.issuer.requests) == 2
    assert one.events.of("invalidated") == [("operate.camunda.io", "secret_changed")]


@pytest.mark.parametrize(("answer", "said"), [(FAULT, "pending"), (REFUSAL, "refused")], ids=["503", "mistyped"])
async def test_a_good_token_survives_a_new_secret_that_gets_none(answer, said) -> None:
    """59 minutes are left: all of them are served, the issuer is not hammered, and the list tells why it is so."""
    one = await in_use(answer)
    change(one)
    for _ in range(58):
        await one.clock.advance(60)
        assert one.now_attached() == bearer("token-1")
        assert told(one)[2] == said
    assert answer.detail in one.status().new_secret_detail
    assert len(one.issuer.requests) < 30
    assert one.status().expires_at == pytest.approx(one.clock.wall() + 60)
    await one.clock.advance(58.5)
    assert one.authorizer.current() is None
    error = await one.ask(10)
    assert isinstance(error, CredentialRejectedError if said == "refused" else TokenUnavailableError)
    assert told(one) == (("quarantined", True, "") if said == "refused" else ("none", False, ""))
    assert one.status().expires_at is None


@pytest.mark.parametrize("answer", [FAULT, REFUSAL], ids=["503", "mistyped"])
async def test_it_is_tried_again_by_itself_and_then_used(answer) -> None:
    """By the rules of any refresh: after a while, longer each time, and by no client's waiting."""
    one = await in_use(answer)
    change(one)
    await one.clock.advance(20)
    one.issuer.by_secret = {NEW: grant("new")}
    await one.clock.advance(20)
    assert one.now_attached() == bearer("new")
    assert told(one) == ("fresh", False, "")
    assert len(one.issuer.requests) == 3


async def test_an_upstream_that_refuses_the_old_token_ends_it_at_once() -> None:
    """Whoever rotated the secret revoked its tokens: no other client is given the old one, on any process."""
    one = await in_use()
    beside = await rig(beside=one)
    await beside.ask(0.1)
    one.issuer.takes = 1.0
    held = one.authorizer.current()
    for each in (one, beside):
        change(each)
    await settle()
    replacing = ignored(one.authorizer.replace(held))
    await settle()
    assert one.authorizer.current() is None
    assert told(one) == ("none", False, "")
    await one.clock.advance(5)
    assert replacing.result().header == bearer("new")
    assert {one.now_attached(), beside.now_attached()} == {bearer("new")}
    assert len(one.issuer.requests) == 2


async def test_an_upstream_that_refuses_the_old_token_while_the_new_secret_is_refused() -> None:
    """There is nothing left to serve: clients hear of the credential."""
    one = await in_use(REFUSAL)
    change(one)
    await one.clock.advance(5)
    replacing = ignored(one.authorizer.replace(one.authorizer.current()))
    await one.clock.advance(1)
    assert replacing.result() is None
    assert isinstance(await one.ask(0.1), CredentialRejectedError)
    assert told(one) == ("quarantined", True, "")


async def test_a_token_that_nobody_uses_waits_for_the_first_client() -> None:
    """It is served, and the new secret's is asked for behind its back."""
    one = await in_use()
    await one.clock.advance(2880)  # refreshed, and not used since
    change(one)
    await one.clock.advance(60)
    assert len(one.issuer.requests) == 2
    assert one.now_attached() == bearer("token-2")
    await one.clock.advance(2)
    assert one.now_attached() == bearer("new")


async def test_a_secret_that_is_mistyped_and_then_mended() -> None:
    """Two changes: the token of the first secret serves all the while."""
    one = await in_use(REFUSAL)
    change(one)
    await one.clock.advance(10)
    one.issuer.by_secret["third"] = grant("third")
    change(one, "third")
    assert one.now_attached() == bearer("token-1")
    await one.clock.advance(5)
    assert one.now_attached() == bearer("third")


async def test_a_secret_that_is_changed_back() -> None:
    """The first one's token is on the store, and is used; nothing is asked for."""
    one = await in_use(REFUSAL)
    change(one)
    await one.clock.advance(10)
    change(one, OLD)
    await one.clock.advance(1)
    assert one.now_attached() == bearer("token-1")
    assert told(one) == ("fresh", False, "")
    assert len(one.issuer.requests) == 2


async def test_a_process_beside_takes_over_what_the_first_one_got() -> None:
    """Both see the file change; one asks."""
    one = await in_use()
    beside = await rig(beside=one)
    await beside.ask(0.1)
    beside.now_attached()
    for each in (one, beside):
        change(each)
    await one.clock.advance(3)
    assert {one.now_attached(), beside.now_attached()} == {bearer("new")}
    assert len(one.issuer.requests) == 2


async def test_a_reload_with_another_secret_keeps_the_token_as_well() -> None:
    """The secret stands in the configuration itself: its route is another one now, and so is its source."""
    one = await in_use()
    source = FakeIssuer(one.clock, password=Secret(NEW), otherwise=lambda _: FAULT)
    before, one.authorizer = (
        one.authorizer,
        one.manager.authorizer(source, credential="cluster", audience="operate.camunda.io"),
    )
    one.manager.retire([before])
    for _ in range(10):
        await one.clock.advance(60)
        assert one.now_attached() == bearer("token-1")
    assert told(one) == ("stale", False, "pending")
    assert before.current() is one.authorizer.current()  # a request that came before the reload
    one.issuer.password = None  # the old file is gone
    assert (await before.obtain()).header == bearer("token-1")
    source.otherwise = lambda _: grant("new")
    await one.clock.advance(300)
    assert one.now_attached() == bearer("new")
    assert len(one.issuer.requests) == 1


@pytest.mark.parametrize(
    "changed",
    [
        {"credential": "another"},
        {"audience": "tasklist.camunda.io"},
        {"parameters": (("audience", "operate.camunda.io"), ("client_id", "another"))},
        {"issuer": "https://other.example/oauth/token"},
    ],
    ids=lambda changed: next(iter(changed)),
)
async def test_nothing_but_the_secret_may_differ(changed) -> None:
    """A token never serves another client, audience, issuer or configured credential."""
    one = await in_use()
    given = {"credential": "cluster", "audience": "operate.camunda.io"} | changed
    source = FakeIssuer(
        one.clock,
        password=Secret(NEW),
        issuer=given.get("issuer", one.issuer.issuer),
        parameters=given.get("parameters", one.issuer.parameters),
    )
    other = one.manager.authorizer(source, credential=given["credential"], audience=given["audience"])
    assert other.current() is None


@pytest.mark.parametrize("which", ["first", "second"])
async def test_of_two_credentials_with_one_identity_only_the_changed_one_moves(which) -> None:
    """They shared a token. The other keeps it, and it is renewed with that one's secret."""
    one = await rig()
    second = FakeIssuer(one.clock)
    authorizers = [one.authorizer, one.manager.authorizer(second, credential="second", audience="operate.camunda.io")]
    await one.ask()
    changed, kept = (one.issuer, second) if which == "first" else (second, one.issuer)
    moved, stays = authorizers if which == "first" else authorizers[::-1]
    for source in (one.issuer, second):
        source.by_secret = {OLD: grant("renewed"), NEW: grant("new")}
    changed.password = Secret(NEW)
    one.manager.secrets_changed()
    assert stays.current().header == moved.current().header == bearer("token-1")
    await one.clock.advance(5)
    assert (moved.current().header, stays.current().header) == (bearer("new"), bearer("token-1"))
    await one.clock.advance(2900)
    assert stays.current().header == bearer("renewed")
    assert kept.requests


async def test_clients_that_wait_when_the_secret_changes_wait_for_the_new_ones_token() -> None:
    """No longer than they would have: each has its own patience, and an answer within it."""
    one = await rig()
    one.issuer.by_secret = {NEW: grant("new")}
    one.issuer.takes = 4.0
    waiting = []
    for _ in range(3):
        waiting.append(one.asking())
        await one.clock.advance(1)
    change(one)
    waiting.append(one.asking())
    await one.clock.advance(6)
    assert {client.result().header for client in waiting} == {bearer("new")}
    assert len(one.events.of("waited")) == 4


async def test_clients_that_wait_while_the_new_secret_gets_nothing_have_their_own_patience() -> None:
    """Ten seconds from when each came, and not from the change."""
    one = await rig()
    one.issuer.held = asyncio.Event()
    first = one.asking()
    await one.clock.advance(5)
    second = one.asking()
    change(one)
    await one.clock.advance(5.1)
    assert (first.done(), second.done()) == (True, False)
    assert isinstance(first.exception(), TokenUnavailableError)
    await one.clock.advance(5)
    assert isinstance(second.exception(), TokenUnavailableError)


async def test_an_old_session_that_the_server_rotates_is_not_saved_as_the_new_passwords() -> None:
    """Its cookie changes in this process; the next process still asks with the new password."""
    one = await in_use(FAULT)
    change(one)
    await one.clock.advance(1)
    one.issuer.rotated = Grant(b"Cookie: SESSION=2\r\n", 3600.0)
    one.authorizer.received_cookies(one.authorizer.current(), [b"SESSION=2"])
    assert one.now_attached() == b"Cookie: SESSION=2\r\n"
    assert told(one)[2] == "pending"
    await settle()
    assert (await rig(beside=one)).now_attached() is None


async def test_a_refused_credential_stays_refused_while_nobody_asks() -> None:
    """What is said does not end after half a minute, nor by SIGHUP; it ends with a token or another secret."""
    one = await rig()
    one.issuer.by_secret = {OLD: REFUSAL}
    await one.ask(0.1)
    await one.clock.advance(3600)
    assert told(one) == ("quarantined", True, "")
    assert (one.status().quarantined_until, one.status().detail) == (None, REFUSAL.detail)
    await one.manager.end_quarantines()
    await one.clock.advance(60)
    assert told(one) == ("quarantined", True, "")
    change(one)
    assert told(one) == ("none", False, "")


async def test_a_process_that_nobody_asks_hears_that_a_refused_credential_works_again() -> None:
    """From the store, within seconds, without a question to the issuer: its gauge would be 1 for ever otherwise."""
    one = await rig()
    beside = await rig(beside=one)
    one.issuer.answers = [REFUSAL]
    for each in (one, beside):
        assert isinstance(await each.ask(0.1), CredentialRejectedError)
    await one.manager.end_quarantines()
    assert await one.ask(2) == bearer("token-2")
    await one.clock.advance(6)
    assert told(beside) == ("fresh", False, "")
    assert len(one.issuer.requests) == 2
