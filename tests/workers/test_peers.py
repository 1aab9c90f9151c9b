"""What the first worker gathers: the numbers of all, those of workers that died, and its own from before it did."""

from contextlib import asynccontextmanager

import structlog
from prometheus_client.parser import text_string_to_metric_families

from sidecar.admin.readiness import Readiness
from sidecar.admin.status_model import RouteStatus
from sidecar.admin.view import OwnView
from sidecar.config.settings import UnixAddress
from sidecar.telemetry.history import Recent
from sidecar.workers.peers import Peer, RememberingView, WholeView, metrics_of, socket_of, until_gone
from tests.admin.support import serving, status
from tests.telemetry.support import ManualClock

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


def life(directory, index, start, requests) -> RememberingView:
    """What a worker shows, in a process with these numbers."""
    told = status(routes=(route(requests),))
    own = OwnView(Registry(start, requests), Readiness(), lambda: told, lambda _since: hour(requests))
    return RememberingView(own, metrics_of(directory, index))


def hour(requests) -> Recent:
    """One frame with these requests."""
    return Recent(routes={"operate": {7: [0, 0, 0, requests, *[0] * 16]}})


@asynccontextmanager
async def worker(directory, start=100, requests=5, shown=None):
    """The second of two, as a process with these numbers, or as one that was silent for a while."""
    shown = shown or life(directory, 1, start, requests)
    async with serving(UnixAddress(socket_of(directory, 1)), view=lambda _own: shown) as running:
        yield running


def whole(directory, start, requests) -> WholeView:
    """The first worker's view, as a process with these numbers."""
    return WholeView(life(directory, 0, start, requests), [Peer(1, directory)])


async def told(view) -> tuple[float, float, int, int]:
    """The counter and the gauge in the metrics; requests and missing workers in the status."""
    families = (await view.metrics()).collect()
    values = {sample.name: sample.value for family in families for sample in family.samples}
    shown = await view.status()
    return values["camunda_sidecar_http_requests_total"], values["g"], shown.routes[0].requests, shown.workers_missing


async def test_the_hours_of_all_add_up(tmp_path):
    """A worker that does not answer leaves the others' hour."""
    view = whole(tmp_path, 50, 10)
    async with worker(tmp_path):
        assert (await view.recent(0)).routes["operate"][7][3] == 15
    assert (await view.recent(0)).routes["operate"][7][3] == 10


async def test_no_counter_falls_when_a_worker_dies(tmp_path):
    """Neither in `/metrics` nor in `/status`; a gauge is of who is there."""
    view = whole(tmp_path, 50, 10)
    assert await told(view) == (10, 10, 10, 1)
    slow = life(tmp_path, 1, 100, 5)
    for _ in range(2):  # it does not answer for a while, and goes on
        async with worker(tmp_path, shown=slow):
            assert await told(view) == (15, 15, 15, 0)
        assert await told(view) == (15, 10, 15, 1)
    async with worker(tmp_path, 200, 1):
        assert await told(view) == (16, 11, 16, 0)
        assert await told(view) == (16, 11, 16, 0)
    assert await told(view) == (16, 10, 16, 1)


async def test_a_damaged_or_full_directory_stops_nobody(tmp_path):
    """What was remembered is lost then, and what is there is shown."""
    metrics_of(tmp_path, 1).write_bytes(b"\xff no metrics")
    async with worker(tmp_path, 100, 5):
        assert await told(whole(tmp_path, 50, 10)) == (15, 15, 15, 0)
        missing = whole(tmp_path / "missing", 60, 1)
        assert await told(missing) == (1, 1, 1, 1)


async def test_no_counter_falls_when_the_first_worker_dies(tmp_path):
    """Whoever takes its place knows what it has told."""
    first = whole(tmp_path, 50, 10)
    async with worker(tmp_path, 100, 5):
        assert await told(first) == (15, 15, 15, 0)
    async with worker(tmp_path, 200, 2):
        assert await told(first) == (17, 12, 17, 0)
        assert await told(whole(tmp_path, 300, 1)) == (18, 3, 18, 0)
    assert await told(whole(tmp_path, 400, 0)) == (18, 0, 18, 1)


async def test_a_missing_worker_is_a_problem_since_it_was_missed(tmp_path):
    """A later look does not date it anew, and it is over when the worker is back."""
    uptimes = iter((10.0, 20.0, 30.0))
    own = OwnView(Registry(50, 10), Readiness(), lambda: status(uptime=next(uptimes)), lambda _since: hour(0))
    view = WholeView(own, [Peer(1, tmp_path)])
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
    clock, peer = ManualClock(), Peer(1, tmp_path)
    began = clock.now
    async with worker(tmp_path, 100, 5) as running:

        async def sleep(seconds):
            clock.now += seconds
            if clock.now > began + 0.1:
                await running.close()

        clock.sleep = sleep
        await until_gone([peer], clock)
    assert clock.now > began + 0.1
