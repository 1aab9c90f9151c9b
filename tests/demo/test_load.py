import io
from collections import Counter

import pytest
import yaml
from aiohttp import web

from sidecar.clock import SystemClock
from sidecar.config import load
from sidecar.demo.apis import AUDIENCES
from sidecar.demo.issuer import TokenRequest
from sidecar.demo.load import CALLS, Load, Sample, calls
from sidecar.demo.process import configuration_for, free_port
from sidecar.demo.progress import Progress
from sidecar.demo.report import Report, milliseconds, percentile, render
from sidecar.demo.standin import StandIn
from tests.telemetry.support import ManualClock

PREFIXES = {prefix: AUDIENCES[prefix[1:]] for prefix in CALLS}


def test_each_client_begins_with_another_prefix_and_visits_all():
    """The load is spread evenly, and every endpoint of a prefix has its turn."""
    firsts = [next(calls(index))[0] for index in range(5)]
    assert firsts == [*CALLS, "/operate"]
    endless = calls(2)
    seen = Counter(next(endless) for _ in range(24))
    assert {prefix for prefix, _, _ in seen} == set(CALLS)
    assert {(prefix, method, path) for prefix, method, path in seen} == {
        (prefix, method, path) for prefix, of in CALLS.items() for method, path in of
    }


async def test_exactly_so_many_requests_are_sent_with_no_credentials():
    """The clients are what they say: plain HTTP, no Authorization."""
    seen = []

    async def answer(request):
        seen.append(request.headers.get("Authorization"))
        return web.Response(status=503 if request.path.startswith("/hub") else 200)

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    told = []
    sent = Load(f"http://127.0.0.1:{runner.addresses[0][1]}", SystemClock(), total=50, clients=8)
    await sent.run(told.append)
    await runner.cleanup()
    assert seen == [None] * 50
    assert told == list(range(1, 51))
    assert {sample.status for sample in sent.samples if sample.prefix == "/hub"} == {503}
    assert {sample.status for sample in sent.samples if sample.prefix != "/hub"} == {200}


async def test_no_answer_is_status_zero():
    """A connection that is refused is counted, not raised."""
    sent = Load(f"http://127.0.0.1:{free_port(0)}", SystemClock(), total=4, clients=2)
    await sent.run(lambda _count: None)
    assert [sample.status for sample in sent.samples] == [0] * 4


def report(*samples, requested=3, refused=0):
    return Report(samples, PREFIXES, clients=8, tokens_requested=requested, tokens_refused=refused)


def test_the_wait_for_the_token_is_told_apart_from_the_latency():
    """The first answer has the token's wait in it; the median is of those that came after."""
    made = report(
        Sample("/operate", 0.0, 1.5, 200),
        Sample("/operate", 0.0, 1.6, 200),
        Sample("/operate", 1.5, 1.51, 200),
        Sample("/operate", 1.6, 1.62, 200),
    )
    [line] = [line for line in render(made) if "/operate" in line]
    assert " ".join(line.split()) == "/operate operate.camunda.io 4 0 1.50 s 10 ms 20 ms"
    assert made.succeeded


@pytest.mark.parametrize(
    ("samples", "refused", "succeeded"),
    [
        ((Sample("/hub", 0, 1, 200),), 0, True),
        ((Sample("/hub", 0, 1, 204),), 0, True),
        ((Sample("/hub", 0, 1, 200), Sample("/hub", 0, 1, 503)), 0, False),
        ((Sample("/hub", 0, 1, 0),), 0, False),
        ((Sample("/hub", 0, 1, 200),), 1, False),
    ],
)
def test_success_is_everything_served_and_no_token_refused(samples, refused, succeeded):
    """The exit code follows what was measured."""
    assert report(*samples, refused=refused).succeeded is succeeded


def test_the_table_says_what_a_newcomer_asks():
    """Served, tokens requested beside what there would have been, refused, latency, and what failed."""
    made = report(*(Sample(prefix, 0.0, 0.5, 200) for prefix in PREFIXES), Sample("/hub", 0.5, 0.6, 502), refused=2)
    text = " ".join("\n".join(render(made)).split())
    for words in (
        "/operate operate.camunda.io 1 0 500 ms",
        "Requests served 4 of 5 (not served: 1 x 502)",
        "Tokens requested 3 without a cache 5, with a cache in each of the 8 programs 24",
        "Tokens refused 2",
        "100 ms median",
    ):
        assert words in text


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [([], 0.5, 0.0), ([7.0], 0.99, 7.0), ([4, 1, 3, 2], 0.5, 2), (range(100), 0.99, 98)],
)
def test_percentiles(values, share, expected):
    """Nearest rank: a value that was measured, none made up."""
    assert percentile(list(values), share) == expected


@pytest.mark.parametrize(("seconds", "text"), [(0.00123, "1.2 ms"), (0.0456, "46 ms"), (1.2345, "1.23 s")])
def test_durations_are_short(seconds, text):
    """Two or three digits and a unit."""
    assert milliseconds(seconds) == text


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("out", [io.StringIO(), Terminal()])
async def test_progress_tells_each_token_and_how_far_apart(out):
    """The spacing of the token requests is seen as it happens, on a terminal and in a file."""
    clock = ManualClock()
    standin = StandIn(clock=clock)
    progress = Progress(out, 4, clock, standin.issuer)
    for count in range(1, 5):
        standin.issuer.requests.append(TokenRequest(clock.now, "granted", f"audience-{count}"))
        progress.answered(count)
        await clock.sleep(1.25)
    progress.finish()
    text = out.getvalue()
    assert "0.00 s  token for audience-1\n" in text
    assert "1.25 s  token for audience-2   (1.25 s after the one before)\n" in text
    assert ("4/4" if out.isatty() else "4 of 4 answered") in text


def test_a_free_port_is_the_preferred_one_or_another():
    """A friendly port where it is free; never one that is taken already."""
    port = free_port(0)
    assert free_port(port) == port
    assert free_port(port, port) != port


def test_the_configuration_loads(tmp_path):
    """What the demo writes is what `check` accepts."""
    standin = StandIn()
    standin.url = "http://127.0.0.1:8610"
    for client in (standin.cluster_client, standin.organization_client):
        (tmp_path / client.client_id).write_text(client.secret)
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(configuration_for(standin, tmp_path, port=8600, admin_port=8601)))
    settings = load(file, {})
    assert {route.name: route.audience for route in settings.routes} == AUDIENCES
    assert {route.credential for route in settings.routes} == {"cluster", "organization"}
