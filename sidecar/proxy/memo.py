"""A bounded memory for pure functions of bytes: the same peers send the same bytes again and again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

ENTRIES = 512
BYTES = 1024
"""Longer arguments are rare and are never kept: a hostile peer can fill twice this times `ENTRIES`, and no more."""

T = TypeVar("T")


class Memo(dict[bytes, T]):
    """`memo[data]` is `function(data)`; where that was asked for twice before, it is a plain dictionary look-up.

    A result that is asked for once (for a path with an id in it) is not kept, and drives nothing out. An exception is
    not remembered. A full memory is emptied: what is asked for often is soon back.
    """

    def __init__(self, function: Callable[[bytes], T], *, entries: int = ENTRIES, size: int = BYTES) -> None:
        """Keep at most `entries` results, of arguments of at most `size` bytes."""
        super().__init__()
        self._function = function
        self._entries = entries
        self._size = size
        self._once: set[bytes] = set()

    def __missing__(self, data: bytes) -> T:
        value = self._function(data)
        if len(data) > self._size:
            return value
        once = self._once
        if data not in once:
            if len(once) >= self._entries:
                once.clear()
            once.add(data)
        else:
            if len(self) >= self._entries:
                self.clear()
            self[data] = value
        return value
