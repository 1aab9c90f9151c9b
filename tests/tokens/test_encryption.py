"""What leaves the process is encrypted."""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress

import msgspec
import pytest
from cryptography.exceptions import InvalidTag
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.secret import Secret
from sidecar.tokens import encryption
from sidecar.tokens.encryption import KeyRing, Keys, decrypt, derive, encrypt
from sidecar.tokens.grant import Grant
from sidecar.tokens.identity import Identity
from sidecar.tokens.rate_limit import RateLimit
from sidecar.tokens.serialization import (
    RecordError,
    decrypt_record,
    encrypt_record,
    read_rate_limit,
    write_rate_limit,
)
from sidecar.tokens.token_record import NEVER, Backoff, Quarantine, Token, TokenRecord

ISSUER = "https://login.example/oauth/token"
KEYS = Keys(b"k" * 32, b"f" * 32)
RECORD = TokenRecord(
    token=Token("v1", Grant(b"Authorization: Bearer TOKENVALUE\r\n", 3600.0, b"X-CSRF-TOKEN: 1\r\n"), 900.0),
    refused_versions=("refused-before",),
    forced=Backoff(2, 1100.0),
    failing=Backoff(1, 1001.0),
    quarantine=Quarantine(3, 1200.0, "access_denied", "No permission."),
)


def test_encrypted_and_decrypted() -> None:
    """With the same key, bound to the same identity and version."""
    assert decrypt(KEYS, (b"identity", b"v1"), encrypt(KEYS, (b"identity", b"v1"), b"plain")) == b"plain"


@pytest.mark.parametrize(
    ("keys", "bound_to", "change"),
    [
        (Keys(b"x" * 32, b""), (b"identity", b"v1"), None),
        (KEYS, (b"another", b"v1"), None),
        (KEYS, (b"identity", b"v2"), None),
        (KEYS, (b"identit", b"yv1"), None),
        (KEYS, (b"identity", b"v1"), lambda encrypted: encrypted[:-1]),
        (KEYS, (b"identity", b"v1"), lambda encrypted: encrypted[:5]),
        (KEYS, (b"identity", b"v1"), lambda _: b""),
        (KEYS, (b"identity", b"v1"), lambda data: data[:20] + bytes([data[20] ^ 1]) + data[21:]),
    ],
)
def test_anything_else_cannot_be_decrypted(keys, bound_to, change) -> None:
    """Identity and version are associated data."""
    encrypted = encrypt(KEYS, (b"identity", b"v1"), b"plain and longer than that")
    with pytest.raises((InvalidTag, ValueError)):
        decrypt(keys, bound_to, change(encrypted) if change else encrypted)


def test_no_two_are_alike() -> None:
    """A random nonce each time."""
    assert len({encrypt(KEYS, (b"identity", b"v1"), b"plain") for _ in range(100)}) == 100


def test_key_and_fingerprint_follow_from_secret_and_salt_at_scrypts_price() -> None:
    """Both: neither the fingerprint nor the sealed record is a cheap oracle. The price is OWASP's."""
    one = derive(Secret("secret"), b"salt" * 4)
    assert one == derive(Secret("secret"), b"salt" * 4)
    others = [derive(Secret("secreu"), b"salt" * 4), derive(Secret("secret"), b"tlas" * 4)]
    assert len({one.key, one.fingerprint, *(keys.key for keys in others), *(keys.fingerprint for keys in others)}) == 6
    assert 128 * encryption.SCRYPT_COST * encryption.SCRYPT_BLOCK >= 16 << 20
    assert encryption.SCRYPT_LANES >= 5
    assert "secret" not in repr(one)
    assert repr(one.key) not in repr(one)


def identity(secret: str = "secret", audience: str = "a", client: str = "me") -> Identity:
    return Identity(ISSUER, (("audience", audience), ("client_id", client)), Secret(secret))


async def test_keys_are_derived_once_for_all_audiences_and_off_the_loop(monkeypatch) -> None:
    """A hundred askers wait for one derivation, in a thread; the loop goes on."""
    derivations = []

    def slow(secret: Secret, salt: bytes) -> Keys:
        derivations.append(secret)
        return derive(secret, salt)

    monkeypatch.setattr(encryption, "derive", slow)
    ring = KeyRing()
    turns = 0
    asking = asyncio.gather(*(ring.keys(identity(audience=str(number))) for number in range(100)))
    while not asking.done():
        turns += 1
        await asyncio.sleep(0)
    assert len(set(map(id, await asking))) == 1
    assert len(derivations) == 1
    assert turns > 10
    await ring.keys(identity(client="another"))
    ring.forget(Secret("secret"))
    await ring.keys(identity())
    assert len(derivations) == 3


async def test_who_goes_away_does_not_cancel_the_derivation() -> None:
    """The others wait for the same."""
    ring, one = KeyRing(), identity()
    leaving = asyncio.ensure_future(ring.keys(one))
    staying = asyncio.ensure_future(ring.keys(one))
    await asyncio.sleep(0)
    leaving.cancel()
    assert await staying == derive(one.secret, one.salt)


async def test_a_derivation_that_fails_is_tried_again(monkeypatch) -> None:
    """There was no memory for it just then; that is no reason to serve no token any more."""
    ring, failing = KeyRing(), [MemoryError]

    def derive_or_fail(secret: Secret, salt: bytes) -> Keys:
        if failing:
            raise failing.pop()
        return derive(secret, salt)

    monkeypatch.setattr(encryption, "derive", derive_or_fail)
    with pytest.raises(MemoryError):
        await ring.keys(identity())
    assert await ring.keys(identity()) == derive(Secret("secret"), identity().salt)


@pytest.mark.parametrize(
    "other", [identity(client="another"), Identity(ISSUER + "2", identity().parameters, Secret("x"))]
)
def test_the_salt_follows_from_who_asks_whom(other) -> None:
    """The same on every machine; another for every issuer and every client or user, so that no table serves for two."""
    assert identity().salt == identity(secret="changed", audience="another").salt != other.salt
    users = [Identity(ISSUER, (("username", name),), Secret("x")).salt for name in ("demo", "admin")]
    assert users[0] != users[1]


@pytest.mark.parametrize("by", [0.0, 50.0, -5000.0])
def test_a_record_comes_back_shifted_to_the_readers_clock(by) -> None:
    """Written at 1,000 by one clock; the reader's says `by` more."""
    data = encrypt_record(RECORD, KEYS, "identity", 1000.0)
    found = decrypt_record(data, KEYS, "identity", 1000.0 + by)
    assert found == TokenRecord(
        token=Token("v1", RECORD.token.grant, 900.0 + by),
        refused_versions=("refused-before",),
        forced=Backoff(2, 1100.0 + by),
        failing=Backoff(1, 1001.0 + by),
        quarantine=Quarantine(3, 1200.0 + by, "access_denied", "No permission."),
    )


@pytest.mark.parametrize(("keys", "whose"), [(Keys(b"x" * 32, b""), "identity"), (KEYS, "another")])
def test_another_identitys_record_is_none(keys, whose) -> None:
    """Nor one of another secret: who moves files about gains nothing."""
    with pytest.raises(RecordError, match="not encrypted for this identity"):
        decrypt_record(encrypt_record(RECORD, KEYS, "identity", 1000.0), keys, whose, 1000.0)


def test_an_empty_record_comes_back_empty() -> None:
    """Infinities do not travel in JSON."""
    assert decrypt_record(encrypt_record(TokenRecord(), KEYS, "i", 1.0), KEYS, "i", 5.0) == TokenRecord()


def test_nothing_of_a_record_can_be_read() -> None:
    """But its version, which is random."""
    data = encrypt_record(RECORD, KEYS, "identity", 1000.0)
    for secret in (b"TOKENVALUE", b"CSRF", b"access_denied", b"permission", b"lifetime", b"refused-before"):
        assert secret not in data


@given(st.binary(max_size=200))
@settings(max_examples=200)
def test_garbage_is_no_record(data) -> None:
    """It is no token's, and breaks nothing; what looks like a budget's keeps nobody for longer than any can."""
    with pytest.raises(RecordError):
        decrypt_record(data, KEYS, "identity", 0.0)
    with suppress(RecordError):
        assert read_rate_limit(data, 0.0).free_at <= 7200


@given(
    st.floats(-1e9, 1e9) | st.just(NEVER),
    st.floats(-1e9, 1e9) | st.just(NEVER),
    st.integers(0, 10**6),
    st.floats(-1e6, 1e6),
)
def test_no_budget_comes_back_further_ahead_than_any_is_written(free_at, cooldown_until, throttled, now) -> None:
    """A slot years away would be an outage; two hours is more than any rule gives."""
    found = read_rate_limit(write_rate_limit(RateLimit(free_at, cooldown_until, throttled), now), now)
    for moment in (found.free_at, found.cooldown_until):
        assert moment == NEVER or (math.isfinite(moment) and moment <= now + 7200 + 1e-6)
    assert found.throttled == throttled


@pytest.mark.parametrize(
    "data",
    [
        msgspec.msgpack.encode((float("inf"), float("nan"), -5)),
        msgspec.msgpack.encode((1e300, -1e300, 10**9)),
        msgspec.msgpack.encode(()),
        b'{"free_in":0.5,"cooldown_left":0,"throttled":0}',
    ],
)
def test_odd_numbers_are_no_budget(data) -> None:
    """Or one of no consequence."""
    with suppress(RecordError):
        found = read_rate_limit(data, 0.0)
        assert max(found.free_at, found.cooldown_until) <= 7200
