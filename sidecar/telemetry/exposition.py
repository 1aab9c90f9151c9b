"""Writes a registry in the format that the scraper asks for."""

from __future__ import annotations

from prometheus_client import exposition as text
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

OPENMETRICS = "application/openmetrics-text"


def expose(registry: Collector, accept: str) -> tuple[bytes, str]:
    """Return the metrics and their content type: OpenMetrics where `accept` (RFC 9110, 12.5.1) names it, else text.

    Prometheus names OpenMetrics first; everything else, a browser and curl included, reads the plain text.
    """
    if _accepts_openmetrics(accept):
        return openmetrics.generate_latest(registry), openmetrics.CONTENT_TYPE_LATEST
    return text.generate_latest(registry), text.CONTENT_TYPE_PLAIN_0_0_4


def _accepts_openmetrics(accept: str) -> bool:
    for item in accept.split(","):
        media_type, *parameters = (part.strip().lower() for part in item.split(";"))
        if media_type == OPENMETRICS:
            return not any(
                parameter.replace(" ", "") in ("q=0", "q=0.0", "q=0.00", "q=0.000") for parameter in parameters
            )
    return False
