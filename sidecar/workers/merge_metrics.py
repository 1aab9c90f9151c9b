"""Many workers' numbers as one sidecar's. Pure.

Counters and histograms are summed. What a gauge means stands in `GAUGES`; a test asks it for each that there is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain

from prometheus_client import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

_P = "camunda_sidecar_"

Rule = Callable[[float, float], float]


def add(one: float, other: float) -> float:
    """The sum, where each worker has some of it."""
    return one + other


GAUGES: dict[str, Rule] = {
    f"{_P}http_requests_in_flight": add,
    f"{_P}upstream_connections": add,
    f"{_P}token_waiters": add,
    # One sees what concerns all of them, perhaps later than another.
    f"{_P}token_expiry_timestamp_seconds": max,
    f"{_P}cooldown_until_timestamp_seconds": max,
    f"{_P}quarantined": max,
    f"{_P}secret_pending": max,
    f"{_P}secret_file_errors": max,
    f"{_P}build_info": max,
    # All is well only where it is with each.
    f"{_P}store_up": min,
    f"{_P}config_last_reload_success": min,
    f"{_P}config_last_reload_success_timestamp_seconds": min,
    "process_virtual_memory_bytes": add,
    "process_resident_memory_bytes": add,
    "process_open_fds": add,
    "process_max_fds": add,
    "process_start_time_seconds": min,
}


def is_cumulative(family: Metric) -> bool:
    """Whether its numbers only ever grow."""
    return family.type in {"counter", "histogram"}


def merge(expositions: Iterable[Iterable[Metric]]) -> list[Metric]:
    """One exposition; series stand in the order in which they first come."""
    merged: dict[str, Metric] = {}
    for family in chain.from_iterable(expositions):
        whole = merged.setdefault(family.name, Metric(family.name, family.documentation, family.type))
        rule = add if is_cumulative(family) else GAUGES.get(family.name, add)
        whole.samples = list(_combined([*whole.samples, *family.samples], rule))
    return list(merged.values())


def _combined(samples: Iterable[Sample], rule: Rule) -> Iterator[Sample]:
    values: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
    for sample in samples:
        key = (sample.name, tuple(sorted(sample.labels.items())))
        values[key] = rule(values[key], sample.value) if key in values else sample.value
    for (name, labels), value in values.items():
        yield Sample(name, dict(labels), value)


class Merged(Collector):
    """An exposition that is there already, for whoever wants a registry."""

    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        """See `Collector`."""
        return self._families
