"""Spans, as an OTLP collector gets them: a small real one, in HTTP and protobuf."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sidecar.traces import wanted
from tests.acceptance.peers import Hang, Peer, grants, peer, refuses, resets, says
from tests.acceptance.support import Sidecar, clean_environment, configuration, running, until

trace_service = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"
INTERNAL, SERVER, ERROR = 1, 2, 2


class Collector:
    """What has been exported to it."""

    def __init__(self, collector: Peer) -> None:
        self._peer = collector

    def spans(self) -> list[Any]:
        found = []
        for request in self._peer.requests:
            assert (request.method, request.target) == ("POST", "/v1/traces")
            assert request.headers["content-type"] == "application/x-protobuf"
            message = trace_service.ExportTraceServiceRequest.FromString(request.body)
            self.resource = attributes(message.resource_spans[0].resource)
            found += [span for each in message.resource_spans for scope in each.scope_spans for span in scope.spans]
        return found

    def named(self, *names: str) -> list[Any]:
        """The spans of these names, as soon as all of them have come."""
        return until(lambda: {span.name for span in self.spans()} >= set(names) and self._of(names), f"spans {names}")

    def _of(self, names: tuple[str, ...]) -> list[Any]:
        by_name = {span.name: span for span in self.spans()}
        return [by_name[name] for name in names]


def attributes(of: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in of.attributes}


@contextmanager
def traced(tmp_path: Path, upstream_url: str, issuer: Any = None, **env: str) -> Iterator[tuple[Sidecar, Collector]]:
    with peer(issuer or grants()) as login, peer(says(200)) as collector:
        written = configuration(tmp_path, f"{login.url}/t", {"operate": {"upstream": upstream_url}})
        variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "50"}
        with running(tmp_path, written, **(variables | env)) as sidecar:
            yield sidecar, Collector(collector)


def test_a_request_is_a_span_with_its_waits(tmp_path: Path) -> None:
    """By OpenTelemetry's conventions for HTTP, within the client's trace, whose context passes unchanged."""
    with peer(says(200)) as upstream, traced(tmp_path, upstream.url) as (sidecar, collector):
        headers = {"traceparent": PARENT, "tracestate": "a=b", "X-Request-ID": "mine"}
        assert sidecar.ask("/operate/v1/x?secret=1", headers=headers).status == 200
        token, connection, span = collector.named("token", "connection", "GET /operate")
        assert (span.kind, token.kind, connection.kind) == (SERVER, INTERNAL, INTERNAL)
        assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, "b7ad6b7169203331")
        assert token.parent_span_id == connection.parent_span_id == span.span_id
        assert span.start_time_unix_nano <= token.start_time_unix_nano <= token.end_time_unix_nano
        assert token.end_time_unix_nano <= connection.start_time_unix_nano + 1_000_000
        assert connection.end_time_unix_nano <= span.end_time_unix_nano
        told = attributes(span)
        assert (
            told.items()
            >= {
                "http.request.method": "GET",
                "http.response.status_code": 200,
                "http.route": "/operate",
                "network.protocol.version": "1.1",
                "server.address": "127.0.0.1",
                "url.path": "/operate/v1/x",
                "url.scheme": "http",
                "camunda_sidecar.request_id": "mine",
                "camunda_sidecar.source": "upstream",
            }.items()
        )
        assert "secret" not in str(collector.spans())
        assert collector.resource["service.name"] == "camunda-sidecar"
        passed = upstream.requests[0].headers
        assert (passed["traceparent"], passed["tracestate"]) == (PARENT, "a=b")
        assert sidecar.ask("/operate/v1/y").status == 200
        until(lambda: [span.name for span in collector.spans()].count("GET /operate") == 2, "the second request")
        assert [span.name for span in collector.spans()].count("token") == 1  # the second one waited for nothing


def test_an_error_is_a_span_that_says_which(tmp_path: Path) -> None:
    """`error.type` is the sidecar's code; a client's mistake is no error of the server's."""
    with traced(tmp_path, "http://127.0.0.1:1", refuses()) as (sidecar, collector):
        assert sidecar.ask("/operate/x").status == 502
        assert sidecar.ask("/nowhere").status == 404
        refused, nowhere = collector.named("GET /operate", "GET")
        assert (refused.status.code, attributes(refused)["error.type"]) == (ERROR, "credential_rejected")
        assert (nowhere.status.code, attributes(nowhere)["http.response.status_code"]) == (0, 404)


def test_the_standard_variables_are_heeded(tmp_path: Path) -> None:
    """The service's name, and the sampler: a trace that is not sampled is not exported."""
    env = {"OTEL_SERVICE_NAME": "billing", "OTEL_TRACES_SAMPLER": "parentbased_always_off"}
    with peer(says(200)) as upstream, traced(tmp_path, upstream.url, **env) as (sidecar, collector):
        for _ in range(5):
            assert sidecar.ask("/operate/unsampled").status == 200
        assert sidecar.ask("/operate/sampled", headers={"traceparent": PARENT}).status == 200
        [span] = collector.named("GET /operate")
        assert attributes(span)["url.path"] == "/operate/sampled"
        assert collector.resource["service.name"] == "billing"
        assert sidecar.end() == 0
        assert [span.name for span in collector.spans()] == ["GET /operate"]


@pytest.mark.parametrize("collector", ["hangs", "resets"])
def test_a_broken_collector_holds_nothing_up(tmp_path: Path, collector: str) -> None:
    """Requests go on, spans are lost, and the end comes in time."""
    behaviour = Hang() if collector == "hangs" else resets
    with peer(says(200)) as upstream, peer(behaviour) as broken:
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": broken.url, "OTEL_BSP_MAX_QUEUE_SIZE": "8"}
        env |= {"OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "4"}
        with traced(tmp_path, upstream.url, **env) as (sidecar, _):
            for _ in range(50):
                assert sidecar.ask("/operate/x").status == 200
            assert sidecar.end() == 0


def test_without_a_collector_nothing_of_it_is_imported(tmp_path: Path) -> None:
    """The extra may be installed: it costs neither memory nor a thread where nobody wants traces."""
    code = "import sys, sidecar.service, sidecar.traces as t; print(t.wanted({}), 'opentelemetry' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], env=clean_environment(), capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == ["False", "False"]
    named = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318"}
    assert wanted(named)
    assert not wanted(named | {"OTEL_SDK_DISABLED": "true"})
    assert not wanted(named | {"OTEL_TRACES_EXPORTER": "none"})
