"""How records are written: moments as seconds relative to the writing, tokens encrypted."""

from __future__ import annotations

import math
from typing import Final, TypeVar

import msgspec

from sidecar.tokens.encryption import Keys, decrypt, encrypt
from sidecar.tokens.rate_limit import RateLimit
from sidecar.tokens.token_record import NEVER, TokenRecord

T = TypeVar("T")

MOST_AHEAD: Final = 7200.0
"""Seconds: no slot and no cool-down is ever further ahead when it is written."""


class RecordError(Exception):
    """This is no record of this format, or it is damaged."""


def encrypt_record(record: TokenRecord, keys: Keys, identity: str, now: float) -> bytes:
    """One identity's record: its token's version, then the rest encrypted. `identity` is its digest."""
    version = (record.token.version if record.token else "").encode()
    plain = msgspec.msgpack.encode(record.shifted(-now))
    return msgspec.msgpack.encode((version, encrypt(keys, (identity.encode(), version), plain)))


def decrypt_record(data: bytes, keys: Keys, identity: str, written: float) -> TokenRecord:
    """The record again; `written` is the moment of writing on this machine's boot clock.

    Raises:
        RecordError: it was encrypted with another key or for another identity, or is damaged.
    """
    from cryptography.exceptions import InvalidTag  # noqa: PLC0415 (see `import_cipher`)

    version, encrypted = _decoded(data, tuple[bytes, bytes])
    try:
        plain = decrypt(keys, (identity.encode(), version), encrypted)
    except (InvalidTag, ValueError):
        raise RecordError("It was not encrypted for this identity with this secret, or is damaged.") from None
    return _decoded(plain, TokenRecord).shifted(written)


def write_rate_limit(limit: RateLimit, now: float) -> bytes:
    """One issuer origin's record, in which nothing is secret; `now` of the boot clock."""
    return msgspec.msgpack.encode((limit.free_at - now, limit.cooldown_until - now, limit.throttled))


def read_rate_limit(data: bytes, written: float) -> RateLimit:
    """The record again; `written` is the moment of writing on this machine's boot clock.

    Raises:
        RecordError: this is none.
    """
    free_in, cooldown_left, throttled = _decoded(data, tuple[float, float, int])
    return RateLimit(_moment(free_in, written), _moment(cooldown_left, written), max(0, throttled))


def _moment(left: float, written: float) -> float:
    return NEVER if math.isnan(left) else written + min(left, MOST_AHEAD)


def _decoded(data: bytes, kind: type[T]) -> T:
    try:
        return msgspec.msgpack.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RecordError(f"It cannot be read: {error}.") from None
