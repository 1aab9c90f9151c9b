"""One identity's record on the store: sealed on the way out, opened on the way in."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from sidecar.tokens.identity import Identity
from sidecar.tokens.record import RecordError, seal_shared, unseal_shared
from sidecar.tokens.sealing import KeyRing, Keys
from sidecar.tokens.shared import Change, Shared, apply
from sidecar.tokens.stores.base import SALTED, Lease, Move, Record, Store

log = structlog.get_logger(__name__)


class Ledger:
    """What all processes on the store know of an identity."""

    def __init__(self, store: Store, keyring: KeyRing, identity: Identity) -> None:
        self._store = store
        self._keyring = keyring
        self._identity = identity

    async def load(self) -> Shared:
        """As it is.

        Raises:
            StoreError: the store cannot be used.
        """
        keys, digest = await self._keys()
        return self._open(await self._store.load(f"{SALTED}{digest}"), keys, digest)

    async def change(self, changes: Sequence[Change]) -> Shared:
        """Make changes, whatever others did meanwhile; as it is then.

        Raises:
            StoreError: the store cannot be used.
        """
        keys, digest = await self._keys()
        result = Shared()

        def update(record: Record | None, now: float) -> bytes | None:
            nonlocal result
            found = result = self._open(record, keys, digest)
            for change in changes:
                result = apply(result, change)
            return None if result == found else seal_shared(result, keys, digest, now)

        await self._store.update(f"{SALTED}{digest}", update)
        return result

    async def acquire(self, rank: int) -> Lease | None:
        """Try to win one of the identity's locks.

        Raises:
            StoreError: the store cannot be used.
        """
        _, digest = await self._keys()
        return await self._store.acquire(f"{SALTED}{digest}-{rank}")

    async def move(self, before: bytes, after: bytes) -> tuple[str, Move]:
        """The record's key on a store with one salt, and what becomes of it on a store with another."""
        old = await self._keyring.keys(self._identity.secret, before)
        new = await self._keyring.keys(self._identity.secret, after)
        digest, moved = self._identity.digest(old.fingerprint), self._identity.digest(new.fingerprint)

        def reseal(record: Record) -> bytes | None:
            try:
                shared = unseal_shared(record.data, old, digest, record.written)
            except RecordError:
                return None
            return seal_shared(shared, new, moved, record.written)

        return f"{SALTED}{digest}", (f"{SALTED}{moved}", reseal)

    async def _keys(self) -> tuple[Keys, str]:
        while True:
            salt = self._store.salt
            keys = await self._keyring.keys(self._identity.secret, salt)
            if salt == self._store.salt:  # or the store was opened while the keys were derived
                return keys, self._identity.digest(keys.fingerprint)

    def _open(self, record: Record | None, keys: Keys, digest: str) -> Shared:
        if record is None or record.damaged:
            return Shared()
        try:
            # The older it may be, the sooner its token ends.
            return unseal_shared(record.data, keys, digest, record.earliest)
        except RecordError as error:
            log.warning("a token's record on the store is damaged; a new one is begun", reason=str(error))
            return Shared()
