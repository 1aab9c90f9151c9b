"""`python -m tests.fuzz [--seconds N] [--keep DIRECTORY] [TARGET…]`: coverage-guided fuzzing with atheris.

Each target has a process of its own and its share of the time. What it finds is printed, with the bytes to put into
`tests/fuzz/corpus/<target>/`, where the ordinary tests play them for ever after. `--keep` writes the inputs that
reached something new.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NAMES = ("request_head", "response_head", "target", "location", "chunks", "downstream", "upstream")
SHARES = {"downstream": 3, "upstream": 3}


def fuzz(name: str, arguments: list[str]) -> None:
    """In a process of its own: hand over to libFuzzer, which never comes back."""
    import atheris  # noqa: PLC0415 (only where it is installed)

    with atheris.instrument_imports(include=["sidecar.proxy"]):
        from tests.fuzz.targets import TARGETS  # noqa: PLC0415

    atheris.Setup([name, *arguments], TARGETS[name])
    atheris.Fuzz()


def run(name: str, seconds: int, keep: Path | None) -> bool:
    """Whether nothing was found."""
    from tests.fuzz.seeds import seeds  # noqa: PLC0415 (the fuzzing process must import the product first)

    with tempfile.TemporaryDirectory() as directory:
        corpus = keep / name if keep else Path(directory) / "corpus"
        corpus.mkdir(parents=True, exist_ok=True)
        start = Path(directory) / "seeds"
        start.mkdir()
        for number, seed in enumerate(seeds(name)):
            (start / f"{number:05}").write_bytes(seed)
        command = [sys.executable, "-m", "tests.fuzz", "--child", name, str(corpus), str(start)]
        command += [f"-max_total_time={seconds}", "-max_len=2048", "-timeout=10", "-print_final_stats=1"]
        command += [f"-artifact_prefix={directory}/found-", "-verbosity=0", "-rss_limit_mb=4096"]
        started = time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        report = done.stderr + done.stdout
        runs = next((line.split()[-1] for line in report.splitlines() if "number_of_executed_units" in line), "?")
        verdict = "nothing found" if done.returncode == 0 else "FOUND"
        print(f"{name}: {runs} runs in {time.monotonic() - started:.0f} s, {verdict}", flush=True)
        if done.returncode:
            print(report[-6000:])
            for found in Path(directory).glob("found-*"):
                print(f"input: {found.read_bytes()!r}")
    return done.returncode == 0


def main() -> int:
    """Exit code 1 when something was found."""
    if sys.argv[1:2] == ["--child"]:
        fuzz(sys.argv[2], sys.argv[3:])
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--seconds", type=int, default=60, help="for all targets together")
    parser.add_argument("--keep", type=Path, help="where to write inputs that reached something new")
    parser.add_argument("targets", nargs="*", default=NAMES)
    options = parser.parse_args()
    shares = {name: SHARES.get(name, 1) for name in options.targets}
    results = [
        run(name, max(1, options.seconds * share // sum(shares.values())), options.keep)
        for name, share in shares.items()
    ]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
