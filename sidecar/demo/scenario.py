"""Runs the demo: stand-in, sidecar, load and table; then both go on running, to be tried by hand."""

from __future__ import annotations

import asyncio
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from sidecar.clock import SystemClock
from sidecar.demo.apis import AUDIENCES
from sidecar.demo.load import CALLS, Load
from sidecar.demo.process import DemoError, SidecarProcess, free_port
from sidecar.demo.progress import Progress
from sidecar.demo.report import Report, render
from sidecar.demo.standin import StandIn

STANDIN_PORT = 8610  # tried first; any free one where somebody has it


async def run_demo(*, requests: int, clients: int, port: int, once: bool) -> int:
    """Run it until it is done, or until Ctrl-C (SIGTERM, SIGHUP); the exit code.

    Whatever ends it, the sidecar's process, its files and the stand-in are gone afterwards.

    Args:
        requests: how many in all.
        clients: how many programs send them at once.
        port: the sidecar's, and the next one its admin listener's: tried first. 0: any free ones.
        once: whether to end after the table.
    """
    demo = Demo(requests, clients, port, once=once)
    work = asyncio.create_task(demo.run())

    def interrupt() -> None:
        if not demo.interrupted.is_set() and not demo.reported:
            work.cancel()
        demo.interrupted.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, interrupt)
    await asyncio.wait({work})
    return 130 if work.cancelled() else work.result()


class Demo:
    """One run of the demo."""

    def __init__(self, requests: int, clients: int, port: int, *, once: bool) -> None:
        self._requests, self._clients, self._port, self._once = requests, clients, port, once
        self._clock = SystemClock()
        self.interrupted = asyncio.Event()
        self.reported = False
        """Whether the table was printed: from then on an interruption is the regular end."""

    async def run(self) -> int:
        """Do everything; the exit code is 1 where a request was not served.

        Raises:
            DemoError: the sidecar did not start, or ended by itself.
        """
        _say("camunda-sidecar demo: a whole working setup on this machine; no account needed.", "")
        async with self._standin() as standin, self._sidecar(standin) as sidecar:
            report = await self._load(standin, sidecar)
            _say("", *render(report), "")
            self.reported = True
            if not report.succeeded:
                _say("Something failed. The sidecar's log ends with:", sidecar.log_tail(), "")
            if not self._once:
                _say(*invitation(standin, sidecar))
                await self._until_interrupted(sidecar)
                _say("", "Ending both …")
        return 0 if report.succeeded else 1

    @asynccontextmanager
    async def _standin(self) -> AsyncIterator[StandIn]:
        standin = StandIn(clock=self._clock)
        try:
            await standin.start(port=free_port(STANDIN_PORT))
            why = "its issuer allows one token request a second, as Camunda SaaS does"
            _say(f"  Camunda stand-in   {standin.url}   {why}")
            yield standin
        finally:
            await standin.close()

    @asynccontextmanager
    async def _sidecar(self, standin: StandIn) -> AsyncIterator[SidecarProcess]:
        port = free_port(self._port)
        admin_port = free_port(self._port + 1 if self._port else 0, port)
        with tempfile.TemporaryDirectory(prefix="camunda-sidecar-demo-") as directory:
            sidecar = SidecarProcess(Path(directory), standin, self._clock, port=port, admin_port=admin_port)
            try:
                seconds = await sidecar.start()
                _say(f"  sidecar            {sidecar.url}   ready after {seconds:.2f} s", "")
                yield sidecar
            finally:
                await sidecar.stop()

    async def _load(self, standin: StandIn, sidecar: SidecarProcess) -> Report:
        issuer = standin.issuer
        _say(f"{self._requests} requests from {self._clients} programs at once, none with credentials:", "")
        load = Load(sidecar.url, self._clock, self._requests, self._clients)
        progress = Progress(sys.stdout, self._requests, self._clock, issuer)
        animation = asyncio.create_task(progress.animate())
        try:
            await load.run(progress.answered)
        finally:
            animation.cancel()
        progress.finish()
        audiences = {prefix: AUDIENCES[prefix[1:]] for prefix in CALLS}
        refused = issuer.count() - issuer.count("granted")
        return Report(load.samples, audiences, self._clients, issuer.count(), refused)

    async def _until_interrupted(self, sidecar: SidecarProcess) -> None:
        ended = asyncio.create_task(sidecar.ended())
        ended.add_done_callback(lambda _: self.interrupted.set())
        await self.interrupted.wait()
        if ended.done():
            raise DemoError(f"The sidecar ended by itself, with exit code {ended.result()}:\n{sidecar.log_tail()}")
        ended.cancel()


def _say(*lines: str) -> None:
    print(*lines, sep="\n", flush=True)


def invitation(standin: StandIn, sidecar: SidecarProcess) -> tuple[str, ...]:
    """Return the lines that say what to try by hand."""
    return (
        "Both go on running. Try it, with no credentials:",
        "",
        f"  curl {sidecar.url}/console/clusters",
        f"  curl -X POST {sidecar.url}/operate/v1/process-definitions/search",
        f"  curl -i {sidecar.url}/optimize/api/readyz",
        f"  curl {sidecar.url}/zeebe/v2/topology",
        "",
        "The same without the sidecar is a 401:",
        "",
        f"  curl -i {standin.upstream('console')}/clusters",
        "",
        f"Status page {sidecar.admin_url}/   metrics {sidecar.admin_url}/metrics",
        f"Its configuration: {sidecar.configuration}",
        "",
        "Ctrl-C ends both.",
    )
