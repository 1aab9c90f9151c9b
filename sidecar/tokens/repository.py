"""One identity's token record on the store: encrypted on the way out, decrypted on the way in."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import reduce

import structlog

from sidecar.tokens.context import Context
from sidecar.tokens.encryption import Keys, import_cipher
from sidecar.tokens.identity import Identity
from sidecar.tokens.serialization import RecordError, decrypt_record, encrypt_record
from sidecar.tokens.stores.base import Record, Release
from sidecar.tokens.token_record import Change, TokenRecord, apply

log = structlog.get_logger(__name__)

FIRST_LOCK, SECOND_LOCK = 0.5, 0.75
"""Shares of `max_wait` until which the first and the second lock of an identity are tried for."""
POLL_FIRST, POLL_MOST = 0.05, 0.25
"""Seconds between two tries, growing."""


class TokenRepository:
    """What all processes on the store know of an identity. Its methods raise what the store raises."""

    def __init__(self, context: Context, identity: Identity) -> None:
        self.unsaved: list[Change] = []
        """Changes that are decided and not on the store yet."""
        self._store = context.store
        self._keyring = context.keyring
        self._identity = identity
        self._saving = asyncio.Lock()

    async def load(self) -> TokenRecord:
        """The record as it is, with the changes of this process."""
        await self.save()
        keys, digest = await self._keys()
        stored = await self._store.load(f"token-{digest}")
        if stored is not None:
            await import_cipher(keys)
        return self._opened(stored, keys, digest)

    async def save(self) -> None:
        """Make the changes that are not on the store yet, to the record as it is then."""
        async with self._saving:
            if self.unsaved:
                changes = list(self.unsaved)
                await self._change(changes)
                del self.unsaved[: len(changes)]

    async def _change(self, changes: Sequence[Change]) -> None:
        keys, digest = await self._keys()
        await import_cipher(keys)

        def update(stored: Record | None, now: float) -> bytes | None:
            found = self._opened(stored, keys, digest)
            changed = reduce(apply, changes, found)
            return None if changed == found else encrypt_record(changed, keys, digest, now)

        await self._store.update(f"token-{digest}", update)

    async def acquire(self, rank: int) -> Release | None:
        """Try to win one of the identity's locks, which are numbered from 0."""
        _, digest = await self._keys()
        return await self._store.acquire(f"token-{digest}-{rank}")

    async def released(self, rank: int, seconds: float) -> None:
        """Wait until that lock may be free, for about so many seconds."""
        _, digest = await self._keys()
        await self._store.released(f"token-{digest}-{rank}", seconds)

    async def _keys(self) -> tuple[Keys, str]:
        keys = await self._keyring.keys(self._identity)
        return keys, self._identity.digest(keys.fingerprint)

    def _opened(self, stored: Record | None, keys: Keys, digest: str) -> TokenRecord:
        if stored is None or stored.damaged:
            return TokenRecord()
        try:
            # Where its age is uncertain it counts as old: its token ends the sooner.
            return decrypt_record(stored.data, keys, digest, stored.earliest)
        except RecordError as error:
            log.warning("a token's record on the store is damaged; a new one is begun", reason=str(error))
            return TokenRecord()


class FetchLock:
    """An identity's lock for one fetch, tried for as long as it is worth it.

    The lock saves token requests, and nothing breaks without it. A process that does not win it within half of
    `max_wait` (its holder may be stopped) tries a second one, so that of sixty-four such processes one goes on; after a
    quarter more it goes on without. The rate limit keeps requests apart in any case.
    """

    def __init__(self, repository: TokenRepository, context: Context) -> None:
        self._repository = repository
        self._context = context
        self._release: Release | None = None

    def begin(self) -> None:
        """A fetch begins now."""
        self._began, self._pause = self._context.clock.boottime(), POLL_FIRST

    async def attempt(self) -> bool:
        """Whether the fetch may go on: the lock is held, or was tried for long enough. If not, wait a moment."""
        waited = (self._context.clock.boottime() - self._began) / self._context.requests.max_wait
        if self._release is not None or waited >= SECOND_LOCK:
            return True
        rank = 0 if waited < FIRST_LOCK else 1
        self._release = await self._repository.acquire(rank)
        if self._release is None:
            await self._repository.released(rank, self._pause * self._context.rng.uniform(0.5, 1.5))
            self._pause = min(POLL_MOST, 1.5 * self._pause)
        return self._release is not None

    async def release(self) -> None:
        """Give the lock back, if it is held."""
        release, self._release = self._release, None
        if release is not None:
            await release()
