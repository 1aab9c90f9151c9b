"""Runs the demo: stand-in, sidecar, load and table; then both go on running, to be tried by hand."""

from __future__ import annotations

import asyncio
import math
import signal
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import aiohttp

from sidecar.clock import Clock, SystemClock
from sidecar.demo.process import DemoError, SidecarProcess, free_port
from sidecar.demo.standin import AUDIENCES, StandIn

STANDIN_PORT = 8610  # tried first; any free one where somebody has it
REQUEST_TIMEOUT = 30.0
CALLS = (
    ("/operate", "POST", "/v1/process-definitions/search"),
    ("/optimize", "GET", "/api/public/dashboard"),
    ("/console", "GET", "/clusters"),
    ("/hub", "GET", "/api/v2/info"),
    ("/operate", "POST", "/v1/process-instances/search"),
    ("/optimize", "GET", "/api/readyz"),
    ("/console", "GET", "/members"),
    ("/hub", "POST", "/api/v2/projects/search"),
)
"""Prefix, method and path of what the programs ask for, one after the other."""
_ROW = "  {:<9}   {:<20}   {:>6}   {:>6}   {:>12}   {:>12}   {:>11}"


@dataclass(frozen=True, slots=True)
class Answer:
    """One request: when it began and ended, in seconds since the load began, and the status code; 0: none came."""

    prefix: str
    began: float
    ended: float
    status: int

    @property
    def is_served(self) -> bool:
        """Whether it is a successful one."""
        return self.status // 100 == 2  # noqa: PLR2004 (RFC 9110's successful)


async def run_demo(*, requests: int, clients: int, port: int, once: bool) -> int:
    """Run it until it is done, or until Ctrl-C (SIGTERM, SIGHUP); return the exit code.

    Whatever ends it, the sidecar's process, its files and the stand-in are gone afterwards.

    Args:
        requests: how many in all.
        clients: how many programs send them at once.
        port: the sidecar's, and the next one its admin listener's: tried first. 0: any free ones.
        once: whether to end after the table.
    """
    work = asyncio.create_task(_demo(requests, clients, port, once=once))

    def interrupt() -> None:
        if not work.cancelling():
            work.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, interrupt)
    await asyncio.wait({work})
    return 130 if work.cancelled() else work.result()


async def _demo(requests: int, clients: int, port: int, *, once: bool) -> int:
    clock = SystemClock()
    _say("camunda-sidecar demo: a whole working setup on this machine; no account needed.", "")
    async with _standin() as standin, _sidecar(standin, clock, port) as sidecar:
        _say(f"{requests} requests from {clients} programs at once, none with credentials:", "")
        answers = await load(sidecar.url, standin, clock, requests, clients)
        _say("", *table(answers, clients, len(standin.token_requests), standin.refused()), "")
        succeeded = has_succeeded(answers, standin.refused())
        if not succeeded:
            _say("Something failed. The sidecar's log ends with:", sidecar.log_tail(), "")
        if not once:
            _say(*_invitation(standin, sidecar))
            with suppress(asyncio.CancelledError):  # Ctrl-C is the regular end from here on
                code = await sidecar.ended()
                raise DemoError(f"The sidecar ended by itself, with exit code {code}:\n{sidecar.log_tail()}")
            _say("", "Ending both …")
    return int(not succeeded)


@asynccontextmanager
async def _standin() -> AsyncIterator[StandIn]:
    standin = StandIn()
    try:
        await standin.start(free_port(STANDIN_PORT))
        _say(f"  Camunda stand-in   {standin.url}   its issuer allows one token request a second, as Camunda SaaS does")
        yield standin
    finally:
        await standin.close()


@asynccontextmanager
async def _sidecar(standin: StandIn, clock: Clock, wished: int) -> AsyncIterator[SidecarProcess]:
    port = free_port(wished)
    admin_port = free_port(wished + 1 if wished else 0, port)
    with tempfile.TemporaryDirectory(prefix="camunda-sidecar-demo-") as directory:
        sidecar = SidecarProcess(Path(directory), standin, clock, port=port, admin_port=admin_port)
        try:
            began = clock.monotonic()
            await sidecar.start()
            _say(f"  sidecar            {sidecar.url}   ready after {clock.monotonic() - began:.2f} s", "")
            yield sidecar
        finally:
            await sidecar.stop()


async def load(url: str, standin: StandIn, clock: Clock, requests: int, clients: int) -> list[Answer]:
    """Send `requests` from `clients` programs at once, each its share; tell of each token when it is granted."""
    began = clock.monotonic()
    answers: list[Answer] = []
    told = 0

    async def program(index: int) -> None:
        """Be one program, which has a connection and sends one request after the other."""
        nonlocal told
        calls = islice(cycle(CALLS), index, index + requests // clients + (index < requests % clients))
        timeout, connector = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT), aiohttp.TCPConnector(limit=1)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            for prefix, method, path in calls:
                sent, status = clock.monotonic() - began, 0
                with suppress(aiohttp.ClientError, TimeoutError):
                    async with session.request(method, url + prefix + path) as response:
                        await response.read()
                        status = response.status
                answers.append(Answer(prefix, sent, clock.monotonic() - began, status))
                for line in _grants(standin, began, told):
                    _say(line)
                told = len(standin.token_requests)

    async with asyncio.TaskGroup() as group:
        for index in range(clients):
            group.create_task(program(index))
    return answers


def _grants(standin: StandIn, began: float, told: int) -> Iterator[str]:
    """Return a line for each token request but the first `told`."""
    for index, request in enumerate(standin.token_requests[told:], told):
        before = standin.token_requests[index - 1].at if index else 0.0
        apart = f"   ({request.at - before:.2f} s after the one before)" if index else ""
        what = f"token for {request.audience}" if request.outcome == "granted" else f"token {request.outcome}!"
        yield f"  {request.at - began:5.2f} s  {what}{apart}"


def has_succeeded(answers: Sequence[Answer], refused: int) -> bool:
    """Tell whether every request was served, and not one token request was refused."""
    return refused == 0 and all(answer.is_served for answer in answers)


def table(answers: Sequence[Answer], clients: int, requested: int, refused: int) -> Iterator[str]:
    """Return the lines that say what was served, what it cost in tokens, and how long it took."""
    yield _ROW.format("prefix", "audience", "served", "failed", "first answer", "then: median", "99 % within")
    visited: dict[str, list[Answer]] = {}
    for answer in answers:
        visited.setdefault(answer.prefix, []).append(answer)
    audiences = {prefix: AUDIENCES[prefix[1:]] for prefix in visited}
    warm: list[Answer] = []
    for prefix, audience in sorted(audiences.items()):
        those = visited[prefix]
        served, first = sum(answer.is_served for answer in those), min(answer.ended for answer in those)
        later = [answer for answer in those if answer.began >= first]  # their token was there already
        warm += later
        yield _ROW.format(prefix, audience, served, len(those) - served, milliseconds(first), *_latency(later or those))
    failed = Counter(answer.status for answer in answers if not answer.is_served)
    told = ", ".join(f"{count} x {status or 'no answer'}" for status, count in sorted(failed.items()))
    total, each = len(answers), clients * len(set(audiences.values()))
    median, p99 = _latency(warm or answers)
    yield ""
    yield f"  Requests served   {total - failed.total():>5} of {total}" + (f"   (not served: {told})" if told else "")
    yield (
        f"  Tokens requested  {requested:>5}   without a cache {total}, "
        f"with a cache in each of the {clients} programs {each}"
    )
    yield f"  Tokens refused    {refused:>5}   its issuer allows one a second"
    yield f"  Latency           {median:>8} median, 99 % within {p99}"


def _latency(answers: Sequence[Answer]) -> tuple[str, str]:
    """Return the median, and what 99 % do not exceed: times that were measured, none made up."""
    seconds = sorted(answer.ended - answer.began for answer in answers)
    return milliseconds(seconds[math.ceil(len(seconds) * 0.5) - 1]), milliseconds(
        seconds[math.ceil(len(seconds) * 0.99) - 1]
    )


def milliseconds(seconds: float) -> str:
    """Write seconds in two or three digits with a unit.

    >>> [milliseconds(s) for s in (0.00123, 0.0456, 1.2345)]
    ['1.2 ms', '46 ms', '1.23 s']
    """
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{seconds * 1000:.1f} ms" if seconds < 0.01 else f"{seconds * 1000:.0f} ms"  # noqa: PLR2004


def _say(*lines: str) -> None:
    print(*lines, sep="\n", flush=True)


def _invitation(standin: StandIn, sidecar: SidecarProcess) -> tuple[str, ...]:
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
