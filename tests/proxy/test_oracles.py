"""Where h11 and httptools read otherwise than the corpora ask for: every difference is explained, none is stale."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.proxy.corpus import answers
from tests.proxy.corpus.answers import Passed
from tests.proxy.corpus.case import Closed, Forwarded, Refused
from tests.proxy.corpus.requests import CASES
from tests.proxy.oracles import Reading, h11_requests, h11_response, httptools_requests, httptools_response

SYNTAX = {400, 414, 431}
DIFFERENCES = yaml.safe_load((Path(__file__).parent / "corpus" / "differences.yaml").read_text(encoding="utf-8"))
ORACLES = {"h11": h11_requests, "httptools": httptools_requests}


def request_differences(read: Callable[[bytes], Reading]) -> Iterator[tuple[str, str]]:
    """Cases that the corpus is sure about, and what the oracle does with them that we do not."""
    for case in CASES:
        outcomes = [outcome for alternatives in case.expect for outcome in alternatives]
        if case.end or any(isinstance(outcome, Closed) for outcome in outcomes):
            continue
        refused = [outcome for outcome in outcomes if isinstance(outcome, Refused)]
        if any(not SYNTAX & set(outcome.status) for outcome in refused) or (len(outcomes) > 1 and refused):
            continue
        reading = read(case.raw)
        forwarded = sum(isinstance(outcome, Forwarded) for outcome in outcomes)
        if refused and reading.complete and not reading.error:
            yield case.name, "accepts"
        elif not refused and (reading.error or reading.complete < len(case.expect)) and forwarded:
            yield case.name, "refuses"


def settle(oracle: str, differences: Iterable[tuple[str, str]], explained: list[dict[str, str]]) -> None:
    """Each difference has its explanation, and each explanation its difference."""
    table = [entry for entry in explained if entry["oracle"] == oracle]
    stale = {entry["cases"] for entry in table}
    unexplained = []
    for name, does in differences:
        found = {e["cases"] for e in table if e["does"] == does and re.fullmatch(e["cases"], name)}
        stale -= found
        if not found:
            unexplained.append(f"{does} {name}")
    assert unexplained == []
    assert stale == set()


@pytest.mark.parametrize("oracle", ORACLES)
def test_requests(oracle: str) -> None:
    """Each difference in reading requests is explained in `corpus/differences.yaml`, and no more than that."""
    settle(oracle, request_differences(ORACLES[oracle]), DIFFERENCES["requests"])


def answer_differences(oracle: str) -> Iterator[tuple[str, str]]:
    """The mirror: whole answers."""
    for case in answers.CASES:
        if case.end == "rst" or case.request in {answers.WEBSOCKET, answers.GET_10}:
            continue
        passed = [outcome for outcome in case.expect if isinstance(outcome, Passed)]
        if passed and len(case.expect) > len(passed):
            continue
        method = case.request.split(b" ", 1)[0]
        if oracle == "h11":
            reading = h11_response(case.raw, method, end=case.end == "fin")
        elif method == b"GET" and not case.end:
            reading = httptools_response(case.raw)
        else:
            continue
        if not passed and reading.complete and not reading.error:
            yield case.name, "accepts"
        elif passed and (reading.error or not reading.complete):
            yield case.name, "refuses"


@pytest.mark.parametrize("oracle", ORACLES)
def test_answers(oracle: str) -> None:
    """Each difference in reading answers is explained in `corpus/differences.yaml`, and no more than that."""
    settle(oracle, answer_differences(oracle), DIFFERENCES["answers"])


def test_the_differences_are_documented() -> None:
    """docs/http.md tells each of them."""
    page = (Path(__file__).parents[2] / "docs" / "http.md").read_text(encoding="utf-8")
    assert [entry["why"] for entries in DIFFERENCES.values() for entry in entries if entry["why"] not in page] == []
