"""A day of many hosts in virtual time: this design, and each process on its own, side by side.

    python -m tests.simulation --hosts 500 --hours 24 --seed 1

The same seed gives the same days.
"""

from __future__ import annotations

import argparse
import sys
import time

from tests.simulation.run import Result, Scenario, simulate


def main() -> int:
    """Simulate and print; 1 if this design broke a promise."""
    scenario = _scenario()
    began = time.monotonic()
    shared, alone = (simulate(scenario, kind, _progress(scenario, kind)) for kind in ("shared", "alone"))
    print(report(scenario, shared, alone))
    print(f"\nSeed {scenario.seed}; simulated in {time.monotonic() - began:.0f} s.")
    return 1 if broken_promises(shared) else 0


def report(scenario: Scenario, shared: Result, alone: Result) -> str:
    """The table, and what was promised."""
    size = f"{scenario.hosts} hosts x {scenario.processes} processes x {scenario.identities} identities"
    lines = [f"{size}, {scenario.hours:g} hours, all starting at once;", _CALM if scenario.calm else _STORMY]
    rows = [(name, _shown(get(shared)), _shown(get(alone))) for name, get in _ROWS]
    widths = [max(len(row[column]) for row in [*rows, ("", "shared", "each on its own")]) for column in range(3)]
    lines += [
        "",
        _line(("", "shared", "each on its own"), widths),
        _line(tuple("-" * width for width in widths), widths),
    ]
    lines += [_line(row, widths) for row in rows]
    promises = broken_promises(shared)
    lines += ["", *(f"BROKEN: {promise}" for promise in promises)]
    if not promises:
        lines.append(
            "Kept: no two slots closer than min_interval, no expired and no refused token handed out, every client"
            " answered,\nnone kept waiting over max_wait, and none turned away once every fault had been over for 15"
            " minutes."
        )
    return "\n".join(lines)


_CALM = "nothing goes wrong."
_STORMY = """\
crashes, pauses, clock steps, reboots, slow and lost answers, three storms of 429, an hour's outage, deleted keys
on a tenth of the hosts, refusals by upstreams."""

_ROWS = (
    ("token requests", lambda result: result.requests),
    ("  of those, in vain while the issuer was out", lambda result: result.in_outages),
    ("theoretical least (one per identity and refresh.after of a life)", lambda result: round(result.least)),
    ("  times the least, outage left out", lambda result: (result.requests - result.in_outages) / result.least),
    ("closest two requests from one host, seconds", lambda result: result.closest),
    ("  requests less than a second after another", lambda result: result.too_close),
    ("requests answered 429", lambda result: result.throttled),
    ("requests refused for their credential", lambda result: result.refused),
    ("times an address was banned", lambda result: result.bans),
    ("clients that waited for a token", lambda result: result.counters.waited),
    ("longest wait of a client, seconds", lambda result: result.counters.longest_wait),
    ("clients turned away", lambda result: result.counters.failed),
    ("  of those, long after every fault", lambda result: result.counters.failed_in_good_weather),
)


def broken_promises(shared: Result, interval: float = 1.25, max_wait: float = 10.0) -> list[str]:
    """What this design says it never does, and did."""
    counters = shared.counters
    checks = (
        (shared.closest_slots >= interval - 1e-6, f"two slots were {shared.closest_slots:.3f} s apart"),
        (counters.expired_served == 0, f"{counters.expired_served} expired tokens were handed out"),
        (counters.refused_served == 0, f"{counters.refused_served} refused tokens were handed out"),
        (counters.unanswered == 0, f"{counters.unanswered} clients were never answered"),
        (counters.longest_wait <= max_wait + 0.01, f"a client waited for {counters.longest_wait:.1f} s"),
        (
            counters.failed_in_good_weather == 0,
            f"{counters.failed_in_good_weather} clients were turned away long after every fault",
        ),
    )
    return [text for kept, text in checks if not kept]


def _scenario() -> Scenario:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__.splitlines()[0])
    parser.add_argument("--hosts", type=int, default=500)
    parser.add_argument("--processes", type=int, default=4, help="on each host")
    parser.add_argument("--identities", type=int, default=3, help="that each process uses")
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--calm", action="store_true", help="nothing goes wrong")
    return Scenario(**vars(parser.parse_args()))


def _progress(scenario: Scenario, kind: str):
    def show(done: int) -> None:
        if sys.stderr.isatty():
            print(
                f"\r{kind}: {done}/{scenario.hosts} hosts", end="\n" if done == scenario.hosts else "", file=sys.stderr
            )

    return show


def _shown(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    return "  ".join(
        cell.ljust(width) if number == 0 else cell.rjust(width)
        for number, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )


if __name__ == "__main__":
    sys.exit(main())
