"""What a store is: small records that change atomically, and thrifty locks.

No moment is written that another machine, or this one after its clock was stepped, would read differently: a record
holds seconds relative to its writing, and the store knows how long ago that was.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol


class StoreError(Exception):
    """The store cannot be used now; the text says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Record:
    """What was written, and when: moments of this machine's boot clock, in which this process computes."""

    data: bytes = field(repr=False)
    written: float
    """The moment of writing; the latest possible, where no clock is known to have run on."""
    earliest: float
    """The earliest possible; usually the same."""
    damaged: bool = False
    """There was a record, but it cannot be trusted; `data` is empty."""

    @property
    def certain(self) -> bool:
        """Whether the moment of writing is known."""
        return self.written == self.earliest


Update = Callable[[Record | None, float], bytes | None]
"""From the record as it is, and now, to its new content, or None to leave it.

Pure: it may run several times, in a thread. `now` is the boot clock's, and it is the moment that counts as the new
record's writing, however long that takes.
"""


SALTED: Final = "token-"
"""So begin the keys of records that are sealed, under names that follow from the store's salt."""

Move = tuple[str, Callable[[Record], bytes | None]]
"""A sealed record's key on a store with another salt, and its content there; None where it cannot be opened."""
Reseal = Callable[[bytes, bytes], Awaitable[Mapping[str, Move]]]
"""By the keys on a store with the first salt, what becomes of their records on one with the second."""


class Lease(Protocol):
    """A lock that is held."""

    async def release(self) -> None:
        """Give it back; harmless where it was lost."""
        ...


class Store(Protocol):
    """Records by key. Keys are of letters, digits and hyphens."""

    @property
    def salt(self) -> bytes:
        """The store's own random bytes, the same for all that share it; known once it is open."""
        ...

    async def open(self, salt: bytes | None = None) -> None:
        """Make it usable; may be called again after a failure. `salt` is for a store that has none yet.

        Raises:
            StoreError: it is not usable.
        """
        ...

    async def load(self, key: str) -> Record | None:
        """The newest record.

        Raises:
            StoreError: see there.
        """
        ...

    async def update(self, key: str, change: Update, *, written: float | None = None) -> Record | None:
        """Change a record atomically; what it is afterwards.

        It is applied at least once: after a long stop in the middle it may be applied twice. `written` is a moment of
        the boot clock, where it is an earlier one that shall count as the record's writing.

        Raises:
            StoreError: see there.
        """
        ...

    async def acquire(self, key: str) -> Lease | None:
        """Try once to win a lock, without waiting. It is thrift, not safety: it may be lost.

        Raises:
            StoreError: see there.
        """
        ...

    async def close(self) -> None:
        """Let go of what is held."""
        ...
