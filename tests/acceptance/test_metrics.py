"""Metrics: names and labels, complete and at 0 before any request."""

from __future__ import annotations

import re
import time

import pytest

from tests.acceptance.peers import grants, peer, says
from tests.acceptance.support import configuration, ending, plain, raw, running, spawn, write

TOKEN_URL = "http://127.0.0.1:1/oauth/token"
CLUSTER = {"credential": "cluster", "audience": "operate.camunda.io"}
EXPECTED = {
    "token_requests_total": {"issuer", "audience", "outcome"},
    "token_request_duration_seconds_count": set(),
    "token_lookups_total": {"audience", "source"},
    "token_waiters": set(),
    "token_wait_seconds_count": set(),
    "token_invalidations_total": {"audience", "reason"},
    "budget_wait_seconds_count": set(),
    "cooldown_until_timestamp_seconds": {"issuer"},
    "quarantined": {"credential", "audience"},
    "store_up": set(),
    "token_state": {"credential", "audience", "state"},
    "token_last_success_timestamp_seconds": {"credential", "audience"},
    "budget_used_ratio": {"issuer"},
    "store_errors_total": {"operation"},
    "http_requests_total": {"route", "method", "code", "source"},
    "http_request_duration_seconds_count": {"route"},
    "http_requests_in_flight": {"route"},
    "upstream_connections": {"route", "state"},
    "upstream_retries_total": {"route", "reason"},
    "guard_rejections_total": {"reason"},
    "config_last_reload_success": set(),
    "config_last_reload_success_timestamp_seconds": set(),
}
NOT_ZERO = {"store_up", "config_last_reload_success", "config_last_reload_success_timestamp_seconds"}


def labels_of(samples, name: str) -> set[frozenset[str]]:
    return {frozenset(key for key, _ in labels) for found, labels in samples if found == f"camunda_sidecar_{name}"}


def test_every_metric_is_there_at_zero_before_any_request(tmp_path):
    """Names, labels, and 0: an alert on a rate must not miss the first error."""
    routes = {name: {"upstream": "http://127.0.0.1:1"} for name in ("operate", "optimize")}
    with running(tmp_path, configuration(tmp_path, TOKEN_URL, routes)) as sidecar:
        samples = sidecar.metrics()
        for name, labels in EXPECTED.items():
            assert labels_of(samples, name) == {frozenset(labels)}, name
            values = {value for (found, _), value in samples.items() if found == f"camunda_sidecar_{name}"}
            if name == "token_state":
                assert values == {0.0, 1.0}  # an enumeration: `none` is 1
            elif name not in NOT_ZERO:
                assert values == {0.0}, name
        assert any(name == "camunda_sidecar_token_expiry_timestamp_seconds" for name, _ in samples)
        assert sidecar.metric("store_up") == sidecar.metric("config_last_reload_success") == 1
        assert abs(sidecar.metric("config_last_reload_success_timestamp_seconds") - time.time()) < 60
        for source in ("memory", "store", "issuer", "coalesced"):
            assert sidecar.metric("token_lookups_total", audience="operate.camunda.io", source=source) == 0
        assert labels_of(samples, "build_info")
        assert sidecar.total("build_info") == 1


def test_no_label_takes_what_a_client_invents(tmp_path):
    """Methods, paths and hosts of a client's making make no new series."""
    with peer(says(200)) as upstream:
        routes = {"api": {"upstream": upstream.url, "credential": "open"}}
        written = configuration(tmp_path, TOKEN_URL, routes)
        written["credentials"] = {"open": {"type": "none"}}
        with running(tmp_path, written) as sidecar:
            for number in range(20):
                for path in (f"/api/{number}", f"/unknown{number}/x"):
                    sidecar.ask(path, f"INVENTED{number}")
                sidecar.ask("/api/x", headers={"Host": f"host{number}.example"})
                raw(sidecar.address, b"GARBAGE%d\r\n\r\n" % number)
            seen = {value for name, labels in sidecar.metrics() for _, value in labels if "camunda" in name}
            invented = ("INVENTED", "unknown", ".example", "GARBAGE")
            assert [value for value in seen if any(word in value for word in invented)] == []
            assert sidecar.total("http_requests_total", method="other", route="api") == 20


def test_what_happens_is_counted_once(tmp_path):
    """Five requests: five in the counter and the histogram, one token requested, one issued, four from memory."""
    with peer(grants()) as issuer, peer(says(201, b"ok")) as upstream:
        written = configuration(tmp_path, issuer.url + "/t", {"operate": {"upstream": upstream.url}})
        with running(tmp_path, written) as sidecar:
            for _ in range(5):
                sidecar.ask("/operate/x", "POST", body=b"{}")
            count = sidecar.metric
            assert count("http_requests_total", route="operate", method="POST", code="201", source="upstream") == 5
            assert count("http_request_duration_seconds_count", route="operate") == 5
            assert count("http_requests_in_flight", route="operate") == 0
            lookups = {
                s: count("token_lookups_total", audience="operate.camunda.io", source=s) for s in ("issuer", "memory")
            }
            assert lookups == {"issuer": 1, "memory": 4}
            requested = {"issuer": issuer.url + "/t", "audience": "operate.camunda.io"}
            assert count("token_requests_total", **requested, outcome="success") == 1
            assert count("token_request_duration_seconds_count") == 1
            assert count("token_wait_seconds_count") == 1
            assert count("token_waiters") == 0
            assert sidecar.total("upstream_connections", route="operate", state="idle") >= 1


def test_the_exposition_speaks_to_both_kinds_of_scraper(tmp_path):
    """Prometheus' text by default, OpenMetrics where it is asked for."""
    with running(tmp_path, configuration(tmp_path, TOKEN_URL, {"api": {"upstream": "http://127.0.0.1:1"}})) as sidecar:
        plain = sidecar.operate("/metrics")
        assert plain.headers["content-type"].startswith("text/plain")
        asked = {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"}
        modern = sidecar.operate("/metrics", headers=asked)
        assert modern.headers["content-type"].startswith("application/openmetrics-text")
        assert modern.body.endswith(b"# EOF\n")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_slow_request_leads_to_its_trace(tmp_path, workers):
    """In OpenMetrics a bucket names a recorded trace that fell into it, whichever worker served it; text has none."""
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    with peer(says(200, b"ok")) as upstream:
        file = write(tmp_path / "config.yaml", plain(tmp_path, upstream.url))
        with ending(spawn("run", "--config", str(file), "--workers", workers)) as sidecar:
            sidecar.started()
            for _ in range(8):
                sidecar.ask("/api/x", headers={"traceparent": f"00-{trace}-00f067aa0ba902b7-01"})
            modern = sidecar.operate("/metrics", headers={"Accept": "application/openmetrics-text;version=1.0.0"}).body
            bucket = 'camunda_sidecar_http_request_duration_seconds_bucket{le="[^"]*",route="api"}'
            assert re.search(f'{bucket} [0-9.]+ # {{trace_id="{trace}"}} [0-9.]+'.encode(), modern)
            assert trace.encode() not in sidecar.operate("/metrics").body
