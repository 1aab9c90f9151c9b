import asyncio

from prometheus_client.parser import text_string_to_metric_families

from sidecar.telemetry.exposition import expose
from sidecar.telemetry.metrics import Metrics


class ManualClock:
    """Time that stands still until a test moves it."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def wall(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    def boottime(self) -> float:
        return self.now

    def boot_id(self) -> str:
        return "boot"

    async def sleep(self, seconds: float) -> None:
        self.now += max(0.0, seconds)
        await asyncio.sleep(0)


def samples(metrics: Metrics) -> dict[tuple, float]:
    """Every sample by its name and its sorted labels."""
    body, _ = expose(metrics.registry, "")
    found = (sample for family in text_string_to_metric_families(body.decode()) for sample in family.samples)
    return {(sample.name, *sorted(sample.labels.items())): sample.value for sample in found}
