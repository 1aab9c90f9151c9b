"""The fuzzer's targets on everything that is kept: no atheris needed, every run the same."""

from __future__ import annotations

import pytest

from tests.fuzz.seeds import seeds
from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("target", TARGETS)
def test_kept_corpus(target: str) -> None:
    """Only our own error types come out, and what goes upstream parses strictly, for every seed and every old find."""
    played = 0
    for data in seeds(target):
        TARGETS[target](data)
        played += 1
    assert played > 10
