"""`python -m tests.proxy.corpus [PART-OF-A-NAME…]`: play the cases, print each that goes wrong and how."""

import asyncio
import logging
import sys
import time
from collections.abc import Callable

import structlog
import uvloop

from tests.proxy import client
from tests.proxy.corpus import answers, mirror, requests
from tests.proxy.corpus.world import World, WrongError

CUTS: dict[str, Callable[[bytes], list[bytes]]] = {
    "whole": client.whole,
    "bytes": client.single_bytes,
    "cuts": lambda raw: client.random_cuts(raw, repr(raw)),
}


def play_requests(words: list[str]) -> tuple[int, int]:
    """How many cases, and how many went wrong."""
    world = World("uvloop")
    world.run(world.open())
    cases = [case for case in requests.CASES if not words or any(word in case.name for word in words)]
    wrong = 0
    for case in cases:
        for cut, pieces in CUTS.items():
            try:
                world.run(world.check(case, pieces(case.raw)))
            except WrongError as error:
                wrong += 1
                print(f"{case.name} ({cut}): {error}\n    {case.raw[:160]!r}\n    why: {case.why}")
                world.origin.forget()
                break
    world.end()
    return len(cases), wrong


def play_answers(words: list[str]) -> tuple[int, int]:
    """How many cases, and how many went wrong."""
    cases = [case for case in answers.CASES if not words or any(word in f"answers/{case.name}" for word in words)]
    wrong = 0
    for case in cases:
        for cut, pieces in CUTS.items():
            try:
                with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                    runner.run(mirror.check(case, pieces))
            except WrongError as error:
                wrong += 1
                print(f"answers/{case.name} ({cut}): {error}\n    {case.raw[:160]!r} {case.end}\n    why: {case.why}")
                break
    return len(cases), wrong


def main(words: list[str]) -> int:
    """Exit code 1 when something went wrong."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    client.PATIENCE = mirror.PATIENCE = 2.0
    started = time.monotonic()
    played = [play_requests(words), play_answers(words)]
    total, wrong = map(sum, zip(*played, strict=True))
    print(f"{total} cases, {wrong} wrong, {time.monotonic() - started:.1f} s")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
