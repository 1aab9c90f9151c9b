"""The regression check that counts instructions."""

import pytest

from bench.instructions import judge, parse_count
from bench.plane import Plane, requests


@pytest.mark.parametrize(
    ("measured", "stored", "passes", "said"),
    [
        (100_000, None, True, "no stored figure for this interpreter"),
        (100_000, 100_000, True, "+0.0% to the stored 100,000"),
        (102_900, 100_000, True, "+2.9% to the stored 100,000"),
        (103_100, 100_000, False, "+3.1% to the stored 100,000: over the margin of 3%"),
        (90_000, 100_000, True, "-10.0% to the stored 100,000: better; keep it with --store"),
    ],
)
def test_a_figure_is_judged_by_its_margin(measured, stored, passes, said):
    """More instructions than the margin allows fail; fewer ask to be kept."""
    assert judge(measured, stored, 0.03) == (passes, said)


def test_valgrinds_count_is_read():
    """Whatever else it prints."""
    assert parse_count("==1== Cachegrind\n==1== I   refs:      1,615,175,806\n") == 1_615_175_806
    with pytest.raises(ValueError, match="no count"):
        parse_count("valgrind: failed to start")


@pytest.mark.parametrize("shape", ["same", "varied", "post"])
async def test_what_is_counted_does_the_job(shape):
    """The driver checks path, token and answer, in the first exchange and in later ones."""
    plane, make = Plane(), requests(shape)
    await plane.open(*make(0))
    plane.exchange(*make(1))
    plane.check(make(1)[0])


async def test_a_request_without_a_body_takes_one_write_to_each_side():
    """Head, token and all in one system call to the upstream, the whole answer in one to the client."""
    plane, make = Plane(), requests("varied")
    await plane.open(*make(0))
    before = plane.writes
    plane.exchange(*make(1))
    assert plane.writes - before == 2
