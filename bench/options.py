"""What the command line says."""

import argparse
from dataclasses import dataclass

SECTIONS = {
    "throughput": "requests a second and CPU a request, plain HTTP upstream",
    "tls": "the same with a TLS upstream",
    "latency": "open loop at fixed rates: p50, p99, p99.9",
    "bodies": "100 MB down and up",
    "connections": "10,000 idle and 1,000 busy connections, memory for each",
    "memory": "resident memory, idle and over an hour's worth of traffic",
    "startup": "start to ready, and the first request",
    "lookup": "handing out a token, in nanoseconds",
    "workers": "two workers beside one",
}
PEERS = ("direct", "relay", "nginx", "haproxy", "envoy", "caddy", "aiohttp", "sidecar", "compiled")


@dataclass(frozen=True, slots=True)
class Options:
    sections: tuple[str, ...]
    peers: tuple[str, ...]
    rounds: int
    seconds: int
    connections: tuple[int, ...]
    shapes: tuple[str, ...]
    quick: bool
    install: bool
    publish: bool
    hold: bool

    @property
    def complete(self) -> bool:
        """Whether the run measures all that the published figures need."""
        return not self.quick and set(self.sections) == set(SECTIONS) and set(self.peers) == set(PEERS)


def _names(known: tuple[str, ...]):
    def parse(text: str) -> tuple[str, ...]:
        names = tuple(name for name in text.split(",") if name)
        unknown = [name for name in names if name not in known]
        if unknown or not names:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown) or 'nothing'}: choose from {', '.join(known)}")
        return tuple(name for name in known if name in names)

    return parse


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def parse(argv: list[str]) -> Options:
    """Exits with 2 at a wrong argument."""
    sections = "; ".join(f"{name}: {what}" for name, what in SECTIONS.items())
    parser = argparse.ArgumentParser(prog="python -m bench", description=f"Sections: {sections}.")
    parser.add_argument("--only", type=_names(tuple(SECTIONS)), default=tuple(SECTIONS), metavar="SECTION,…")
    parser.add_argument("--peers", type=_names(PEERS), default=PEERS, metavar="PEER,…", help=", ".join(PEERS))
    parser.add_argument("--rounds", type=int, help="how often each thing is measured (5; quick: 3)")
    parser.add_argument("--seconds", type=int, help="how long a round of load lasts (3; quick: 1)")
    parser.add_argument("--connections", type=_numbers, help="1,32,256 (quick: 32)")
    parser.add_argument(
        "--shapes", type=_names(("same", "varied", "post")), help="same,varied,post (quick: same,varied)"
    )
    parser.add_argument("--quick", action="store_true", help="a minute or so a section, for working on one thing")
    parser.add_argument("--no-install", action="store_true", help="leave out what is not on this machine")
    parser.add_argument("--no-publish", action="store_true", help="leave README.md and docs/ as they are")
    parser.add_argument("--hold", action="store_true", help="start everything, print where, and wait for Ctrl-C")
    given = parser.parse_args(argv)
    quick = given.quick
    return Options(
        sections=given.only,
        peers=given.peers,
        rounds=given.rounds or (3 if quick else 5),
        seconds=given.seconds or (1 if quick else 3),
        connections=given.connections or ((32,) if quick else (1, 32, 256)),
        shapes=given.shapes or (("same", "varied") if quick else ("same", "varied", "post")),
        quick=quick,
        install=not given.no_install,
        publish=not given.no_publish,
        hold=given.hold,
    )
