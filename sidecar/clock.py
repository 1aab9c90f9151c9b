"""The only way to the time. Everything that decides takes `now` as an argument; everything that waits takes a Clock."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Protocol


class Clock(Protocol):
    """Wall, monotonic and boot time in seconds, and sleep."""

    def wall(self) -> float:
        """Seconds since 1970, as other hosts and other processes see them; may be stepped."""
        ...

    def monotonic(self) -> float:
        """Seconds that never run backwards; they stand still while the machine is suspended."""
        ...

    def boottime(self) -> float:
        """Seconds since the machine booted, suspension included; comparable between processes of one boot."""
        ...

    def boot_id(self) -> str:
        """Tells one boot of the machine from the next; empty where the system does not say."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait; zero or less yields once."""
        ...


class SystemClock:
    """The machine's."""

    wall = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)
    # CLOCK_BOOTTIME is Linux's; elsewhere the monotonic clock has to do. A partial, for each request asks it.
    boottime = staticmethod(partial(time.clock_gettime, getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)))

    def __init__(self) -> None:
        try:
            self._boot_id = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        except OSError:
            self._boot_id = ""

    def boot_id(self) -> str:
        """Tell one boot of the machine from the next; empty where the system does not say."""
        return self._boot_id

    async def sleep(self, seconds: float) -> None:
        """Wait on the event loop; zero or less yields once."""
        import asyncio  # noqa: PLC0415 (without it, commands that run no event loop start a third faster)

        await asyncio.sleep(max(0.0, seconds))


class BlockingClock:
    """For commands that run no event loop: time that never runs backwards, and a sleep that blocks; in seconds."""

    monotonic = staticmethod(time.monotonic)
    sleep = staticmethod(time.sleep)


def duration(seconds: float) -> str:
    """For people, in two units at most; less than nothing is nothing.

    >>> [duration(s) for s in (0.4, 59, 61, 3600, 90061)]
    ['0 s', '59 s', '1 min 1 s', '1 h', '1 d 1 h']
    """
    left = max(0, round(seconds))
    parts = []
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, left = divmod(left, size)
        parts.append(f"{count} {unit}" if count else "")
    first = next((index for index, part in enumerate(parts) if part), None)
    return "0 s" if first is None else " ".join(part for part in parts[first : first + 2] if part)
