"""The demo from beginning to end: stand-in, sidecar, load, table, and both left running to try by hand."""

from __future__ import annotations

import asyncio
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from sidecar.clock import Clock, SystemClock
from sidecar.demo.apis import AUDIENCES
from sidecar.demo.load import CALLS, Load
from sidecar.demo.process import DemoError, SidecarProcess, free_port, is_free
from sidecar.demo.progress import Progress
from sidecar.demo.report import Report, render, summarize
from sidecar.demo.standin import StandIn

STANDIN_PORT = 8610
"""Tried first; any free one where somebody has it."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
INTERRUPTED = 130


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """How much, and whether to stay."""

    requests: int = 400
    clients: int = 8
    port: int = 8600
    """The sidecar's, and the next one its admin listener's: tried first. 0: any free ones."""
    once: bool = False


async def run_demo(options: DemoOptions, out: TextIO | None = None) -> int:
    """Run it until it is done, or until Ctrl-C (SIGTERM, SIGHUP); the exit code.

    Whatever ends it, the sidecar's process, its files and the stand-in are gone afterwards.
    """
    interrupted = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, interrupted.set)
    demo = Demo(options, out or sys.stdout, SystemClock(), interrupted)
    work = asyncio.create_task(demo.run())
    watch = asyncio.create_task(interrupted.wait())
    try:
        await asyncio.wait({work, watch}, return_when=asyncio.FIRST_COMPLETED)
        if interrupted.is_set() and not demo.reported:
            work.cancel()
        await asyncio.wait({work})
        return INTERRUPTED if work.cancelled() else work.result()
    finally:
        watch.cancel()
        for number in SIGNALS:
            loop.remove_signal_handler(number)


class Demo:
    """One run."""

    def __init__(self, options: DemoOptions, out: TextIO, clock: Clock, interrupted: asyncio.Event) -> None:
        self._options = options
        self._out = out
        self._clock = clock
        self._interrupted = interrupted
        self.reported = False
        """Whether the table was printed: from then on an interruption is the regular end."""

    async def run(self) -> int:
        """Everything; the exit code is 1 where a request was not served.

        Raises:
            DemoError: the sidecar did not start, or ended by itself.
        """
        self._say("camunda-sidecar demo: a whole working setup on this machine; no account needed.", "")
        async with AsyncExitStack() as stack:
            standin = await stack.enter_async_context(self._standin())
            sidecar = await self._started(stack, standin, self._options.port)
            report = await self._load(standin, sidecar)
            self._say("", *render(report), "")
            self.reported = True
            if not report.succeeded:
                self._say("Something failed. The sidecar's log ends with:", sidecar.log_tail(), "")
            if not self._options.once:
                self._say(*invitation(standin, sidecar))
                await self._until_interrupted(sidecar)
                self._say("", "Ending both …")
        return 0 if report.succeeded else 1

    @asynccontextmanager
    async def _standin(self) -> AsyncIterator[StandIn]:
        standin = StandIn(clock=self._clock)
        try:
            await standin.start(port=STANDIN_PORT)
        except OSError:
            await standin.start()
        self._say(
            f"  Camunda stand-in   {standin.url}   its issuer allows one token request a second, as Camunda SaaS does"
        )
        try:
            yield standin
        finally:
            await standin.close()

    async def _started(self, stack: AsyncExitStack, standin: StandIn, preferred: int) -> SidecarProcess:
        """A ready sidecar, which `stack` ends. Its ports may be taken between looking and binding: try once more."""
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="camunda-sidecar-demo-"))
        port = free_port(preferred)
        admin_port = free_port(preferred + 1 if preferred else 0, port)
        sidecar = SidecarProcess(Path(directory), standin, self._clock, port=port, admin_port=admin_port)
        stack.push_async_callback(sidecar.stop)
        try:
            seconds = await sidecar.start()
        except DemoError:
            if preferred == 0 or (is_free(port) and is_free(admin_port)):
                raise
            return await self._started(stack, standin, 0)
        self._say(f"  sidecar            {sidecar.url}   ready after {seconds:.2f} s", "")
        return sidecar

    async def _load(self, standin: StandIn, sidecar: SidecarProcess) -> Report:
        options = self._options
        self._say(f"{options.requests} requests from {options.clients} programs at once, none with credentials:", "")
        load = Load(sidecar.url, self._clock, options.requests, options.clients)
        progress = Progress(self._out, options.requests, self._clock, standin.issuer)
        animation = asyncio.create_task(progress.animate())
        try:
            await load.run(progress.answered)
        finally:
            animation.cancel()
        progress.finish()
        refused = standin.issuer.count() - standin.issuer.count("granted")
        return summarize(
            load.samples,
            {prefix: AUDIENCES[prefix[1:]] for prefix in CALLS},
            clients=options.clients,
            tokens_requested=standin.issuer.count(),
            tokens_refused=refused,
        )

    async def _until_interrupted(self, sidecar: SidecarProcess) -> None:
        ended = asyncio.create_task(sidecar.ended())
        interrupted = asyncio.create_task(self._interrupted.wait())
        try:
            await asyncio.wait({ended, interrupted}, return_when=asyncio.FIRST_COMPLETED)
            if not self._interrupted.is_set():
                raise DemoError(f"The sidecar ended by itself, with exit code {ended.result()}:\n{sidecar.log_tail()}")
        finally:
            ended.cancel()
            interrupted.cancel()

    def _say(self, *lines: str) -> None:
        for line in lines:
            print(line, file=self._out, flush=True)


def invitation(standin: StandIn, sidecar: SidecarProcess) -> tuple[str, ...]:
    """What to try by hand."""
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
