"""Memory for pure functions: bounded in entries and in the size of what it keeps."""

from __future__ import annotations

import gc
import tracemalloc

import pytest

from sidecar.proxy.memo import ENTRIES, Memo
from tests.proxy.heads import request_fields, response_fields


def test_what_comes_again_is_remembered() -> None:
    """From the third time on there is no call: the first might have been the only one."""
    calls: list[bytes] = []

    def length(data: bytes) -> int:
        calls.append(data)
        return len(data)

    lengths = Memo(length)
    assert [lengths[data] for data in (b"a", b"a", b"bc", b"a", b"a")] == [1, 1, 2, 1, 1]
    assert calls == [b"a", b"a", b"bc"]


def test_what_comes_once_drives_nothing_out() -> None:
    """A flood of paths that are all different leaves the one that comes again and again where it is."""
    calls: list[bytes] = []
    call = Memo(calls.append)
    for _ in range(2):
        call[b"again"]
    for n in range(20_000):
        call[b"%d" % n]
        call[b"again"]
    assert calls.count(b"again") == 2


def test_long_arguments_are_not() -> None:
    """What a client can make large is computed anew each time."""
    calls: list[bytes] = []
    call = Memo(calls.append)
    long = b"x" * 60_000
    for _ in range(3):
        call[long]
    assert len(calls) == 3


def test_errors_are_not_remembered() -> None:
    """A refusal holds no memory; it is found again each time."""
    calls: list[bytes] = []

    def refuse(data: bytes) -> None:
        calls.append(data)
        raise ValueError

    refusals = Memo(refuse)
    for _ in range(3):
        with pytest.raises(ValueError, match=r"^$"):
            refusals[b"a"]
    assert calls == [b"a"] * 3


def test_entries_are_bounded() -> None:
    """However many different arguments come, only so many are kept."""

    class Result:
        pass

    def make(data: bytes) -> Result:
        return Result()

    made = Memo(make)
    for n in range(20_000):
        for _ in range(2):
            made[b"%d" % n]
    gc.collect()
    alive = sum(isinstance(thing, Result) for thing in gc.get_objects())
    assert 1 <= alive <= ENTRIES
    assert len(made._once) <= ENTRIES


@pytest.mark.parametrize(
    "block",
    [b"X-%d: " + b"a" * 60_000 + b"\r\nConnection: x-b\r\n", b"Connection: x%d" + b"a" * 60_000 + b"\r\n"],
    ids=["lines", "options"],
)
def test_long_header_lines_do_not_pile_up(block: bytes) -> None:
    """A client's or an upstream's endless different long lines, and long lists of options, are forgotten at once."""
    tracemalloc.start()
    try:
        for n in range(100):
            request_fields(b"Host: a\r\n" + block % n)
            response_fields(block % n)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 1_000_000
