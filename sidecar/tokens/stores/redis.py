"""A store in Redis or Valkey, shared by many hosts.

Time is the server's: each record has the server's time of its writing, and each answer the server's time of now, so
that hosts whose clocks differ agree. A change is a compare-and-set on the record's version, which is thereby the
fencing token as well: a holder that was stopped until its lock ended finds another version there and starts again.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable
from typing import Any, Final

from redis.asyncio import Redis, RedisCluster
from redis.exceptions import RedisError

from sidecar.clock import Clock
from sidecar.config import settings
from sidecar.errors import SecretUnavailableError
from sidecar.tokens.rate_limit import Turns
from sidecar.tokens.stores.base import Record, Release, StoreError, TlsContext, Update
from sidecar.tokens.stores.redis_client import check_commands, connect, disconnect, explained

KEPT_SECONDS: Final = 2 * 24 * 3600
"""A record means nothing any more after this."""
LEASE_SECONDS: Final = 15.0
"""Seconds after which a lock ends by itself: longer than a token request usually takes."""
PLACE_SECONDS: Final = 60.0
"""Seconds without a sign of life after which a process is not counted any more, and its place is another's."""
STRANGER_SPREAD: Final = 5
"""A process that has never reached Redis takes a random turn: so many times as rare, as some of them will coincide."""
FEW: Final = 5
"""So few processes keep to the rate whenever each of them takes its turns."""
EXACT_BITS: Final = 4
"""The number of processes is rounded up to so many bits: nearly always all of them remember the same number."""
WAIT_SECONDS: Final = 1.0
"""Seconds for which the server is asked at once to tell of a release."""
LEAST_WAIT_SECONDS: Final = 0.1
"""Seconds between two looks for a release, whatever the server answers."""
TRIES: Final = 1000

# Answers version, data, microseconds of writing, microseconds now. What is no record of this format is removed: its
# numbers are digits, and no more of them than Python's integers and Lua's doubles both take. A
# record from the future (the server's clock was set back) is taken to be from now, once and for all.
LOAD: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local kind = redis.call('TYPE', KEYS[1]).ok
local function is_number(field)
  local value = redis.call('HGET', KEYS[1], field) or ''
  return #value < 19 and string.match(value, '^%d+$')
end
if kind ~= 'none' and (kind ~= 'hash' or not is_number('version') or not is_number('written')
    or redis.call('HEXISTS', KEYS[1], 'data') == 0) then
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

# Gives a lock back if it is still its owner's, and tells those who wait for it. KEYS: the lock, a stream of one entry.
RELEASE: Final = """
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('DEL', KEYS[1])
  redis.call('XADD', KEYS[2], 'MAXLEN', 1, '*', 'released', 1)
  redis.call('EXPIRE', KEYS[2], 60)
end
return 0
"""

# A hash of places, from 0 without a gap: who has each, and when that process was last heard of. ARGV: process, its
# place (-1: none yet), how many places it knows of, seconds after which one is free, a random share, seconds to keep.
# Answers place, places, microseconds now, and whether the process's place was lost. A time that is no number, or in the
# future, is that of a process that is gone: nobody else could remove it. Who comes takes a place at the end,
# and moves by and by into free ones. Where the places were lost, the first to notice makes as many as it knew, so that
# each process finds its own again.
PLACE: Final = """
local key, id, place, known = KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local gone = now - ARGV[4]
local function at(number)
  local owner, heard = string.match(redis.call('HGET', key, number) or '', '^(%S+) (%S+)$')
  heard = tonumber(heard or '0') or 0
  if not (heard <= now + 60) then heard = 0 end
  return owner, heard
end
local function put(number, owner, heard)
  redis.call('HSET', key, number, owner .. ' ' .. string.format('%.6f', heard))
end
if redis.call('TYPE', key).ok ~= 'hash' then redis.call('DEL', key) end
local count = redis.call('HLEN', key)
while count > 0 and select(2, at(count - 1)) <= gone do
  count = count - 1
  redis.call('HDEL', key, count)
end
local lost = place < 0 or at(place) ~= id
if lost then
  for number = count, known - 1 do put(number, '-', now) end
  count = math.max(count, known)
  if place < 0 or at(place) ~= '-' then
    place = count
    count = count + 1
  end
elseif place > 0 then
  local other = math.floor(ARGV[5] * place)
  if select(2, at(other)) <= gone then
    put(place, '-', 0)
    place = other
  end
end
put(place, id, now)
redis.call('EXPIRE', key, ARGV[6])
return {place, count, string.format('%.0f', now * 1000000), lost and 1 or 0}
"""


def stranger(processes: int) -> Turns:
    """The turns of a process that has never reached Redis, where so many may share it."""
    count = processes * (STRANGER_SPREAD if processes > FEW else 1)
    return Turns(random.uniform(0, count), count, 0.0)  # noqa: S311 (no secret)


class RedisStore:
    """All keys begin with the prefix; a script's keys have one hash tag, so that a cluster serves as well."""

    def __init__(
        self, configured: settings.RedisStore, clock: Clock, tls_context: TlsContext, *, counted: bool = True
    ) -> None:
        """`counted`: this process is one of those that share the issuers' rate."""
        self._configured = configured
        self._prefix = configured.prefix
        self._clock = clock
        self._tls_context = tls_context
        self._redis: Redis | RedisCluster | None = None
        self._counted = counted
        self._id = secrets.token_hex(8)
        self._place, self._places = -1, 0
        self._offset = 0.0
        """What to add to the boot clock to get the server's time, or a little less."""

    async def open(self) -> None:
        """Connect, with the address as it is now, and see whether all that is needed is allowed."""
        await self.close()
        try:
            self._redis = await connect(self._configured, self._tls_context, self._clock)
        except (SecretUnavailableError, ValueError) as error:
            raise explained(error) from None
        await self._ask(lambda redis: check_commands(redis, self._prefix, self._id))

    async def check(self) -> Turns | None:
        """Say that this process is there: a replica, or a server that is full, answers and takes nothing."""
        if not self._counted:
            await self._ask(lambda redis: redis.set(f"{self._prefix}check:{self._id}", b"", px=1))
            return None
        known, share = self._places, random.random()  # noqa: S311 (no secret)
        arguments = (self._id, self._place, known, PLACE_SECONDS, share, KEPT_SECONDS)
        asked = self._clock.boottime()
        self._place, self._places, now, lost = map(int, await self._script(PLACE, "processes", *arguments))
        step = 1 << max(0, self._places.bit_length() - EXACT_BITS)
        offset = now / 1e6 - (asked + self._clock.boottime()) / 2
        return Turns(self._place, -(-self._places // step) * step, offset, lost=bool(lost and known))

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
        lock, released = self._lock(key)
        won = await self._ask(lambda redis: redis.set(lock, owner, nx=True, px=milliseconds))
        if not won:
            return None

        async def release() -> None:
            await self._ask(lambda redis: redis.eval(RELEASE, 2, lock, released, owner))

        return release

    async def released(self, key: str, seconds: float) -> None:
        """Wait for the lock's release, told by the server; for longer than between two polls, as that is cheap."""
        since = max(0, int((self._clock.boottime() + self._offset) * 1000) - 1)
        wait = round(max(seconds, WAIT_SECONDS) * 1000)
        began = self._clock.boottime()
        await self._ask(lambda redis: redis.xread({self._lock(key)[1]: f"{since}-0"}, count=1, block=wait))
        # An entry from the future (the server's clock was set back) is answered at once, each time.
        await self._clock.sleep(LEAST_WAIT_SECONDS - (self._clock.boottime() - began))

    def _lock(self, key: str) -> tuple[str, str]:
        lock = f"{self._prefix}{{{key}}}:lock"
        return lock, f"{lock}:released"

    async def close(self) -> None:
        """Let the connections go."""
        redis, self._redis = self._redis, None
        if redis is not None:
            await disconnect(redis)

    async def _load(self, key: str) -> tuple[int, Record | None, float]:
        """Version, record, and what to add to the boot clock to get the server's time."""
        version, data, written, now = await self._script(LOAD, key)
        # Measured after the answer: what is written counts as written a little early, never late.
        server = self._offset = int(now) / 1e6 - self._clock.boottime()
        if version is None:
            return 0, None, server
        moment = int(written) / 1e6 - server
        return int(version), Record(bytes(data), moment, moment), server

    async def _script(self, script: str, key: str, *arguments: bytes | float | str) -> Any:
        return await self._ask(lambda redis: redis.eval(script, 1, f"{self._prefix}{key}", *arguments))

    async def _ask(self, command: Callable[[Redis | RedisCluster], Any]) -> Any:
        if self._redis is None:
            raise StoreError("Redis is not connected.")
        try:
            return await command(self._redis)
        except (RedisError, OSError, RuntimeError, SecretUnavailableError) as error:
            raise explained(error) from None
