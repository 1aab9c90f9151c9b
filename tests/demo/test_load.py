import pytest
import yaml
from aiohttp import web

from sidecar.clock import SystemClock
from sidecar.config import load as load_configuration
from sidecar.demo.process import configuration_for, free_port
from sidecar.demo.scenario import Answer, has_succeeded, load, milliseconds, table
from sidecar.demo.standin import AUDIENCES, StandIn, TokenRequest

PREFIXES = ("/operate", "/optimize", "/console", "/hub")


async def test_exactly_so_many_requests_are_sent_with_no_credentials(capsys):
    """The programs are what they say: plain HTTP, no Authorization, spread evenly; each token is told as it comes."""
    seen = []
    standin = StandIn()

    async def answer(request):
        seen.append(request.headers.get("Authorization"))
        if len(seen) in {1, 3}:
            standin.token_requests.append(TokenRequest(clock.monotonic() + len(seen), "granted", f"of-{len(seen)}"))
        return web.Response(status=503 if request.path.startswith("/hub") else 200)

    clock = SystemClock()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    answers = await load(f"http://127.0.0.1:{runner.addresses[0][1]}", standin, clock, 50, 8)
    await runner.cleanup()
    assert seen == [None] * 50
    assert {prefix: sum(each.prefix == prefix for each in answers) // 11 for prefix in PREFIXES} == dict.fromkeys(
        PREFIXES, 1
    )
    assert {each.status for each in answers if each.prefix == "/hub"} == {503}
    assert {each.status for each in answers if each.prefix != "/hub"} == {200}
    first, second = capsys.readouterr().out.splitlines()
    assert first.endswith(" s  token for of-1")
    assert " s  token for of-3   (2.0" in second


async def test_no_answer_is_status_zero():
    """A connection that is refused is counted, not raised."""
    answers = await load(f"http://127.0.0.1:{free_port(0)}", StandIn(), SystemClock(), 4, 2)
    assert [answer.status for answer in answers] == [0] * 4


def test_the_wait_for_the_token_is_told_apart_from_the_latency():
    """The first answer has the token's wait in it; the median is of those that came after."""
    answers = [
        Answer("/operate", 0.0, 1.5, 200),
        Answer("/operate", 0.0, 1.6, 200),
        Answer("/operate", 1.5, 1.51, 200),
        Answer("/operate", 1.6, 1.62, 200),
    ]
    [line] = [line for line in table(answers, 8, 3, 0) if "/operate" in line]
    assert " ".join(line.split()) == "/operate operate.camunda.io 4 0 1.50 s 10 ms 20 ms"


@pytest.mark.parametrize(
    ("codes", "refused", "succeeded"),
    [((200,), 0, True), ((204,), 0, True), ((200, 503), 0, False), ((0,), 0, False), ((200,), 1, False)],
)
def test_success_is_everything_served_and_no_token_refused(codes, refused, succeeded):
    """The exit code follows what was measured."""
    answers = [Answer("/hub", 0.0, 1.0, code) for code in codes]
    assert has_succeeded(answers, refused) is succeeded


def test_the_table_says_what_a_newcomer_asks():
    """Served, tokens requested beside what there would have been, refused, latency, and what failed."""
    answers = [*(Answer(prefix, 0.0, 0.5, 200) for prefix in PREFIXES), Answer("/hub", 0.5, 0.6, 502)]
    text = " ".join("\n".join(table(answers, 8, 3, 2)).split())
    for words in (
        "/operate operate.camunda.io 1 0 500 ms",
        "Requests served 4 of 5 (not served: 1 x 502)",
        "Tokens requested 3 without a cache 5, with a cache in each of the 8 programs 24",
        "Tokens refused 2",
        "100 ms median",
    ):
        assert words in text


@pytest.mark.parametrize(("seconds", "text"), [(0.00123, "1.2 ms"), (0.0456, "46 ms"), (1.2345, "1.23 s")])
def test_durations_are_short(seconds, text):
    """Two or three digits and a unit."""
    assert milliseconds(seconds) == text


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
    settings = load_configuration(file, {})
    assert {route.name: route.audience for route in settings.routes.values()} == AUDIENCES
    assert {route.credential for route in settings.routes.values()} == {"cluster", "organization"}
