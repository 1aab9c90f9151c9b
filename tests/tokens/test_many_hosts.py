"""Real processes on a real Redis that is killed and comes back empty: the short version of `many_hosts.py`."""

from __future__ import annotations

from tests.tokens import many_hosts


async def test_many_processes_are_one_source_with_their_redis_and_without_it() -> None:
    """Cold, one asks for each token and the others hear of it; without Redis, at most ten requests in ten seconds."""
    outcome = await many_hosts.run(processes=12, fault="kill", seconds=22.0, lasts=8.0, lifetime=8.0)
    began, _ = outcome.away
    first = [audience for at, audience in outcome.issuer.arrivals if at < began][:3]
    assert sorted(first) == ["audience-0", "audience-1", "audience-2"]
    assert outcome.most_in_ten <= 10
    assert outcome.operations < 6  # a second, of each that waits
    assert outcome.total("asked") > outcome.total("refused")
