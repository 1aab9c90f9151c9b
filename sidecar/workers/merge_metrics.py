"""Makes one exposition of several workers' expositions. Pure.

Counters and histograms are added. `GAUGES` says how the values of a gauge become one; a test finds one without a rule.
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
    """Return the sum."""
    return one + other


GAUGES: dict[str, Rule] = {
    f"{_P}http_requests_in_flight": add,
    f"{_P}upstream_connections": add,
    f"{_P}token_waiters": add,
    f"{_P}budget_used_ratio": add,
    f"{_P}token_state": max,  # and then one of them: `_one_state`
    # Each worker sees what concerns all of them, one perhaps later than another: the most is right.
    f"{_P}token_expiry_timestamp_seconds": max,
    f"{_P}cooldown_until_timestamp_seconds": max,
    f"{_P}token_last_success_timestamp_seconds": max,
    f"{_P}quarantined": max,
    f"{_P}secret_pending": max,
    f"{_P}secret_file_errors": max,
    f"{_P}build_info": max,
    # All is well only if it is so in every worker: the least is right.
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
    """Whether the family's numbers only ever grow."""
    return family.type in {"counter", "histogram"}


def merge(expositions: Iterable[Iterable[Metric]]) -> list[Metric]:
    """Merge expositions; families and series keep the order in which they first come."""
    merged: dict[str, Metric] = {}
    for family in chain.from_iterable(expositions):
        whole = merged.setdefault(family.name, Metric(family.name, family.documentation, family.type))
        rule = add if is_cumulative(family) else GAUGES.get(family.name, add)
        whole.samples = list(_combined([*whole.samples, *family.samples], rule))
        if family.name == f"{_P}token_state":
            whole.samples = [*_one_state(whole.samples)][::-1]
    return list(merged.values())


def _one_state(samples: list[Sample]) -> Iterator[Sample]:
    """Leave each token one state, the last, which tells the most. A worker that never wanted the token says `none`."""
    seen: set[tuple[str, str]] = set()
    for sample in reversed(samples):
        token = sample.labels["credential"], sample.labels["audience"]
        yield sample._replace(value=float(sample.value > 0 and token not in seen))
        if sample.value:
            seen.add(token)


def _combined(samples: Iterable[Sample], rule: Rule) -> Iterator[Sample]:
    whole: dict[tuple[str, tuple[tuple[str, str], ...]], Sample] = {}
    for sample in samples:
        key = (sample.name, tuple(sorted(sample.labels.items())))
        before = whole.get(key)
        value = sample.value if before is None else rule(before.value, sample.value)
        exemplar = sample.exemplar or (before and before.exemplar) or None
        whole[key] = Sample(sample.name, dict(key[1]), value, exemplar=exemplar)
    yield from whole.values()


class Merged(Collector):
    """A registry of an exposition that is there already."""

    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        """Return the exposition."""
        return self._families
