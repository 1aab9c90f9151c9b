import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from sidecar.telemetry.exposition import expose
from sidecar.telemetry.http import DURATION_BUCKETS, EXEMPLAR_TRIES, UNROUTED, HttpStats
from sidecar.telemetry.metrics import Metrics
from tests.telemetry.support import ManualClock, samples

PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,"
    "text/plain;version=0.0.4;q=0.4,*/*;q=0.3"
)


@pytest.fixture
def stats():
    return HttpStats()


@pytest.fixture
def metrics(stats):
    return Metrics(stats, ManualClock())


@pytest.mark.parametrize(
    ("accept", "openmetrics"),
    [
        (PROMETHEUS, True),
        ("application/openmetrics-text", True),
        ("application/openmetrics-text; version=nonsense; escaping=\x01", True),
        ("application/openmetrics-text;q=0", False),
        ("text/plain", False),
        ("*/*", False),
        ("", False),
    ],
)
def test_the_form_is_negotiated(metrics, accept, openmetrics):
    """Prometheus gets OpenMetrics, everybody else plain text; both parse, whatever Accept holds."""
    body, content_type = expose(metrics.registry, accept)
    assert content_type.startswith("application/openmetrics-text" if openmetrics else "text/plain; version=0.0.4")
    parse = parse_openmetrics if openmetrics else parse_text
    assert {family.name for family in parse(body.decode())} >= {"camunda_sidecar_build_info", "process_cpu_seconds"}


def test_a_route_starts_with_its_series_at_zero(stats, metrics):
    """A rate over a series needs its zero: a route's are there before its first request."""
    stats.route("operate")
    found = samples(metrics)
    requests = ("code", "200"), ("method", "GET"), ("route", "operate"), ("source", "upstream")
    expected = {
        ("camunda_sidecar_http_requests_total", *requests),
        ("camunda_sidecar_http_requests_in_flight", ("route", "operate")),
        ("camunda_sidecar_http_request_duration_seconds_count", ("route", "operate")),
        ("camunda_sidecar_upstream_connections", ("route", "operate"), ("state", "idle")),
        ("camunda_sidecar_upstream_retries_total", ("reason", "token_refused"), ("route", "operate")),
        ("camunda_sidecar_guard_rejections_total", ("reason", "host")),
    }
    assert {key: found[key] for key in expected} == dict.fromkeys(expected, 0.0)


def test_what_matched_no_route_has_no_upstream(stats, metrics):
    """Requests without a route are counted and timed, but series that only an upstream can have are left out."""
    stats.route(UNROUTED).finished("GET", 404, "sidecar", 0.001)
    named = {key[0].removeprefix("camunda_sidecar_") for key in samples(metrics) if ("route", UNROUTED) in key}
    prefix = "http_request_duration_seconds_"
    assert named == {"http_requests_total", f"{prefix}bucket", f"{prefix}count", f"{prefix}sum"}


def test_the_data_planes_counters_are_told(stats, metrics):
    """What the hot path counted is what the scrape says, the histogram cumulative."""
    route = stats.route("operate")
    route.finished("GET", 200, "upstream", 0.003)
    route.finished("GET", 200, "upstream", 0.7)
    route.finished("PATCH", 502, "sidecar", 1000.0)
    route.in_flight = 2
    route.pools |= {lambda: (0, 1, 7), lambda: (0, 2, 0)}
    route.retries["connection_lost"] += 1
    stats.guard_rejections["origin"] += 3
    found = samples(metrics)

    def value(name: str, **labels: str) -> float:
        return found[f"camunda_sidecar_{name}", *sorted(labels.items())]

    assert value("http_requests_total", route="operate", method="GET", code="200", source="upstream") == 2
    assert value("http_requests_total", route="operate", method="PATCH", code="502", source="sidecar") == 1
    assert value("http_requests_in_flight", route="operate") == 2
    assert value("upstream_connections", route="operate", state="idle") == 7
    assert value("upstream_connections", route="operate", state="active") == 3
    assert value("upstream_retries_total", route="operate", reason="connection_lost") == 1
    assert value("guard_rejections_total", reason="origin") == 3
    bucket = "http_request_duration_seconds_bucket"
    cumulative = [value(bucket, route="operate", le=str(bound)) for bound in (0.001, 0.005, 0.5, 1.0, 60.0, "+Inf")]
    assert cumulative == [0, 1, 1, 2, 2, 3]
    assert value("http_request_duration_seconds_count", route="operate") == 3
    assert value("http_request_duration_seconds_sum", route="operate") == pytest.approx(1000.703)
    buckets = [key for key in found if key[0].endswith(bucket)]
    assert len(buckets) == len(DURATION_BUCKETS) + 1


def test_a_traced_request_is_an_exemplar(stats, metrics):
    """OpenMetrics leads from a bucket to a recorded trace; each scrape makes room for the next, and text has none."""
    route = stats.route("operate")
    traced = b"GET /x HTTP/1.1\r\nHost: a\r\nTraceParent: 00-%s-00f067aa0ba902b7-%s\r\n\r\n"
    found = []
    for trace, flags in ((b"a" * 32, b"00"), (b"b" * 32, b"01"), (b"c" * 32, b"01")):
        if route.finished("GET", 200, "upstream", 0.003):
            route.exemplify(traced % (trace, flags), 0.003, 1_800_000_000.0)
        if trace[:1] == b"b":
            assert b"trace_id" not in expose(metrics.registry, "")[0]
            body = expose(metrics.registry, PROMETHEUS)[0].decode()
            found = [s for f in parse_openmetrics(body) for s in f.samples if s.exemplar]
    assert [(sample.labels["le"], sample.exemplar.labels, sample.exemplar.value) for sample in found] == [
        ("0.005", {"trace_id": "b" * 32}, 0.003)
    ]
    assert b"c" * 32 in expose(metrics.registry, PROMETHEUS)[0]


def test_a_request_without_a_trace_costs_the_next_no_search(stats, metrics):
    """After some requests without one, none is searched until the next scrape."""
    route = stats.route("operate")
    searched = 0
    for _ in range(100):
        if route.finished("GET", 200, "upstream", 0.003):
            route.exemplify(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n", 0.003, 0.0)
            searched += 1
    assert searched == EXEMPLAR_TRIES
    expose(metrics.registry, "")
    assert route.finished("GET", 200, "upstream", 0.003)


def test_a_reload_is_told():
    """A refused configuration shows at once, and when the last good one came."""
    clock = ManualClock(1_800_000_000.0)
    metrics = Metrics(HttpStats(), clock)
    metrics.config.loaded()
    clock.now += 60
    metrics.config.refused(["routes: is empty"])
    found = samples(metrics)
    assert found["camunda_sidecar_config_last_reload_success",] == 0
    assert found["camunda_sidecar_config_last_reload_success_timestamp_seconds",] == 1_800_000_000.0


def test_two_registries_do_not_know_each_other():
    """Nothing is global: a process may hold two sidecars, as tests do."""
    one, other = Metrics(HttpStats(), ManualClock()), Metrics(HttpStats(), ManualClock())
    one.config.loaded()
    assert samples(other)["camunda_sidecar_config_last_reload_success",] == 0


def test_no_created_series_double_the_exposition(metrics):
    """One series a counter: `_created` would double what Prometheus stores."""
    assert not [key for key in samples(metrics) if key[0].endswith("_created")]
