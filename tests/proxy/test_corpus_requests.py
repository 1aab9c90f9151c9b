"""The corpus of raw requests against the proxy: whole, byte by byte, and in random cuts, each case on both loops."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from tests.proxy import client
from tests.proxy.corpus.case import Case, Forwarded
from tests.proxy.corpus.requests import CASES, MODULES
from tests.proxy.corpus.world import LOOPS, World
from tests.proxy.strict import read_requests


@pytest.fixture(scope="module")
def worlds() -> Iterator[dict[str, World]]:
    made = {loop: World(loop) for loop in LOOPS}
    for world in made.values():
        world.run(world.open())
    yield made
    for world in made.values():
        world.end()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_request(worlds: dict[str, World], case: Case) -> None:
    """One request in is exactly one request out, or none and a refusal; Authorization is ours alone."""
    plays = [("uvloop", client.whole(case.raw)), ("asyncio", client.single_bytes(case.raw))]
    for loop, pieces in [*plays, ("uvloop", client.random_cuts(case.raw, case.name))]:
        worlds[loop].run(worlds[loop].check(case, pieces))


def test_corpus_is_as_large_as_promised() -> None:
    """At least 440 cases, each with a name of its own and a reason, in eleven categories."""
    assert len(CASES) >= 440
    assert [name for name, count in Counter(case.name for case in CASES).items() if count > 1] == []
    assert all(case.why for case in CASES)
    assert len({case.category for case in CASES}) == len(MODULES) == 11


def test_corpus_agrees_with_a_strict_reader() -> None:
    """No case demands a request at the origin that a strict reader does not read in its bytes."""
    wrong = []
    for case in CASES:
        bodies = [message.body for message in read_requests(case.raw)[0]]
        only = [outcomes[0] for outcomes in case.expect if len(outcomes) == 1]
        demanded = [outcome.body for outcome in only if isinstance(outcome, Forwarded)]
        if len(demanded) > len(bodies) or not set(demanded) <= set(bodies):
            wrong.append(case.name)
    assert wrong == []
