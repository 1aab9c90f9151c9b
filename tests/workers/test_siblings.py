"""Asking the other workers: what is lost when one is silent, or another process than before."""

from contextlib import asynccontextmanager

import structlog
from prometheus_client.parser import text_string_to_metric_families

from sidecar.config.settings import UnixAddress
from sidecar.workers.siblings import Sibling, Siblings
from tests.admin.support import serving

HEAD = "# TYPE process_start_time_seconds gauge\nprocess_start_time_seconds {}\n"
BODY = "# TYPE c_total counter\nc_total {}\n# TYPE g gauge\ng {}\n"


class Says:
    """A registry that tells what the test says."""

    def __init__(self, start, counter, gauge):
        self.text = HEAD.format(start) + BODY.format(counter, gauge)

    def collect(self):
        return text_string_to_metric_families(self.text)


@asynccontextmanager
async def told_by(sibling, path, *numbers):
    """What `sibling` tells while a process with these numbers is there."""
    async with serving(UnixAddress(path), registry=Says(*numbers)):
        yield values(await sibling.metrics())


def values(families):
    return {sample.name: sample.value for family in families for sample in family.samples if len(sample.name) < 10}


async def test_counters_stand_still_while_it_is_silent_and_go_on_in_its_next_life(tmp_path):
    """A scraper sees no counter fall; gauges are those of who is there."""
    path = tmp_path / "1.sock"
    sibling = Sibling(1, path)
    assert values(await sibling.metrics()) == {}
    async with told_by(sibling, path, 100, 5, 1) as told:
        assert told == {"c_total": 5, "g": 1}
    assert values(await sibling.metrics()) == {"c_total": 5}
    async with told_by(sibling, path, 100, 7, 2) as told:
        assert told == {"c_total": 7, "g": 2}
    async with told_by(sibling, path, 200, 1, 3) as told:
        assert told == {"c_total": 8, "g": 3}
        assert values(await sibling.metrics()) == {"c_total": 8, "g": 3}
    assert values(await sibling.metrics()) == {"c_total": 8}


async def test_a_silent_one_is_logged_once(tmp_path):
    """Not before it was there for the first time, not at each probe, and again after it came back."""
    path = tmp_path / "1.sock"
    siblings = Siblings({1: path})
    with structlog.testing.capture_logs() as logs:
        for _ in range(2):
            assert await siblings.missing() == "waiting for: worker 1"
            assert await siblings.statuses() == {1: None}
            assert len(logs) == 0
        for lives in (1, 2):
            async with serving(UnixAddress(path)):
                assert await siblings.missing() is None
                assert (await siblings.statuses())[1].pid == 4711
            assert await siblings.missing() == "waiting for: worker 1"
            assert await siblings.missing() == "waiting for: worker 1"
            assert [(line["event"], line["sibling"]) for line in logs] == [("a worker does not answer", 1)] * lives
