"""The sidecar as `camunda-sidecar run` has it; for each line on its standard input it says what it holds."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
from pathlib import Path

import uvloop

from sidecar.cli.support import load_settings
from sidecar.clock import SystemClock
from sidecar.listeners import bound
from sidecar.proxy.downstream import Downstream
from sidecar.proxy.exchange import Exchange
from sidecar.proxy.upstream import UpstreamConnection
from sidecar.service import Service
from sidecar.telemetry.logs import configure_logging, install_hooks


def holdings() -> dict[str, int]:
    """What would grow if something leaked."""
    gc.collect()
    kinds = [type(thing) for thing in gc.get_objects()]
    return {
        "tasks": len(asyncio.all_tasks()),
        "descriptors": len(list(Path("/proc/self/fd").iterdir())),
        "clients": kinds.count(Downstream),
        "exchanges": kinds.count(Exchange),
        "upstreams": kinds.count(UpstreamConnection),
        "memory": int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 10,
    }


async def main(config: Path) -> None:
    """Serve until SIGTERM."""
    settings = load_settings(config)
    configure_logging(settings.logging)
    install_hooks()
    loop = asyncio.get_running_loop()

    def asked() -> None:
        if sys.stdin.readline():
            sys.stdout.write(json.dumps(holdings()) + "\n")
            sys.stdout.flush()
        else:
            loop.remove_reader(sys.stdin)

    loop.add_reader(sys.stdin, asked)
    with bound(settings) as [listeners]:
        await Service(settings, lambda: settings, SystemClock(), listeners).run()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(Path(sys.argv[1])))
