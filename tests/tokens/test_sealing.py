"""What leaves the process is encrypted."""

from __future__ import annotations

import asyncio
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.secret import Secret
from sidecar.tokens import sealing
from sidecar.tokens.budget import Budget
from sidecar.tokens.grant import Grant
from sidecar.tokens.record import RecordError, read_budget, seal_shared, unseal_shared, write_budget
from sidecar.tokens.sealing import KeyRing, Keys, UnsealError, derive, seal, unseal
from sidecar.tokens.shared import NEVER, Backoff, Quarantine, Shared, Token

KEYS = Keys(b"k" * 32, b"f" * 32)
SHARED = Shared(
    token=Token("v1", Grant(b"Authorization: Bearer TOKENVALUE\r\n", 3600.0, b"X-CSRF-TOKEN: 1\r\n"), 900.0),
    refused=("refused-before",),
    forced=Backoff(2, 1100.0),
    failing=Backoff(1, 1001.0),
    quarantine=Quarantine(3, 1200.0, "access_denied", "No permission."),
)


def test_sealed_and_opened() -> None:
    """With the same key, for the same identity, under the same version."""
    assert unseal(KEYS, "identity", "v1", seal(KEYS, "identity", "v1", b"plain")) == b"plain"


@pytest.mark.parametrize(
    ("keys", "identity", "version", "change"),
    [
        (Keys(b"x" * 32, b""), "identity", "v1", None),
        (KEYS, "another", "v1", None),
        (KEYS, "identity", "v2", None),
        (KEYS, "identit", "yv1", None),
        (KEYS, "identity", "v1", lambda sealed: sealed[:-1]),
        (KEYS, "identity", "v1", lambda sealed: sealed[:5]),
        (KEYS, "identity", "v1", lambda _: b""),
        (KEYS, "identity", "v1", lambda sealed: sealed[:20] + bytes([sealed[20] ^ 1]) + sealed[21:]),
    ],
)
def test_anything_else_does_not_open(keys, identity, version, change) -> None:
    """Identity and version are associated data (DESIGN 5.10)."""
    sealed = seal(KEYS, "identity", "v1", b"plain and longer than that")
    with pytest.raises(UnsealError):
        unseal(keys, identity, version, change(sealed) if change else sealed)


def test_no_two_seals_are_alike() -> None:
    """A random nonce each time."""
    assert len({seal(KEYS, "identity", "v1", b"plain") for _ in range(100)}) == 100


def test_key_and_fingerprint_follow_from_secret_and_salt_at_scrypts_price() -> None:
    """Both: neither the fingerprint nor the sealed record is a cheap oracle. The price is OWASP's."""
    one = derive(Secret("secret"), b"salt" * 4)
    assert one == derive(Secret("secret"), b"salt" * 4)
    others = [derive(Secret("secreu"), b"salt" * 4), derive(Secret("secret"), b"tlas" * 4)]
    assert len({one.key, one.fingerprint, *(keys.key for keys in others), *(keys.fingerprint for keys in others)}) == 6
    assert 128 * sealing.SCRYPT_COST * sealing.SCRYPT_BLOCK >= 16 << 20
    assert sealing.SCRYPT_LANES >= 5
    assert "secret" not in repr(one)
    assert repr(one.key) not in repr(one)


async def test_keys_are_derived_once_and_off_the_loop(monkeypatch) -> None:
    """A hundred askers wait for one derivation, in a thread; the loop goes on."""
    derivations = []

    def slow(secret: Secret, salt: bytes) -> Keys:
        derivations.append(secret)
        return derive(secret, salt)

    monkeypatch.setattr(sealing, "derive", slow)
    ring, secret = KeyRing(), Secret("secret")
    turns = 0
    asking = asyncio.gather(*(ring.keys(secret, b"s" * 16) for _ in range(100)))
    while not asking.done():
        turns += 1
        await asyncio.sleep(0)
    assert len(set(map(id, await asking))) == 1
    assert len(derivations) == 1
    assert turns > 10
    await ring.keys(secret, b"t" * 16)
    ring.forget(secret)
    await ring.keys(secret, b"s" * 16)
    assert len(derivations) == 3
    ring.close()


async def test_who_goes_away_does_not_cancel_the_derivation() -> None:
    """The others wait for the same."""
    ring, secret = KeyRing(), Secret("secret")
    leaving = asyncio.ensure_future(ring.keys(secret, b"s" * 16))
    staying = asyncio.ensure_future(ring.keys(secret, b"s" * 16))
    await asyncio.sleep(0)
    leaving.cancel()
    assert await staying == derive(secret, b"s" * 16)
    ring.close()


@pytest.mark.parametrize("by", [0.0, 50.0, -5000.0])
def test_a_record_comes_back_shifted_to_the_readers_clock(by) -> None:
    """Written at 1,000 by one clock; the reader's says `by` more."""
    data = seal_shared(SHARED, KEYS, "identity", 1000.0)
    found = unseal_shared(data, KEYS, "identity", 1000.0 + by)
    assert found == Shared(
        token=Token("v1", SHARED.token.grant, 900.0 + by),
        refused=("refused-before",),
        forced=Backoff(2, 1100.0 + by),
        failing=Backoff(1, 1001.0 + by),
        quarantine=Quarantine(3, 1200.0 + by, "access_denied", "No permission."),
    )


def test_an_empty_record_comes_back_empty() -> None:
    """Infinities do not travel in JSON."""
    assert unseal_shared(seal_shared(Shared(), KEYS, "i", 1.0), KEYS, "i", 5.0) == Shared()


def test_nothing_of_a_record_can_be_read() -> None:
    """But its version, which is random."""
    data = seal_shared(SHARED, KEYS, "identity", 1000.0)
    for secret in (b"TOKENVALUE", b"CSRF", b"access_denied", b"permission", b"lifetime", b"refused-before"):
        assert secret not in data


@given(st.binary(max_size=200))
@settings(max_examples=200)
def test_garbage_is_no_record(data) -> None:
    """It is said to be none, and breaks nothing."""
    with pytest.raises(RecordError):
        unseal_shared(data, KEYS, "identity", 0.0)
    with pytest.raises(RecordError):
        read_budget(data, 0.0)


@given(
    st.floats(-1e9, 1e9) | st.just(NEVER),
    st.floats(-1e9, 1e9) | st.just(NEVER),
    st.integers(0, 10**6),
    st.floats(-1e6, 1e6),
)
def test_no_budget_comes_back_further_ahead_than_any_is_written(free_at, cooldown_until, throttled, now) -> None:
    """A slot years away would be an outage; two hours is more than any rule gives."""
    found = read_budget(write_budget(Budget(free_at, cooldown_until, throttled), now), now)
    for moment in (found.free_at, found.cooldown_until):
        assert moment == NEVER or (math.isfinite(moment) and moment <= now + 7200 + 1e-6)
    assert found.throttled == throttled


@pytest.mark.parametrize("data", [b'{"free_in":1e999,"cooldown_left":0,"throttled":0}', b"[]", b'{"free_in":null}'])
def test_odd_numbers_are_no_budget(data) -> None:
    """Or one of no consequence."""
    try:
        found = read_budget(data, 0.0)
    except RecordError:
        return
    assert found.free_at <= 7200
