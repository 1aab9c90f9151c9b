"""The arithmetic of the benchmark's figures."""

import pytest

from bench.stats import figure, human, percentile, ratio


def test_a_figure_is_a_median_with_its_extremes():
    """One wild round moves the spread and not the figure."""
    found = figure([10.0, 11.0, 100.0])
    assert (found.median, found.low, found.high) == (11.0, 10.0, 100.0)
    assert found.spread == pytest.approx(89 / 11)


def test_a_figure_of_nothing_is_refused():
    """No round, no figure: never a zero that looks measured."""
    with pytest.raises(ValueError, match="at least one round"):
        figure([])


def test_ratios_are_taken_round_by_round():
    """A slow minute that hits both sides of a pair does not move the ratio."""
    found = ratio([100.0, 10.0, 200.0], [50.0, 5.0, 100.0])
    assert found is not None
    assert (found.median, found.low, found.high) == (2.0, 2.0, 2.0)


@pytest.mark.parametrize(("ours", "theirs"), [([], [1.0]), ([1.0], []), ([1.0], [0.0])])
def test_a_ratio_needs_both_sides(ours, theirs):
    """What was not measured on both sides has no ratio."""
    assert ratio(ours, theirs) is None


@pytest.mark.parametrize(("share", "expected"), [(0.5, 500), (0.99, 990), (0.999, 999), (1.0, 1000), (0.0001, 1)])
def test_percentiles_are_values_that_occurred(share, expected):
    """Nearest rank: p99.9 of a thousand values is the 999th, not an interpolation."""
    assert percentile(range(1, 1001), share) == expected


@pytest.mark.parametrize(
    ("value", "text"), [(12345.6, "12,346"), (999.4, "999"), (123.4, "123"), (12.34, "12.3"), (1.234, "1.23"), (0, "0")]
)
def test_figures_have_three_digits(value, text):
    """Nobody reads a precision that was not measured."""
    assert human(value) == text
