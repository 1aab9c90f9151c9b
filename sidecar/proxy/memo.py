"""A bounded memory for pure functions of bytes: peers send the same bytes again and again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

ENTRIES = 512
BYTES = 1024
"""Longer arguments are rare and never kept: what a hostile peer can make us keep is bounded by both."""

T = TypeVar("T")


class Memo(dict[bytes, T]):
    """`memo[data]` is `function(data)`, and a plain dictionary look-up where it was asked for before.

    What the function raises is not remembered. A full memory is forgotten as a whole: what matters is back at once.
    """

    def __init__(self, function: Callable[[bytes], T], *, entries: int = ENTRIES, size: int = BYTES) -> None:
        """`entries` are kept at most, of arguments of at most `size` bytes."""
        super().__init__()
        self._function = function
        self._entries = entries
        self._size = size

    def __missing__(self, data: bytes) -> T:
        value = self._function(data)
        if len(data) <= self._size:
            if len(self) >= self._entries:
                self.clear()
            self[data] = value
        return value
