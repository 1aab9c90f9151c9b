"""Writes the demo's table: what was served, what it cost in tokens, how long it took. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sidecar.demo.load import Sample

_ROW = "  {:<9}   {:<20}   {:>6}   {:>6}   {:>12}   {:>12}   {:>11}"


@dataclass(frozen=True, slots=True)
class Report:
    """The results of one run."""

    samples: Sequence[Sample]
    audiences: Mapping[str, str]
    """By prefix."""
    clients: int
    tokens_requested: int
    tokens_refused: int

    @property
    def succeeded(self) -> bool:
        """Whether every request was served, and not one token request was refused."""
        return all(sample.served for sample in self.samples) and self.tokens_refused == 0

    def of(self, prefix: str) -> list[Sample]:
        """Return the requests of one prefix."""
        return [sample for sample in self.samples if sample.prefix == prefix]


def render(report: Report) -> Iterator[str]:
    """Return the lines to print."""
    yield _ROW.format("prefix", "audience", "served", "failed", "first answer", "then: median", "99 % within")
    visited = {prefix: audience for prefix, audience in report.audiences.items() if report.of(prefix)}
    for prefix, audience in visited.items():
        samples = report.of(prefix)
        served = sum(sample.served for sample in samples)
        first = min(sample.ended for sample in samples)
        median, p99 = latency(warm(samples) or samples)
        yield _ROW.format(prefix, audience, served, len(samples) - served, milliseconds(first), median, p99)
    failed = Counter(sample.status for sample in report.samples if not sample.served)
    told = ", ".join(f"{count} x {status or 'no answer'}" for status, count in sorted(failed.items()))
    total = len(report.samples)
    each = report.clients * len(set(visited.values()))
    median, p99 = latency([sample for prefix in visited for sample in warm(report.of(prefix))] or report.samples)
    yield ""
    yield f"  Requests served   {total - failed.total():>5} of {total}" + (f"   (not served: {told})" if told else "")
    yield (
        f"  Tokens requested  {report.tokens_requested:>5}   without a cache {total}, "
        f"with a cache in each of the {report.clients} programs {each}"
    )
    yield f"  Tokens refused    {report.tokens_refused:>5}   its issuer allows one a second, and blocks bursts"
    yield f"  Latency           {median:>8} median, 99 % within {p99}"


def warm(samples: Sequence[Sample]) -> list[Sample]:
    """Return the samples that began after the first answer: their token was there already."""
    first = min((sample.ended for sample in samples), default=0.0)
    return [sample for sample in samples if sample.begun >= first]


def latency(samples: Sequence[Sample]) -> tuple[str, str]:
    """Return the median, and what 99 % do not exceed."""
    durations = [sample.ended - sample.begun for sample in samples]
    return milliseconds(percentile(durations, 0.5)), milliseconds(percentile(durations, 0.99))


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of them do not exceed; 0 of none.

    >>> percentile([4, 1, 3, 2], 0.5), percentile([4, 1, 3, 2], 0.99)
    (2, 4)
    """
    rank = -(-len(values) * share // 1)  # the ceiling
    return sorted(values)[max(0, int(rank) - 1)] if values else 0.0


def milliseconds(seconds: float) -> str:
    """Short, with its unit.

    >>> [milliseconds(s) for s in (0.00123, 0.0456, 1.2345)]
    ['1.2 ms', '46 ms', '1.23 s']
    """
    if seconds >= 1:
        return f"{seconds:.2f} s"
    value = seconds * 1000
    return f"{value:.1f} ms" if value < 10 else f"{value:.0f} ms"  # noqa: PLR2004 (two digits that tell something)
