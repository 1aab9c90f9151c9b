"""What leaves the process is encrypted (DESIGN 5.10).

Key and fingerprint both come out of scrypt (RFC 7914) over the credential's own secret and the store's salt: who has
a store's content must pay scrypt for every guess at a secret, and learns nothing else. Records are AES-256-GCM
(NIST SP 800-38D) with a random nonce; identity and version are associated data, so that a record passed off as
another identity's, or under another version, does not open.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sidecar.secret import Secret
from sidecar.tokens.allocator import keep_little
from sidecar.tokens.identity import canonical

SALT_BYTES: Final = 16
# 16 MiB and about a quarter of a second on one core, once per secret and start; OWASP's equal of 2^17, 8, 1.
SCRYPT_COST: Final = 2**14
SCRYPT_BLOCK: Final = 8
SCRYPT_LANES: Final = 5
NONCE_BYTES: Final = 12
FORMAT: Final = b"camunda-sidecar token 1"


class UnsealError(Exception):
    """Not sealed by this key for this identity, or damaged."""


@dataclass(frozen=True, slots=True)
class Keys:
    """Of one secret on one store."""

    key: bytes = field(repr=False)
    fingerprint: bytes = field(repr=False)


def derive(secret: Secret, salt: bytes) -> Keys:
    """Slow on purpose; see `KeyRing`."""
    derived = hashlib.scrypt(
        secret.reveal().encode(),
        salt=salt,
        n=SCRYPT_COST,
        r=SCRYPT_BLOCK,
        p=SCRYPT_LANES,
        maxmem=64 << 20,
        dklen=64,
    )
    return Keys(derived[:32], derived[32:])


def seal(keys: Keys, identity: str, version: str, plain: bytes) -> bytes:
    """Encrypts one record; `identity` is its digest, `version` its token's."""
    nonce = secrets.token_bytes(NONCE_BYTES)
    return nonce + AESGCM(keys.key).encrypt(nonce, plain, _associated(identity, version))


def unseal(keys: Keys, identity: str, version: str, sealed: bytes) -> bytes:
    """The record.

    Raises:
        UnsealError: it is another's, or damaged.
    """
    try:
        return AESGCM(keys.key).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], _associated(identity, version))
    except (InvalidTag, ValueError):
        raise UnsealError("not sealed for this identity by this secret, or damaged") from None


def _associated(identity: str, version: str) -> bytes:
    return canonical((FORMAT, identity.encode(), version.encode()))


class KeyRing:
    """Derived keys, each derived once and off the event loop."""

    def __init__(self) -> None:
        self._derived: dict[tuple[Secret, bytes], asyncio.Future[Keys]] = {}
        # One at a time: each takes 16 MiB.
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="scrypt", initializer=keep_little)

    async def keys(self, secret: Secret, salt: bytes) -> Keys:
        """Of a secret on a store with this salt."""
        wanted = secret, salt
        if wanted not in self._derived:
            self._derived[wanted] = asyncio.get_running_loop().run_in_executor(self._pool, derive, secret, salt)
        return await asyncio.shield(self._derived[wanted])

    def forget(self, secret: Secret) -> None:
        """A secret that is not in force any more."""
        for known in [known for known in self._derived if known[0] == secret]:
            del self._derived[known]

    def close(self) -> None:
        """Ends the thread."""
        self._pool.shutdown(wait=False, cancel_futures=True)
