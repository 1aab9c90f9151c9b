"""A store in Redis or Valkey, shared by many hosts.

Time is the server's: each record has the server's time of its writing, and each answer the server's time of now, so
that hosts whose clocks differ agree. A change is a compare-and-set on the record's version, which is thereby the
fencing token as well: a holder that was stopped until its lock ended finds another version there and starts again.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from sidecar.background import in_thread
from sidecar.clock import Clock
from sidecar.errors import SecretUnavailableError
from sidecar.secret import SecretSource
from sidecar.tokens.stores.base import Record, Release, StoreError, Update

PREFIX: Final = "camunda-sidecar:"
KEPT_SECONDS: Final = 2 * 24 * 3600
"""A record means nothing any more after this."""
LEASE_SECONDS: Final = 15.0
"""Seconds after which a lock ends by itself: longer than a token request usually takes."""
TIMEOUT: Final = 2.0
TRIES: Final = 1000

# Answers version, data, microseconds of writing, microseconds now. What is no record of this format is removed. A
# record from the future (the server's clock was set back) is taken to be from now, once and for all.
LOAD: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'none' and (kind ~= 'hash' or not tonumber(redis.call('HGET', KEYS[1], 'version') or '')
    or not tonumber(redis.call('HGET', KEYS[1], 'written') or '') or redis.call('HEXISTS', KEYS[1], 'data') == 0) then
  redis.call('DEL', KEYS[1])
end
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

# Gives a lock back if it is still its owner's.
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

    async def open(self) -> None:
        """Connect, with the address as it is now."""
        await self.close()
        try:
            url = await in_thread(self._url.read)
            self._redis = Redis.from_url(
                url.reveal(),
                socket_timeout=TIMEOUT,
                socket_connect_timeout=TIMEOUT,
                health_check_interval=30,
                driver_info=None,  # the default looks its version up on the disk, in the loop
            )
        except SecretUnavailableError as error:
            raise StoreError(error.detail) from None
        except ValueError as error:
            raise _unusable(error) from None

    async def check(self) -> None:
        """Write a key that ends at once: a replica, or a server that is full, answers and takes nothing."""
        await self._ask(lambda redis: redis.set(f"{PREFIX}check", b"", px=1))

    async def load(self, key: str) -> Record | None:
        """The newest record."""
        _, record, _ = await self._load(key)
        return record

    async def update(self, key: str, change: Update, *, written: float | None = None) -> Record | None:
        """Change a record."""
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

    async def acquire(self, key: str) -> Release | None:
        """Try once to win a lock, which ends by itself."""
        owner, milliseconds = secrets.token_hex(16), round(LEASE_SECONDS * 1000)
        won = await self._ask(lambda redis: redis.set(f"{PREFIX}{key}:lock", owner, nx=True, px=milliseconds))
        if not won:
            return None

        async def release() -> None:
            await self._script(RELEASE, f"{key}:lock", owner)

        return release

    async def close(self) -> None:
        """Let the connections go."""
        redis, self._redis = self._redis, None
        if redis is not None:
            await redis.aclose()

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
        return await self._ask(lambda redis: redis.eval(script, 1, f"{PREFIX}{key}", *arguments))

    async def _ask(self, command: Callable[[Redis], Any]) -> Any:
        if self._redis is None:
            raise StoreError("Redis is not connected.")
        try:
            return await command(self._redis)
        except (RedisError, OSError, RuntimeError) as error:
            raise _unusable(error) from None


def _unusable(error: Exception) -> StoreError:
    # Some of the client's errors quote the address, whose password must not be shown.
    text = f"Redis cannot be used ({type(error).__name__}). Check token_store.url and the server."
    return StoreError(text, readable=isinstance(error, ResponseError))
