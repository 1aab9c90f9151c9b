"""`python -m tests.proxy.corpus [PART-OF-A-NAME…]`: play the request cases, print each that goes wrong and how."""

import logging
import sys
import time

import structlog

from tests.proxy import client
from tests.proxy.corpus.requests import CASES
from tests.proxy.corpus.world import World, WrongError

CUTS = {"whole": client.whole, "bytes": client.single_bytes, "cuts": lambda raw: client.random_cuts(raw, repr(raw))}


def main(words: list[str]) -> int:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    client.PATIENCE = 2.0
    world = World("uvloop")
    world.run(world.open())
    cases = [case for case in CASES if not words or any(word in case.name for word in words)]
    started = time.monotonic()
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
    print(f"{len(cases)} cases, {wrong} wrong, {time.monotonic() - started:.1f} s")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
