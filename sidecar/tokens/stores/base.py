"""What a store is: small records that change atomically, and locks that save work.

A record holds no moment, as another machine, or this one after its clock was set, would read it differently. It holds
seconds relative to its writing, and the store knows how long ago that was.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from ssl import SSLContext
from typing import Protocol

from sidecar.config.settings import Tls
from sidecar.tokens.rate_limit import Turns


class StoreError(Exception):
    """The store cannot be used now; the text says why, and what to do."""

    def __init__(self, text: str, *, readable: bool = False) -> None:
        """`readable`: what is there can be read all the same."""
        super().__init__(text)
        self.readable = readable


@dataclass(frozen=True, slots=True)
class StoreFault:
    """Why this process keeps tokens and budgets to itself instead of sharing them through the configured store."""

    reason: str
    readable: bool
    """What the store holds can be read; it cannot be changed."""


@dataclass(frozen=True, slots=True)
class Record:
    """What was written, and when. Moments are seconds of this machine's boot clock."""

    data: bytes = field(repr=False)
    written: float
    """The moment of writing; the latest possible, where no clock is known to have run on."""
    earliest: float
    """The earliest possible moment of writing; usually the same."""
    damaged: bool = False
    """There was a record, but it cannot be trusted; `data` is empty."""

    @property
    def certain(self) -> bool:
        """Whether the moment of writing is known."""
        return self.written == self.earliest


Update = Callable[[Record | None, float], bytes | None]
"""From the record as it is, and now, to its new content, or None to leave it.

It is pure: it may run several times, in a thread. `now` is the boot clock's, and it is the moment that counts as the
new record's writing, however long that takes.
"""


TlsContext = Callable[[Tls, float], SSLContext]
"""Reads the files; a certificate must be valid at the second argument, in seconds of the wall clock.

Raises:
    SecretUnavailableError: a file cannot be used.
"""

Release = Callable[[], Awaitable[None]]
"""Gives a lock back. It is called once; where the lock was lost, it does nothing."""


class Store(Protocol):
    """Records by key. Keys are of letters, digits and hyphens.

    Each method but `close` raises `StoreError` where the store cannot be used.
    """

    async def open(self) -> None:
        """Make it usable, for reading at least. It may be called again after a failure."""
        ...

    async def check(self) -> Turns | None:
        """Find out, at little cost, whether records can be read and changed now; this process's turns without it."""
        ...

    async def load(self, key: str) -> Record | None:
        """The newest record."""
        ...

    async def update(self, key: str, change: Update, *, written: float | None = None) -> Record | None:
        """Change a record atomically; the record after that.

        The change is applied at least once: after a long stop in the middle it may be applied twice. `written` is a
        moment of the boot clock, where an earlier one shall count as the record's writing.
        """
        ...

    async def acquire(self, key: str) -> Release | None:
        """Try once to win a lock, without waiting. A lock that is lost costs work and breaks nothing."""
        ...

    async def released(self, key: str, seconds: float) -> None:
        """Wait until a lock that was not won may be free: for so many seconds, or as the store knows better."""
        ...

    async def close(self) -> None:
        """Let go of what is held."""
        ...


class SharedStore(Store, Protocol):
    """A store as the token core uses it: it never raises, but says what keeps it from sharing."""

    @property
    def fault(self) -> StoreFault | None:
        """None while everything is shared through the configured store."""
        ...

    @property
    def turns(self) -> Turns | None:
        """When this process may ask an issuer, if it cannot know now what the others do."""
        ...
