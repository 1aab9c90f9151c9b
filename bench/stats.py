"""Medians, their spread, and ratios of rounds that ran side by side."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Figure:
    """A median and the rounds' extremes."""

    median: float
    low: float
    high: float

    @property
    def spread(self) -> float:
        """The farther extreme's distance from the median, as a share of the median."""
        return max(self.high - self.median, self.median - self.low) / self.median if self.median else 0.0

    def as_json(self) -> dict[str, float]:
        return asdict(self)


def figure(values: Sequence[float]) -> Figure:
    """
    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("a figure needs at least one round")
    return Figure(median(values), min(values), max(values))


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Figure | None:
    """Ours to theirs, round by round (the rounds are interleaved, so a noisy minute hits both); None without a pair."""
    pairs = [our / their for our, their in zip(ours, theirs, strict=False) if their]
    return figure(pairs) if pairs else None


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of the values do not exceed (nearest rank); `ordered` ascends."""
    if not ordered:
        raise ValueError("a percentile needs at least one value")
    rank = -(-len(ordered) * round(share * 1_000_000) // 1_000_000)
    return ordered[max(1, rank) - 1]


def human(value: float) -> str:
    """Three significant digits, thousands with a separator."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}" if abs(value) < 10 else f"{value:.1f}"
