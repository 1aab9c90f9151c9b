"""No event costs more because ten thousand others wait: counted, so that a loaded machine changes nothing."""

from __future__ import annotations

import pytest

from sidecar.errors import UpstreamUnreachableError
from sidecar.proxy import pool
from tests.proxy.events import EVENTS, SIZES, Request, cost, counted
from tests.proxy.lab import until
from tests.proxy.test_pool import Network

pytestmark = pytest.mark.skipif(not str(pool.__file__).endswith(".py"), reason="compiled modules have no bytecodes")


@pytest.mark.parametrize("name", EVENTS)
async def test_an_event_costs_the_same_beside_any_number(name: str) -> None:
    """Beside 10, 1,000 and 10,000 (docs/performance.md has the counts)."""
    costs = [await cost(name, size) for size in SIZES]
    assert costs == [costs[0]] * len(SIZES)


async def test_a_failed_dial_costs_the_same_for_each_who_waited() -> None:
    """Ten thousand requests hear of one failure at ten times the cost of a thousand."""

    async def cost_of_each(size: int) -> float:
        network = Network(outcomes=[UpstreamUnreachableError("No such host.") for _ in range(pool.MAX_OPENING)])
        network.gate.clear()
        made = network.pool()
        for _ in range(size):
            made.acquire(Request(), network.clock.now)
        await until(lambda: network.under_way == pool.MAX_OPENING)
        with counted() as work:
            network.gate.set()
            await until(lambda: not made.waiting and not made.counts()[0])
        return work.done / size

    assert await cost_of_each(10_000) <= await cost_of_each(1_000)
