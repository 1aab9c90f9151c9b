"""The last hour, as the status page shows it."""

import sys

import msgspec
import pytest

from sidecar.telemetry import history
from sidecar.telemetry.history import FRAMES, MOST_ROUTES, STEP, Event, History, Recent, RouteHistory, merged
from sidecar.telemetry.http import UNROUTED, HttpStats, is_error
from sidecar.tokens.token_status import IssuerStatus
from tests.telemetry.support import ManualClock

START = 1_800_000_000.0
FIRST = int(START) // STEP


@pytest.fixture
def clock():
    return ManualClock(START)


@pytest.fixture
def stats():
    return HttpStats()


@pytest.fixture
def kept(stats, clock):
    return History(stats, {}, clock)


def test_a_request_is_in_the_frame_of_its_time(stats, kept, clock):
    """Errors by who made them, and durations; a quiet frame is left out."""
    route = stats.route("operate")
    route.finished("GET", 200, "upstream", 0.003)
    route.finished("GET", 502, "sidecar", 0.003)
    kept.sample(())
    clock.now += 2 * STEP
    route.finished("GET", 503, "upstream", 100.0)
    route.finished("GET", 499, "client", 0.003)
    kept.sample(())
    frames = kept.recent(0).routes["operate"]
    assert frames.keys() == {FIRST, FIRST + 2}
    assert (frames[FIRST][:3], frames[FIRST][3 + 2]) == ([1, 0, 0], 2)
    assert (frames[FIRST + 2][:3], sum(frames[FIRST + 2][3:])) == ([0, 1, 1], 2)
    assert kept.recent(FIRST + 1).routes["operate"].keys() == {FIRST + 2}
    assert kept.lately("operate") == (4, 1)
    assert kept.lately("unknown") == (0, 0)


def test_an_hour_is_kept_and_no_more(stats, kept, clock):
    """After a day of traffic there is the last hour, in the memory of the first."""
    route = stats.route("operate")
    for _ in range(24 * 3600 // STEP):
        route.finished("GET", 200, "upstream", 0.003)
        kept.sample(())
        clock.now += STEP
    clock.now -= STEP
    frames = kept.recent(0).routes["operate"]
    newest = int(clock.now) // STEP
    assert sorted(frames) == list(range(newest - FRAMES + 1, newest + 1))
    assert {tuple(row) for row in frames.values()} == {(0, 0, 0, 0, 0, 1, *[0] * 14)}
    clock.now += 3600 + STEP
    assert kept.recent(0).routes == {}


def test_memory_is_as_documented(stats, kept, clock):
    """12 kB a route that served a request, none for others, and 1.5 MB whatever is configured."""
    one = RouteHistory()
    assert 9_000 < sum(sys.getsizeof(part) for part in (one._rows, one._numbers, one._seen)) < 12_000
    for number in range(1000):
        route = stats.route(f"route{number}")
        if number % 2:
            route.finished("GET", 200, "upstream", 0.003)
    stats.route(UNROUTED).finished("GET", 404, "sidecar", 0.0)
    kept.sample(())
    assert len(kept.recent(0).routes) == MOST_ROUTES
    assert UNROUTED not in kept._routes
    for number in range(10_000):
        kept.note("info", str(number))
    assert len(kept.recent(0).events) == history.MOST_EVENTS


def test_cooldowns_are_spans(kept, clock):
    """One that is prolonged is one; a later one is another; an issuer that is gone has none."""
    issuer = IssuerStatus(issuer="https://i", min_interval=1.25, cooldown_until=START + 60)
    kept.sample([issuer])
    clock.now += 30
    kept.sample([msgspec.structs.replace(issuer, cooldown_until=START + 90)])
    clock.now += 100
    kept.sample([msgspec.structs.replace(issuer, cooldown_until=None)])
    clock.now += 100
    kept.sample([msgspec.structs.replace(issuer, cooldown_until=clock.now + 5)])
    assert kept.recent(0).cooldowns == {"https://i": [(START, START + 90), (START + 230, START + 235)]}
    kept.sample(())  # a reload has taken the issuer away
    assert kept.recent(0).cooldowns == {}


def test_workers_are_one_sidecar():
    """Frames add up, attempts are put in order, and what several of them say at the same time is said once."""
    row = [1, 0, 0, *[2] * 17]
    one = Recent(routes={"a": {5: row}}, attempts={"i": [(2.0, "success", "x")]}, events=[Event(1.0, "info", "down")])
    other = Recent(
        routes={"a": {5: row, 6: row}, "b": {5: row}},
        attempts={"i": [(1.0, "failed", "x")]},
        events=[Event(3.0, "info", "down"), Event(2.0, "info", "up"), Event(100.0, "info", "down")],
    )
    over_the_wire = msgspec.json.decode(msgspec.json.encode(other), type=Recent)
    whole = merged([one, over_the_wire])
    assert whole.routes == {"a": {5: [2 * n for n in row], 6: row}, "b": {5: row}}
    assert whole.attempts == {"i": [(1.0, "failed", "x"), (2.0, "success", "x")]}
    assert [(event.at, event.text) for event in whole.events] == [(1.0, "down"), (2.0, "up"), (100.0, "down")]


@pytest.mark.parametrize(
    ("code", "source", "error"),
    [
        (200, "upstream", False),
        (404, "upstream", False),
        (401, "upstream", True),
        (403, "upstream", True),
        (429, "upstream", True),
        (500, "upstream", True),
        (403, "sidecar", True),
        (499, "client", True),
    ],
)
def test_what_counts_as_an_error(code, source, error):
    """An upstream's 404 is a client's own mistake; its refusals and faults are not."""
    assert is_error(code, source) is error
