"""The demo's table: what was served, what it cost in tokens, how long it took. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sidecar.demo.load import Sample

TEXT_COLUMNS = 2


@dataclass(frozen=True, slots=True)
class PrefixLine:
    """One prefix's requests. Times in seconds."""

    prefix: str
    audience: str
    served: int
    failed: int
    first: float
    """Until its first answer, from the load's beginning: the wait for its token is in it."""
    median: float
    """Of the requests that began after the first answer; of all where there are none."""
    p99: float


@dataclass(frozen=True, slots=True)
class Report:
    """The whole."""

    lines: tuple[PrefixLine, ...]
    tokens_requested: int
    tokens_refused: int
    clients: int
    statuses: dict[int, int]
    """How often each status code came that is no success; 0: no answer."""
    median: float
    p99: float

    @property
    def served(self) -> int:
        """Requests that the upstream's answer came through for."""
        return sum(line.served for line in self.lines)

    @property
    def sent(self) -> int:
        """All requests."""
        return self.served + sum(line.failed for line in self.lines)

    @property
    def succeeded(self) -> bool:
        """Whether every request was served, and not one token request was refused."""
        return self.sent == self.served and self.tokens_refused == 0


def summarize(
    samples: Sequence[Sample], audiences: dict[str, str], *, clients: int, tokens_requested: int, tokens_refused: int
) -> Report:
    """The report; `audiences` by prefix."""
    by_prefix = {prefix: [sample for sample in samples if sample.prefix == prefix] for prefix in audiences}
    warm = [sample for of in by_prefix.values() for sample in _warm(of)] or list(samples)
    return Report(
        lines=tuple(_line(prefix, audiences[prefix], of) for prefix, of in by_prefix.items() if of),
        tokens_requested=tokens_requested,
        tokens_refused=tokens_refused,
        clients=clients,
        statuses=dict(Counter(sample.status for sample in samples if not sample.served)),
        median=percentile(_durations(warm), 0.5),
        p99=percentile(_durations(warm), 0.99),
    )


def _line(prefix: str, audience: str, samples: Sequence[Sample]) -> PrefixLine:
    served = sum(sample.served for sample in samples)
    warm = _durations(_warm(samples) or samples)
    return PrefixLine(
        prefix=prefix,
        audience=audience,
        served=served,
        failed=len(samples) - served,
        first=min(sample.ended for sample in samples),
        median=percentile(warm, 0.5),
        p99=percentile(warm, 0.99),
    )


def _warm(samples: Sequence[Sample]) -> list[Sample]:
    """Those that began after the first answer of their prefix: the token was there."""
    first = min((sample.ended for sample in samples), default=0.0)
    return [sample for sample in samples if sample.begun >= first]


def _durations(samples: Sequence[Sample]) -> list[float]:
    return [sample.ended - sample.begun for sample in samples]


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of them do not exceed; 0 of none.

    >>> percentile([4, 1, 3, 2], 0.5), percentile([4, 1, 3, 2], 0.99)
    (2, 4)
    """
    if not values:
        return 0.0
    ordered = sorted(values)
    rank = -(-len(ordered) * share // 1)  # the ceiling
    return ordered[max(0, int(rank) - 1)]


def render(report: Report) -> Iterator[str]:
    """The lines to print."""
    head = ("prefix", "audience", "served", "failed", "first answer", "then: median", "99 % within")
    rows = [
        (
            line.prefix,
            line.audience,
            str(line.served),
            str(line.failed),
            *(milliseconds(seconds) for seconds in (line.first, line.median, line.p99)),
        )
        for line in report.lines
    ]
    yield from _table(head, rows)
    yield ""
    yield f"  Requests served   {report.served:>5} of {report.sent}" + _failures(report)
    yield f"  Tokens requested  {report.tokens_requested:>5}   {_comparison(report)}"
    yield f"  Tokens refused    {report.tokens_refused:>5}   its issuer allows one a second, and blocks bursts"
    yield f"  Latency           {milliseconds(report.median):>8} median, 99 % within {milliseconds(report.p99)}"


def _comparison(report: Report) -> str:
    each = report.clients * len({line.audience for line in report.lines})
    return f"without a cache {report.sent}, with a cache in each of the {report.clients} programs {each}"


def _failures(report: Report) -> str:
    if not report.statuses:
        return ""
    told = (f"{count} x {status or 'no answer'}" for status, count in sorted(report.statuses.items()))
    return f"   (not served: {', '.join(told)})"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(line[column]) for line in (head, *rows)) for column in range(len(head))]
    for line in (head, *rows):
        texts, numbers = line[:TEXT_COLUMNS], line[TEXT_COLUMNS:]
        left = [cell.ljust(width) for cell, width in zip(texts, widths[:TEXT_COLUMNS], strict=True)]
        right = [cell.rjust(width) for cell, width in zip(numbers, widths[TEXT_COLUMNS:], strict=True)]
        yield "  " + "   ".join([*left, *right]).rstrip()


def milliseconds(seconds: float) -> str:
    """Short, with its unit.

    >>> [milliseconds(s) for s in (0.00123, 0.0456, 1.2345)]
    ['1.2 ms', '46 ms', '1.23 s']
    """
    if seconds >= 1:
        return f"{seconds:.2f} s"
    value = seconds * 1000
    return f"{value:.1f} ms" if value < 10 else f"{value:.0f} ms"  # noqa: PLR2004 (two digits that tell something)
