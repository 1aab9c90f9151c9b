"""No event costs more because ten thousand clients wait: the calls of the interpreter are counted, not the time."""

from __future__ import annotations

import asyncio
import sys

import pytest

from tests.tokens.support import rig, settle

pytestmark = pytest.mark.usefixtures("quick_keys")

FEW, MANY = 10, 10_000
SPARE = 50
"""Calls that may differ: a deque's new block, a set that grows."""


def calls(work) -> int:
    """How many functions were called."""
    count = 0

    def counter(_frame, event: str, _argument: object) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    sys.setprofile(counter)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


async def waiting_beside(others: int):
    """So many clients that wait for a token whose issuer says nothing."""
    one = await rig()
    one.issuer.held = asyncio.Event()
    clients = [one.asking() for _ in range(others)]
    await settle()
    return one, clients


@pytest.mark.parametrize("event", ["joins", "goes away", "looks"])
async def test_a_client_costs_the_same_beside_many_others(event) -> None:
    """It joins those that wait, goes away, or looks whether the token is there."""
    costs = []
    for others in (FEW, MANY):
        one, clients = await waiting_beside(others)

        def happen(one=one, clients=clients, middle=others // 2) -> None:
            match event:
                case "joins":
                    joining = one.authorizer.obtain()
                    joining.send(None)
                    joining.close()
                case "goes away":
                    clients[middle].cancel()
                case "looks":
                    one.authorizer.current()

        costs.append(calls(happen))
        one.issuer.held.set()
        await settle()
    assert costs[1] - costs[0] <= SPARE


async def test_an_answer_costs_each_client_the_same() -> None:
    """All of them are answered in one go, and each costs what it costs beside few."""
    costs = []
    for others in (FEW, MANY):
        one, clients = await waiting_beside(others)
        one.issuer.held.set()
        count = 0
        while not all(client.done() for client in clients):
            count += 1
            await asyncio.sleep(0)
        costs.append(count)
    assert costs[0] == costs[1]
