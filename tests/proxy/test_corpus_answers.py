"""The corpus of upstream answers: what the client sees, and whether the connection is used again, on both loops."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

import pytest

from tests.proxy import client
from tests.proxy.corpus import mirror
from tests.proxy.corpus.answers import CASES, AnswerCase
from tests.proxy.corpus.world import LOOPS


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_answer(case: AnswerCase) -> None:
    """An ambiguous, unasked or truncated answer never looks like a whole 2xx, and its connection is never reused."""

    async def play(*cuts: Callable[[bytes], list[bytes]]) -> None:
        for cut in cuts:
            await mirror.check(case, cut)

    with asyncio.Runner(loop_factory=LOOPS["uvloop"]) as runner:
        runner.run(play(client.whole, lambda raw: client.random_cuts(raw, case.name)))
    with asyncio.Runner(loop_factory=LOOPS["asyncio"]) as runner:
        runner.run(play(client.single_bytes))


def test_answers_have_names_and_reasons() -> None:
    """Each case has a name of its own and says why."""
    assert [name for name, count in Counter(case.name for case in CASES).items() if count > 1] == []
    assert all(case.why for case in CASES)
