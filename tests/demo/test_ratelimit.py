import pytest

from sidecar.demo.ratelimit import Limit, RateLimiter

LIMIT = Limit(interval=1.0, strikes=3, window=10.0, block=30.0)


def run(limit, *moments, address="10.0.0.1"):
    limiter = RateLimiter(limit)
    return [limiter.admit(address, now)[0] for now in moments]


@pytest.mark.parametrize(
    ("moments", "expected"),
    [
        ((0.0,), ["allowed"]),
        ((0.0, 1.0, 2.0), ["allowed"] * 3),
        ((0.0, 0.99, 1.0), ["allowed", "throttled", "allowed"]),
        ((0.0, 0.1, 0.2, 0.3, 1.5), ["allowed", "throttled", "throttled", "blocked", "blocked"]),
        ((0.0, 0.1, 0.2, 0.3, 30.2, 30.4), ["allowed", "throttled", "throttled", "blocked", "blocked", "allowed"]),
        ((0.0, 0.1, 0.2, 20.0, 20.5), ["allowed", "throttled", "throttled", "allowed", "throttled"]),
    ],
)
def test_one_request_an_interval_and_bursts_block(moments, expected):
    """One request an interval passes; a burst blocks the address until the block is over; old strikes are forgotten."""
    assert run(LIMIT, *moments) == expected


def test_addresses_do_not_know_each_other():
    """The limit is one source address's."""
    limiter = RateLimiter(LIMIT)
    assert [limiter.admit(address, 0.0)[0] for address in ("10.0.0.1", "10.0.0.2")] == ["allowed", "allowed"]


def test_the_wait_is_told():
    """It is what is left of the interval, and of the block."""
    limiter = RateLimiter(LIMIT)
    waits = [limiter.admit("a", now)[1] for now in (0.0, 0.25, 0.5, 0.75, 10.75)]
    assert waits == [0.0, 0.75, 0.5, 30.0, 20.0]


def test_no_interval_is_no_limit():
    """The benchmark's issuer has no limit."""
    assert run(Limit(interval=0.0), *[0.0] * 50) == ["allowed"] * 50
