"""What leaves the process is encrypted.

Key and fingerprint both come out of scrypt (RFC 7914) over the credential's own secret, with a salt that follows from
the identity. Who has a store's content must pay scrypt for every guess at a secret, and learns nothing else. Records
are AES-256-GCM (NIST SP 800-38D) with a random nonce. Identity and version are associated data, so that a record that
is passed off as another identity's, or under another version, cannot be decrypted.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from sidecar.background import in_thread
from sidecar.secret import Secret
from sidecar.tokens.allocator import keep_little
from sidecar.tokens.identity import Identity, canonical

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

# 16 MiB and about a quarter of a second on one core, once per credential and start; OWASP's equal of 2^17, 8, 1.
SCRYPT_COST: Final = 2**14
SCRYPT_BLOCK: Final = 8
SCRYPT_LANES: Final = 5
NONCE_BYTES: Final = 12
FORMAT: Final = b"camunda-sidecar token 2"


@dataclass(frozen=True, slots=True)
class Keys:
    """What is derived from one secret."""

    key: bytes = field(repr=False)
    fingerprint: bytes = field(repr=False)


def derive(secret: Secret, salt: bytes) -> Keys:
    """Derive the keys of a secret, which takes long on purpose, and blocks."""
    keep_little()
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


def _cipher(keys: Keys) -> AESGCM:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 (see `import_cipher`)

    return AESGCM(keys.key)


async def import_cipher(keys: Keys) -> None:
    """Import the cipher, off the event loop, before the first record: 9 MB that an idle sidecar does without."""
    if "cryptography.hazmat.primitives.ciphers.aead" not in sys.modules:
        await in_thread(lambda: _cipher(keys))


def encrypt(keys: Keys, bound_to: tuple[bytes, ...], plain: bytes) -> bytes:
    """Encrypt one record. `bound_to` is associated data: without the same it cannot be decrypted."""
    nonce = secrets.token_bytes(NONCE_BYTES)
    return nonce + _cipher(keys).encrypt(nonce, plain, canonical((FORMAT, *bound_to)))


def decrypt(keys: Keys, bound_to: tuple[bytes, ...], encrypted: bytes) -> bytes:
    """Decrypt one record.

    Raises:
        InvalidTag, ValueError: it was encrypted with another key or bound to something else, or is damaged.
    """
    nonce, rest = encrypted[:NONCE_BYTES], encrypted[NONCE_BYTES:]
    return _cipher(keys).decrypt(nonce, rest, canonical((FORMAT, *bound_to)))


class KeyRing:
    """Derived keys, each derived once and off the event loop."""

    def __init__(self) -> None:
        self._derived: dict[tuple[Secret, bytes], asyncio.Task[Keys]] = {}
        self._deriving = asyncio.Lock()

    async def keys(self, identity: Identity) -> Keys:
        """The keys of an identity's secret."""
        wanted = identity.secret, identity.salt
        task = self._derived.get(wanted)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = self._derived[wanted] = asyncio.get_running_loop().create_task(self._derive(*wanted))
        return await asyncio.shield(task)

    async def _derive(self, secret: Secret, salt: bytes) -> Keys:
        async with self._deriving:  # one at a time: each takes 16 MiB
            return await in_thread(lambda: derive(secret, salt))

    def forget(self, secret: Secret) -> None:
        """Forget a secret that is not in force any more."""
        for known in [known for known in self._derived if known[0] == secret]:
            del self._derived[known]
