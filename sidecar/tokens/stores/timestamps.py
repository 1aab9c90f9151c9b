"""How old something is, by clocks that may have been set, on a machine that may have been restarted. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from sidecar.clock import Clock


@dataclass(frozen=True, slots=True)
class Stamp:
    """One moment by all clocks: wall seconds, the boot's id, and seconds since that boot."""

    wall: float
    boot_id: str
    boottime: float


def stamp(clock: Clock) -> Stamp:
    """The present moment."""
    return Stamp(clock.wall(), clock.boot_id(), clock.boottime())


def earlier(now: Stamp, boottime: float) -> Stamp:
    """The stamp of an earlier moment of this boot."""
    return Stamp(now.wall - (now.boottime - boottime), now.boot_id, boottime)


def moments(written: Stamp, now: Stamp) -> tuple[float, float]:
    """When `written` was, on the present boot's clock: at the latest, and at the earliest.

    Within one boot the boot clock knows exactly, whatever happened to the wall clock. Otherwise the wall clock has to
    do. Where it says that another boot wrote this after the present boot began, either another machine did, or this
    one's wall clock was set back: then it may be as old as the boot.
    """
    if written.boot_id and written.boot_id == now.boot_id and written.boottime <= now.boottime:
        return written.boottime, written.boottime
    age = now.wall - written.wall
    latest = now.boottime - max(0.0, age)
    told_apart = bool(written.boot_id and now.boot_id)
    if age < 0 or (told_apart and latest > 0):
        return latest, min(0.0, latest)
    return latest, latest
