"""The simulation keeps its promises, and is the same each time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation import cluster
from tests.simulation.__main__ import broken_promises
from tests.simulation.run import Scenario, simulate_host

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("number", range(6))
def test_a_stormy_day_breaks_no_promise(number) -> None:
    """Slots apart, nothing expired or refused handed out, everybody answered in time, service back after the faults."""
    result = simulate_host(Scenario(seed=7), "shared", number)
    assert broken_promises(result) == []
    assert result.requests - result.in_outages < 1.6 * result.least


def test_a_calm_day_costs_what_it_must() -> None:
    """One request per identity and refresh, and a little more for spreading them."""
    result = simulate_host(Scenario(calm=True), "shared", 0)
    assert broken_promises(result) == []
    assert (result.throttled, result.refused, result.counters.failed) == (0, 0, 0)
    assert result.requests < 1.12 * result.least


def test_the_same_seed_is_the_same_day() -> None:
    """Replayable."""
    assert simulate_host(Scenario(hours=6), "shared", 3) == simulate_host(Scenario(hours=6), "shared", 3)


def test_a_person_can_run_it() -> None:
    """`python -m tests.simulation` prints both ways side by side."""
    command = [sys.executable, "-m", "tests.simulation", "--hosts", "2", "--hours", "3"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    for row in ("theoretical least", "longest wait of a client", "closest two requests", "answered 429", "on its own"):
        assert row in done.stdout


def test_many_hosts_behind_one_address_are_one_source_without_their_store() -> None:
    """Two outages, a partition, a cluster that starts while nobody knows the others: ten in any ten seconds, no ban.

    Without a store there is none of it.
    """
    scenario = cluster.Scenario(sidecars=60, hours=8)
    shared = cluster.simulate(scenario, "shared")
    assert cluster.broken_promises(shared) == []
    assert shared.times_the_least < 1.2  # of so few requests, one that was lost counts
    apart = cluster.simulate(cluster.Scenario(sidecars=60, hours=1), "apart")
    assert apart.issuer.bans > 0
