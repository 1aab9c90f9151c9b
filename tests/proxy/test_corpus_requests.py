"""The corpus of raw requests against the proxy: whole, byte by byte, and in random cuts, on both event loops."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from tests.proxy import client
from tests.proxy.corpus.case import Case
from tests.proxy.corpus.requests import CASES, MODULES
from tests.proxy.corpus.world import LOOPS, World


@pytest.fixture(scope="module", params=LOOPS)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    made = World(request.param)
    made.run(made.open())
    yield made
    made.end()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_request(world: World, case: Case) -> None:
    """One request in is exactly one request out, or none and a refusal; Authorization is ours alone."""
    world.run(world.check(case, client.whole(case.raw)))
    world.run(world.check(case, client.single_bytes(case.raw)))
    world.run(world.check(case, client.random_cuts(case.raw, case.name)))


def test_corpus_is_as_large_as_promised() -> None:
    """At least 440 cases, each with a name of its own and a reason, in eleven categories."""
    assert len(CASES) >= 440
    assert [name for name, count in Counter(case.name for case in CASES).items() if count > 1] == []
    assert all(case.why for case in CASES)
    assert len({case.category for case in CASES}) == len(MODULES) == 11
