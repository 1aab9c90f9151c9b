"""What wrk says, and what makes a round of it worthless."""

import pytest

from bench.processes import BenchError
from bench.wrk import Result, faults, parse

_LINE = (
    'noise\n{"requests":1000,"microseconds":2000000,"bytes":500000,"connect":0,"read":2,"write":0,"status":3,'
    '"timeout":0,"p50":1500.0,"p99":9000.0}\n'
)


def test_wrk_figures_are_read():
    """Times become seconds and milliseconds, and only errors that happened are kept."""
    assert parse(_LINE) == Result(1000, 2.0, 500_000, {"read": 2, "status": 3}, 1.5, 9.0)
    assert parse(_LINE).rate == 500.0


def test_wrk_without_figures_is_an_error():
    """A load that did not run is no result."""
    with pytest.raises(BenchError, match="no figures"):
        parse("unable to connect")


def _result(**changes):
    facts = {"requests": 1000, "seconds": 1.0, "bytes": 500_000, "errors": {}, "p50": 1.0, "p99": 2.0}
    return Result(**(facts | changes))


@pytest.mark.parametrize(
    ("changes", "counted", "expected"),
    [
        ({}, 1000, []),
        ({}, 1032, []),
        ({"bytes": 501_000}, 1000, []),
        ({"errors": {"status": 7}}, 1000, ["7 status errors"]),
        ({"bytes": 400_000}, 1000, ["400.0 bytes an answer instead of 500"]),
        ({}, 900, ["1000 answers, but only 900 requests reached the origin"]),
        ({"requests": 0, "bytes": 0}, 0, ["no request was answered"]),
    ],
)
def test_a_round_is_checked(changes, counted, expected):
    """Every answer 200 and of the right length, and every one from the origin: else the round is thrown away."""
    assert faults(_result(**changes), connections=8, answer_bytes=500, counted=counted) == expected
