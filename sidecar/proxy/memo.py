"""A bounded memory for pure functions of bytes: peers send the same bytes again and again."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

ENTRIES = 2048
BYTES = 1024
"""Longer arguments are rare and never kept: what a hostile peer can make us keep is bounded by both."""

_T = TypeVar("_T")


def memoised(function: Callable[[bytes], _T]) -> Callable[[bytes], _T]:
    """`function` with a bounded memory for short arguments; what it raises is not remembered."""
    cached = lru_cache(ENTRIES)(function)

    def call(data: bytes) -> _T:
        return cached(data) if len(data) <= BYTES else function(data)

    return call
