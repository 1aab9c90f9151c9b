"""What the numbers of several workers are together."""

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Exemplar

from sidecar.telemetry.exposition import expose
from sidecar.telemetry.http import HttpStats
from sidecar.telemetry.metrics import Metrics
from sidecar.telemetry.token_metrics import STATES
from sidecar.workers.merge_metrics import GAUGES, Merged, is_cumulative, merge
from tests.telemetry.support import ManualClock

OPENMETRICS = "application/openmetrics-text;version=1.0.0"


def parsed(text):
    return list(text_string_to_metric_families(text))


def together(*expositions):
    """The samples of all of them, by name and labels."""
    merged = merge(map(parsed, expositions))
    return {(s.name, *s.labels.values()): s.value for family in merged for s in family.samples}


def metrics(requests=0) -> Metrics:
    """Everything that a worker exposes."""
    stats = HttpStats()
    for _ in range(requests):
        stats.route("operate").finished("GET", 200, "upstream", 0.002)
    made = Metrics(stats, ManualClock())
    made.tokens.registered(issuer="https://issuer", credential="cluster", audience="operate.camunda.io")
    made.config.secret_files(["credentials.cluster"], [])
    return made


def test_every_gauge_has_its_rule():
    """A new gauge needs a decision; a rule for one that is gone, none."""
    families = list(metrics().registry.collect())
    assert {family.name for family in families if not is_cumulative(family)} == set(GAUGES)
    assert {family.type for family in families} == {"counter", "gauge", "histogram"}


@pytest.mark.parametrize(
    ("name", "values", "whole"),
    [
        ("http_requests_in_flight", (2, 3), 5),
        ("upstream_connections", (2, 3), 5),
        ("token_waiters", (0, 4), 4),
        ("token_expiry_timestamp_seconds", (0, 1.8e9), 1.8e9),
        ("cooldown_until_timestamp_seconds", (7, 5), 7),
        ("quarantined", (0, 1), 1),
        ("budget_used_ratio", (0.25, 0.5), 0.75),
        ("token_last_success_timestamp_seconds", (0, 1.8e9), 1.8e9),
        ("secret_file_errors", (1, 0), 1),
        ("build_info", (1, 1), 1),
        ("store_up", (1, 0), 0),
        ("config_last_reload_success", (0, 1), 0),
        ("config_last_reload_success_timestamp_seconds", (5, 7), 5),
    ],
)
def test_gauges_by_what_they_mean(name, values, whole):
    """Sums where each has some, the most where one sees it first, the least where all must have it."""
    full = f"camunda_sidecar_{name}"
    assert together(*(f"# TYPE {full} gauge\n{full} {value}\n" for value in values)) == {(full,): whole}


@pytest.mark.parametrize(("states", "whole"), [(("none", "fresh"), "fresh"), (("quarantined", "stale"), "quarantined")])
def test_a_token_has_one_state(states, whole):
    """Workers that know different states are one sidecar, whose token has the state that tells the most."""
    name = "camunda_sidecar_token_state"
    line = name + '{{credential="c",audience="a",state="{}"}} {}\n'
    texts = [f"# TYPE {name} gauge\n" + "".join(line.format(s, int(s == one)) for s in STATES) for one in states]
    assert together(*texts) == {(name, "a", "c", s): float(s == whole) for s in STATES}


def test_exemplars_are_kept():
    """A trace that one worker served leads from the merged histogram to it, too."""
    one, other = metrics(2), metrics(1)
    [family] = [f for f in one.registry.collect() if f.name.endswith("http_request_duration_seconds")]
    exemplar = Exemplar({"trace_id": "4bf92f3577b34da6a3ce929d0e0e4736"}, 0.002, 1.8e9)
    family.samples[1] = family.samples[1]._replace(exemplar=exemplar)
    merged = expose(Merged(merge([[family], other.registry.collect()])), OPENMETRICS)[0].decode()
    again = [s for f in parse_openmetrics(merged) for s in f.samples if s.exemplar]
    assert [(sample.labels["le"], sample.value, sample.exemplar.labels) for sample in again] == [
        ("0.0025", 3.0, exemplar.labels)
    ]


def test_counters_and_histograms_add_up_by_their_labels():
    """A series that only one has is kept."""
    head, middle = "# TYPE c_total counter\n", "# TYPE h histogram\n"
    first = head + 'c_total{a="1",b="x"} 2\n' + middle + 'h_bucket{le="+Inf"} 3\nh_count 3\nh_sum 1.5\n'
    second = 'c_total{b="x",a="1"} 5\nc_total{a="2",b="x"} 1\n'
    other = head + second + middle + 'h_bucket{le="+Inf"} 1\nh_count 1\nh_sum 1\n'
    assert together(first, other) == {
        ("c_total", "1", "x"): 7,
        ("c_total", "2", "x"): 1,
        ("h_bucket", "+Inf"): 4,
        ("h_count",): 4,
        ("h_sum",): 2.5,
    }


def test_merged_numbers_are_exposed_as_one_workers_are():
    """The same families and series in the same order, in both formats; one alone stays as it is."""
    one, other = metrics(2), metrics(3)
    text, _ = expose(other.registry, "")
    for accept in ("", OPENMETRICS):
        alone, kind = expose(one.registry, accept)
        merged, merged_kind = expose(Merged(merge([one.registry.collect(), parsed(text.decode())])), accept)
        assert merged_kind == kind
        assert [line.split()[:-1] for line in merged.splitlines()] == [line.split()[:-1] for line in alone.splitlines()]
        assert b'http_requests_total{code="200",method="GET",route="operate",source="upstream"} 5.0\n' in merged
        assert b'http_request_duration_seconds_bucket{le="0.0025",route="operate"} 5.0\n' in merged
