"""Instructions for one request through the data plane, counted, not timed: `python -m bench.instructions`.

Seconds say little on a shared machine; the number of instructions is the same to a thousandth. Valgrind counts a run
of bench.plane with few requests and one with more, and the difference, divided, is what one request costs: start-up,
imports and warming up fall out. The figures are compared with those stored in instructions.json for this interpreter;
one that is over its margin fails (exit 1), and one that is under it asks to be stored (`--store`).

Sockets and the event loop are not in it: they are the kernel's and uvloop's, and no change here can move them. How
often they are called is what `tests/bench` pins down.
"""

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

from sidecar import build

_ROOT = Path(__file__).parents[1]
_STORE = Path(__file__).with_suffix(".json")
_SHAPES = ("same", "varied", "post")
_FEW, _MANY = 2500, 5500
"""Both beyond the size of every memo, so that what is evicted is part of the figure."""
_COUNT = re.compile(r"I\s+refs:\s+([\d,]+)")


def interpreter() -> str:
    """Counts are comparable only for one interpreter, built by one compiler, with the same modules compiled."""
    python = f"{platform.python_implementation()} {platform.python_version()}, {platform.python_compiler()}"
    return f"{python}, {build.kind()}"


def parse_count(text: str) -> int:
    """
    Raises:
        ValueError: valgrind printed no count.
    """
    found = _COUNT.search(text)
    if found is None:
        raise ValueError(f"valgrind printed no count: {text[-500:]}")
    return int(found.group(1).replace(",", ""))


def run_counted(shape: str, requests: int) -> int:
    """Instructions of a whole run."""
    tool = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]
    argv = [*tool, sys.executable, "-m", "bench.plane", shape, str(requests)]
    env = os.environ | {"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=_ROOT, env=env)
    if done.returncode:
        sys.exit(f"bench.plane failed under valgrind:\n{done.stdout}{done.stderr}")
    return parse_count(done.stderr)


def per_request(shape: str) -> int:
    return round((run_counted(shape, _MANY) - run_counted(shape, _FEW)) / (_MANY - _FEW))


def judge(measured: int, stored: int | None, margin: float) -> tuple[bool, str]:
    """Whether a figure passes, and what is said about it."""
    if stored is None:
        return True, "no stored figure for this interpreter"
    change = measured / stored - 1
    said = f"{change:+.1%} to the stored {stored:,}"
    if change > margin:
        return False, f"{said}: over the margin of {margin:.0%}"
    if change < -margin:
        return True, f"{said}: better; keep it with --store"
    return True, said


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.instructions")
    parser.add_argument("--store", action="store_true", help="keep what is measured as the figures to compare with")
    parser.add_argument("--shapes", default=",".join(_SHAPES))
    given = parser.parse_args(argv)
    if not shutil.which("valgrind"):
        print("valgrind is not installed (apt-get install valgrind): no instructions were counted")
        return 2
    kept = json.loads(_STORE.read_text()) if _STORE.exists() else {"margin": 0.03, "interpreters": {}}
    name = interpreter()
    stored = kept["interpreters"].get(name, {})
    print(f"instructions a request, {name}; margin {kept['margin']:.0%}")
    # Modules are compiled first, so that no run pays for it.
    subprocess.run([sys.executable, "-m", "bench.plane", "same", "1"], check=True, cwd=_ROOT)
    measured = {shape: per_request(shape) for shape in given.shapes.split(",")}
    passed = True
    for shape, count in measured.items():
        fine, said = judge(count, stored.get(shape), kept["margin"])
        passed = passed and fine
        print(f"  {shape:<7} {count:>9,}  {said}")
    if given.store:
        kept["interpreters"][name] = stored | measured
        _STORE.write_text(json.dumps(kept, indent=1) + "\n")
    return 0 if passed or given.store else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
