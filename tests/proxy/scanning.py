"""The native scanner beside its reference, on every head of the corpora, cut and changed at every byte.

`python -m tests.proxy.scanning FILE` takes the module from FILE, such as one that was built with sanitizers.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator

from sidecar.errors import Problem

STRANGE = (b"\0", b"\t", b"\n", b"\r", b" ", b":", b"/", b"?", b".", b"_", b"C", b"\x7f", b"\xe4", b"")
"""What a byte is replaced by: every class of characters, and none."""


def load(file: str) -> None:
    """Make `file` the native module, before anything imports it."""
    spec = importlib.util.spec_from_file_location("sidecar.proxy._scan", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules["sidecar.proxy._scan"] = module


def cases() -> tuple[set[bytes], set[bytes]]:
    """The heads of requests and of responses in the corpora."""
    from tests.proxy.corpus import answers, requests  # noqa: PLC0415 (after `load`)

    return _heads(case.raw for case in requests.CASES), _heads(case.raw for case in answers.CASES)


def _heads(raw: Iterator[bytes]) -> set[bytes]:
    heads = {head + end for head, end, _ in (one.partition(b"\r\n\r\n") for one in raw)}
    return {head for head in heads if len(head) < 2000}  # the long ones are many bytes of one kind


def changed(head: bytes, turn: int) -> Iterator[bytes]:
    """As it is; cut, and with another byte instead, at every byte; `turn` says with which it begins."""
    yield head
    for at in range(len(head)):
        yield head[:at] + b"\r\n\r\n"
        yield head[:at] + STRANGE[(at + turn) % len(STRANGE)] + head[at + 1 :]


def compare(native: object, reference: object, head: bytes) -> None:
    """Both give the same, or refuse it in the same words."""
    assert _outcome(native, head) == _outcome(reference, head), head


def _outcome(scanner: object, head: bytes) -> object:
    try:
        found = scanner.scan(head)  # type: ignore[attr-defined]
    except Problem as problem:
        return type(problem), problem.detail
    if found is not None and len(found) > 3 and found[2] is not None:
        return found[:1] + found[2:]  # the target need not be there where the path is
    return found


def compare_all(every: int = 1) -> int:
    """Compare on each case, or each `every`-th; how many heads that were."""
    from sidecar.proxy import _scan, semantics  # noqa: PLC0415 (after `load`)

    sides = (
        (_scan.RequestScanner, semantics.request_reference([b"x-watched"])),
        (_scan.ResponseScanner, semantics.response_reference()),
    )
    count = 0
    for (make, reference), heads in zip(sides, cases(), strict=True):
        native = make(reference)
        for turn, head in enumerate(sorted(heads)[::every]):
            for one in changed(head, turn):
                compare(native, reference, one)
                compare(native, reference, one + b"a body\r\n\r\n")
                count += 2
    return count


if __name__ == "__main__":
    load(sys.argv[1])
    sys.stdout.write(f"{compare_all(every=4)} heads read alike\n")
