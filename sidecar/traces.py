"""Spans of requests, exported by OpenTelemetry's own SDK (the extra `otel`), which the variables OTEL_* configure.

A request's spans are made when it has ended, from the moments that it noted where it had to wait; what is not sampled
is not made. They wait in the SDK's bounded queue for its thread, and a collector that is slow or gone loses spans.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import structlog

from sidecar import __version__
from sidecar.clock import Clock

if TYPE_CHECKING:
    from sidecar.proxy.context import Record
    from sidecar.proxy.routing import Request

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
FLUSH_SECONDS: Final = 2.0
"""How long the end of the process waits for the collector; newer SDKs heed no limit of their own."""
_SERVER_ERROR: Final = 500

_log = structlog.get_logger(__name__)


def wanted(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether the environment names a collector, and does not switch traces off."""
    off = environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or environ.get("OTEL_TRACES_EXPORTER") == "none"
    return not off and any(environ.get(name) for name in _ENDPOINTS)


def traces(clock: Clock) -> Traces | None:
    """Return what makes spans, if the environment wants them; where the extra is missing, that is logged."""
    if not wanted():
        return None
    try:
        return Traces(clock)
    except ImportError:
        _log.warning("traces are wanted, and OpenTelemetry is not installed: pip install 'camunda-sidecar[otel]'")
        return None


class Traces:
    """Makes the spans of each request that has ended."""

    def __init__(self, clock: Clock) -> None:
        """Start the SDK's thread; it is a daemon.

        Raises:
            ImportError: OpenTelemetry is not installed.
        """
        from opentelemetry import trace  # noqa: PLC0415 (an extra, and slow to import)
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult  # noqa: PLC0415
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

        named = {"service.version": __version__}
        if not os.environ.get("OTEL_SERVICE_NAME") and "service.name=" not in os.environ.get(
            "OTEL_RESOURCE_ATTRIBUTES", ""
        ):
            named["service.name"] = "camunda-sidecar"
        self._provider = TracerProvider(resource=Resource.create(named), shutdown_on_exit=False)
        exporter = OTLPSpanExporter()
        exporter.export = partial(_export, exporter.export, SpanExportResult.FAILURE)  # type: ignore[method-assign]
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("camunda_sidecar", __version__)
        self._context = TraceContextTextMapPropagator()
        self._api = trace
        self._clock = clock

    def ended(self, record: Record, context: Mapping[str, str]) -> None:
        """Make the spans of a request; `context` has its W3C trace context by field name."""
        request = record.request
        if request is None:
            return
        api, end, now = self._api, self._clock.wall(), self._clock.monotonic()

        def nanoseconds(moment: float) -> int:
            return int((end - now + moment) * 1e9)

        prefix = request.route.prefix.decode("ascii") if request.route is not None else ""
        method = request.method.label if request.method.label != "other" else "_OTHER"
        span = self._tracer.start_span(
            f"{method if method != '_OTHER' else 'HTTP'} {prefix}".rstrip(),
            self._context.extract(context),
            api.SpanKind.SERVER,
            _attributes(request, method, prefix),
            start_time=nanoseconds(now - record.seconds),
        )
        if not span.is_recording():
            return
        inside = api.set_span_in_context(span)
        for name, began, ended in record.waits:
            child = self._tracer.start_span(name, inside, api.SpanKind.INTERNAL, start_time=nanoseconds(began))
            child.end(nanoseconds(ended))
        span.set_attributes(_outcome(record))
        if record.status >= _SERVER_ERROR:
            span.set_status(api.StatusCode.ERROR)
        span.end(nanoseconds(now))

    def close(self) -> None:
        """Export what waits. This blocks for as long as the collector does."""
        self._provider.force_flush(int(FLUSH_SECONDS * 1000))


def _export(export: Callable[[Any], Any], failure: object, spans: Sequence[object]) -> Any:
    """Export; a collector that cannot be reached is one line in the log, and no traceback for each batch."""
    try:
        return export(spans)
    except Exception as error:  # noqa: BLE001 (whatever the SDK's client raises, its thread goes on)
        _log.warning("spans were lost: the collector takes none", spans=len(spans), reason=type(error).__name__)
        return failure


def _attributes(request: Request, method: str, prefix: str) -> dict[str, Any]:
    """Return what is known before the answer, by OpenTelemetry's conventions for HTTP; the query may hold anything."""
    given = {
        "http.request.method": method,
        "url.scheme": "http",
        "url.path": request.path.decode("ascii"),
        "server.address": request.fields.host.decode("ascii"),
        "network.protocol.version": f"1.{request.minor}",
    }
    return given | ({"http.route": prefix} if prefix else {})


def _outcome(record: Record) -> dict[str, Any]:
    error = record.error
    told: dict[str, Any] = {
        "http.response.status_code": record.status,
        "camunda_sidecar.source": record.source,
        "camunda_sidecar.request_id": record.request_id,
    }
    if error is not None:
        told["error.type"] = error.code
    elif record.status >= _SERVER_ERROR:
        told["error.type"] = str(record.status)
    return told
