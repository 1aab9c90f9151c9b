"""How old a record is, whatever happened to the clocks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.tokens.stores.timestamps import Stamp, earlier, moments, stamp
from tests.tokens.support import ManualClock

WALL = 1_800_000_000.0


@pytest.mark.parametrize(
    ("written", "now", "latest", "earliest"),
    [
        # Within one boot the boot clock knows, whatever the wall clock says.
        (Stamp(WALL, "a", 1000), Stamp(WALL + 60, "a", 1060), 1000, 1000),
        (Stamp(WALL, "a", 1000), Stamp(WALL - 86400, "a", 1060), 1000, 1000),
        (Stamp(WALL, "a", 1000), Stamp(WALL + 86400, "a", 1060), 1000, 1000),
        # Before a restart: by the wall clock. Its moment is before the boot clock's zero.
        (Stamp(WALL, "a", 9000), Stamp(WALL + 600, "b", 100), -500, -500),
        (Stamp(WALL, "a", 9000), Stamp(WALL + 100, "b", 100), 0, 0),
        # "After" the restart, by another boot: another machine, or the clock was set back. As old as the boot, perhaps.
        (Stamp(WALL, "a", 9000), Stamp(WALL + 50, "b", 100), 50, 0),
        (Stamp(WALL, "a", 9000), Stamp(WALL - 86400, "b", 100), 100, 0),
        # A system that does not tell boots apart has nothing but its wall clock.
        (Stamp(WALL, "", 9000), Stamp(WALL + 50, "", 100), 50, 50),
        (Stamp(WALL, "", 9000), Stamp(WALL - 50, "", 100), 100, 0),
        (Stamp(WALL, "a", 9000), Stamp(WALL + 50, "", 100), 50, 50),
        # The same boot's clock cannot run backwards; a container's may seem to.
        (Stamp(WALL, "a", 9000), Stamp(WALL + 600, "a", 100), -500, -500),
    ],
)
def test_when_a_record_was_written(written, now, latest, earliest) -> None:
    """On the present boot's clock: at the latest, which a budget goes by; at the earliest, which a token goes by."""
    assert moments(written, now) == (latest, earliest)


times = st.floats(0, 1e7)


@given(times, times, st.floats(-1e8, 1e8), st.booleans())
def test_nothing_was_written_in_the_future(written, now, step, same_boot) -> None:
    """So no cool-down and no slot is further away than it was when written."""
    boots = ("a", "a") if same_boot else ("a", "b")
    latest, earliest = moments(Stamp(WALL, boots[0], written), Stamp(WALL + step, boots[1], now))
    assert earliest <= latest <= now


def test_an_earlier_moment_of_this_boot() -> None:
    """By all its clocks."""
    clock = ManualClock(wall=WALL, boottime=1000)
    assert stamp(clock) == Stamp(WALL, "boot-1", 1000)
    assert earlier(stamp(clock), 900) == Stamp(WALL - 100, "boot-1", 900)
