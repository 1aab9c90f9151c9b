"""What the first worker gathers: the numbers of all, those of workers that died, and its own from before it did."""

from contextlib import asynccontextmanager

import structlog
from prometheus_client.parser import text_string_to_metric_families

from sidecar.admin.readiness import Readiness
from sidecar.admin.status_model import RouteStatus
from sidecar.admin.view import OwnView
from sidecar.config.settings import UnixAddress
from sidecar.workers.peers import WholeView, socket_of
from tests.admin.support import serving, status

HEAD = "# TYPE process_start_time_seconds gauge\nprocess_start_time_seconds {}\n"
BODY = "# TYPE camunda_sidecar_http_requests_total counter\n" + "camunda_sidecar_http_requests_total{{{}}} {}\n"
LABELS = 'route="operate",source="upstream"'


class Registry:
    """Says that a process began at `start`, and how many requests it has served."""

    def __init__(self, start, requests):
        self.text = HEAD.format(start) + BODY.format(LABELS, requests) + f"# TYPE g gauge\ng {requests}\n"

    def collect(self):
        return text_string_to_metric_families(self.text)


def route(requests=0):
    return RouteStatus(name="operate", prefix="/operate", upstream="http://u", credential="c", requests=requests)


@asynccontextmanager
async def worker(directory, start, requests):
    """The second of two, as a process with these numbers."""
    told = status(routes=(route(requests),))
    address = UnixAddress(socket_of(directory, 1))
    async with serving(address, registry=Registry(start, requests), status=lambda: told) as running:
        yield running


def whole(directory, start, requests) -> WholeView:
    """The first worker's view, as a process with these numbers."""
    own = OwnView(Registry(start, requests), Readiness(), lambda: status(routes=(route(requests),)))
    view = WholeView(directory, 2)
    view.over(own)
    return view


async def told(view) -> tuple[float, float, int, int]:
    """The counter and the gauge in the metrics; requests and missing workers in the status."""
    families = (await view.metrics()).collect()
    values = {sample.name: sample.value for family in families for sample in family.samples}
    shown = await view.status()
    return values["camunda_sidecar_http_requests_total"], values["g"], shown.routes[0].requests, shown.workers_missing


async def test_no_counter_falls_when_a_worker_dies(tmp_path):
    """Neither in `/metrics` nor in `/status`; a gauge is of who is there."""
    view = whole(tmp_path, 50, 10)
    assert await told(view) == (10, 10, 10, 1)
    async with worker(tmp_path, 100, 5):
        assert await told(view) == (15, 15, 15, 0)
    assert await told(view) == (15, 10, 15, 1)
    async with worker(tmp_path, 100, 7):  # it was only slow
        assert await told(view) == (17, 17, 17, 0)
    async with worker(tmp_path, 200, 1):
        assert await told(view) == (18, 11, 18, 0)
        assert await told(view) == (18, 11, 18, 0)
    assert await told(view) == (18, 10, 18, 1)


async def test_no_counter_falls_when_the_first_worker_dies(tmp_path):
    """Whoever takes its place knows what it has told."""
    async with worker(tmp_path, 100, 5):
        assert await told(whole(tmp_path, 50, 10)) == (15, 15, 15, 0)
    async with worker(tmp_path, 200, 2):
        assert await told(whole(tmp_path, 50, 10)) == (17, 12, 17, 0)
        assert await told(whole(tmp_path, 300, 1)) == (18, 3, 18, 0)
    assert await told(whole(tmp_path, 400, 0)) == (18, 0, 18, 1)


async def test_a_missing_worker_is_a_problem_since_it_was_missed(tmp_path):
    """A later look does not date it anew, and it is over when the worker is back."""
    uptimes = iter((10.0, 20.0, 30.0))
    own = OwnView(Registry(50, 10), Readiness(), lambda: status(uptime=next(uptimes)))
    view = WholeView(tmp_path, 2)
    view.over(own)
    looks = [await view.status() for _ in range(2)]
    async with worker(tmp_path, 100, 5):
        looks.append(await view.status())
    since = [[(problem.code, problem.since - look.started_at) for problem in look.problems] for look in looks]
    assert since == [[("workers_missing", 10.0)], [("workers_missing", 10.0)], []]


async def test_a_silent_one_is_logged_once(tmp_path):
    """Not before it was there for the first time, not at each probe, and again after it came back."""
    view = whole(tmp_path, 50, 10)
    with structlog.testing.capture_logs() as logs:
        for _ in range(2):
            assert await view.not_ready() == "waiting for: worker 1"
            assert len(logs) == 0
        for times in (1, 2):
            async with worker(tmp_path, 100, 5):
                assert await view.not_ready() is None
            assert await view.not_ready() == "waiting for: worker 1"
            assert await view.not_ready() == "waiting for: worker 1"
            assert [(line["event"], line["peer"]) for line in logs] == [("a worker does not answer", 1)] * times


async def test_the_last_one_is_alone(tmp_path):
    """The first worker answers until the others have ended."""
    view, waits = whole(tmp_path, 50, 10), []
    async with worker(tmp_path, 100, 5) as running:

        async def sleep(seconds):
            waits.append(seconds)
            if len(waits) == 3:
                await running.close()

        await view.until_alone(sleep)
    assert len(waits) == 3
