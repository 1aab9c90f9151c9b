"""A store in Redis or Valkey, shared by many hosts.

Time is the server's: each record carries the server's time of its writing, and each answer the server's time of now,
so that hosts whose clocks differ agree. A change is a compare-and-set on the record's version, which so is the
fencing token as well: a holder that was stopped until its lease ended finds another version there and starts again.
"""

from __future__ import annotations

import secrets
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from sidecar.background import in_thread
from sidecar.clock import Clock
from sidecar.errors import SecretUnavailableError
from sidecar.secret import SecretSource
from sidecar.tokens.sealing import SALT_BYTES
from sidecar.tokens.stores.base import Lease, Record, StoreError, Update

PREFIX: Final = "camunda-sidecar:"
KEPT_SECONDS: Final = 2 * 24 * 3600
"""No token, quarantine or back-off means anything after this."""
LEASE_SECONDS: Final = 15.0
"""Of a lock whose holder says no more: longer than a fetch usually takes, and no longer than patience anyway."""
TIMEOUT: Final = 2.0
TRIES: Final = 1000

# Answers version, data, microseconds of writing, microseconds now. A record from the future (the server's clock was
# set back) is taken to be from now, once and for all.
LOAD: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local record = redis.call('HMGET', KEYS[1], 'version', 'data', 'written')
if record[3] and tonumber(record[3]) > now then
  redis.call('HSET', KEYS[1], 'written', string.format('%.0f', now))
  record[3] = string.format('%.0f', now)
end
return {record[1], record[2], record[3], string.format('%.0f', now)}
"""

# KEYS: record. ARGV: expected version (0: none), data, microseconds of writing, seconds to keep.
SAVE: Final = """
local version = tonumber(redis.call('HGET', KEYS[1], 'version') or '0')
if version ~= tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'version', version + 1, 'data', ARGV[2], 'written', ARGV[3])
redis.call('EXPIRE', KEYS[1], ARGV[4])
return 1
"""

# Gives a lease back if it is still its owner's.
RELEASE: Final = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""


class RedisStore:
    """All keys begin with `camunda-sidecar:`; every script touches one key, so that a cluster serves as well."""

    def __init__(self, url: SecretSource, clock: Clock) -> None:
        """`url` as redis-py has it; it may hold a password."""
        self._url = url
        self._clock = clock
        self._redis: Redis | None = None
        self._salt = b""

    @property
    def salt(self) -> bytes:
        """See `Store`."""
        return self._salt

    async def open(self, salt: bytes | None = None) -> None:
        """See `Store`."""
        await self.close()
        try:
            await self._connect(salt or secrets.token_bytes(SALT_BYTES))
        except SecretUnavailableError as error:
            raise StoreError(error.detail) from None
        except (RedisError, OSError, ValueError) as error:
            await self.close()
            raise _unusable(error) from None
        if len(self._salt) != SALT_BYTES:
            await self.close()
            raise StoreError(f"The key {PREFIX}salt in Redis is not the sidecar's. Remove it, or use another database.")

    async def _connect(self, salt: bytes) -> None:
        url = await in_thread(self._url.read)
        self._redis = Redis.from_url(
            url.reveal(),
            socket_timeout=TIMEOUT,
            socket_connect_timeout=TIMEOUT,
            health_check_interval=30,
            driver_info=None,  # the default looks its version up on the disk, in the loop
        )
        key = f"{PREFIX}salt"
        await self._redis.set(key, salt, nx=True)
        found = await self._redis.get(key)
        self._salt = found if isinstance(found, bytes) else b""

    async def load(self, key: str) -> Record | None:
        """See `Store`."""
        _, record, _ = await self._load(key)
        return record

    async def update(self, key: str, change: Update, *, written: float | None = None) -> Record | None:
        """See `Store`."""
        for _ in range(TRIES):
            version, record, server = await self._load(key)
            now = self._clock.boottime()
            data = change(record, now)
            if data is None:
                return record
            counts = now if written is None else written
            moment = f"{(server + counts) * 1e6:.0f}"
            if await self._script(SAVE, key, version, data, moment, KEPT_SECONDS):
                return Record(data, counts, counts)
        raise StoreError(f"The record {key} in Redis cannot be changed: others are always faster.")

    async def acquire(self, key: str) -> Lease | None:
        """See `Store`."""
        owner = secrets.token_hex(16)
        name = f"{PREFIX}{key}:lock"
        try:
            won = await self._opened().set(name, owner, nx=True, px=round(LEASE_SECONDS * 1000))
        except (RedisError, OSError) as error:
            raise _unusable(error) from None
        return _RedisLease(self, f"{key}:lock", owner) if won else None

    async def release(self, key: str, owner: str) -> None:
        """Give a lease back."""
        await self._script(RELEASE, key, owner)

    async def close(self) -> None:
        """See `Store`."""
        redis, self._redis = self._redis, None
        if redis is not None:
            await redis.aclose()

    def _opened(self) -> Redis:
        if self._redis is None:
            raise StoreError("Redis is not connected.")
        return self._redis

    async def _load(self, key: str) -> tuple[int, Record | None, float]:
        """Version, record, and what to add to the boot clock to get the server's time."""
        version, data, written, now = await self._script(LOAD, key)
        # Measured after the answer: what is written counts as written a little early, never late.
        server = int(now) / 1e6 - self._clock.boottime()
        if version is None:
            return 0, None, server
        moment = int(written) / 1e6 - server
        return int(version), Record(bytes(data), moment, moment), server

    async def _script(self, script: str, key: str, *arguments: bytes | float | str) -> Any:
        try:
            return await self._opened().eval(script, 1, f"{PREFIX}{key}", *arguments)
        except (RedisError, OSError, RuntimeError) as error:
            raise _unusable(error) from None


class _RedisLease:
    def __init__(self, store: RedisStore, key: str, owner: str) -> None:
        self._store = store
        self._key = key
        self._owner = owner

    async def release(self) -> None:
        await self._store.release(self._key, self._owner)


def _unusable(error: Exception) -> StoreError:
    # Some of the client's errors quote the address, whose password must not be shown.
    return StoreError(f"Redis cannot be used ({type(error).__name__}). Check token_store.url and the server.")
