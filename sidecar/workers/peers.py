"""All workers' numbers, as the first worker gathers them: by asking the others, and by remembering who died."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import TypeVar

import msgspec
import structlog
from aiohttp import ClientError, ClientSession, ClientTimeout, UnixConnector
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from sidecar.admin.status_model import ProblemStatus, Status
from sidecar.admin.view import View
from sidecar.telemetry.exposition import OPENMETRICS, expose
from sidecar.workers.merge_metrics import Merged, is_cumulative, merge
from sidecar.workers.merge_status import merge_status

PATIENCE = 0.8
"""Seconds; a kubelet gives up on a probe after one."""
_START = "process_start_time_seconds"
_GONE_SECONDS = 0.05

T = TypeVar("T")

_log = structlog.get_logger(__name__)


class Counters:
    """The numbers of one worker, with those of the processes that it was before.

    A counter that fell would be taken for a new start by a scraper, and all of it for new when it is back. So counters
    stand still while a worker does not answer. They are in two files too, for the case that the process dies that
    remembers them.
    """

    def __init__(self, file: Path) -> None:
        """Remember what an earlier process has written to `file` and the one beside it."""
        self._files = file.with_suffix(".latest"), file.with_suffix(".former")
        self._latest, self._former = (_parse(each.read_bytes() if each.exists() else b"") for each in self._files)

    def take(self, exposition: bytes) -> list[Metric]:
        """What the worker says now, and what is to be added for its former lives."""
        latest = _parse(exposition)
        if _start(self._latest) not in {None, _start(latest)}:
            self._former = self.remembered()
            _replace(self._files[1], expose(Merged(self._former), OPENMETRICS)[0])
        self._latest = latest
        _replace(self._files[0], exposition)
        return merge([latest, self._former])

    def remembered(self) -> list[Metric]:
        """The counters of a worker that does not answer."""
        return merge([filter(is_cumulative, self._latest), self._former])


class Peer:
    """Another worker. It may be slow, or dead and come again as another process."""

    def __init__(self, index: int, socket: Path) -> None:
        """`socket` is its admin listener's."""
        self.index = index
        self._socket = socket
        self._counters = Counters(socket)
        self._silent = True

    async def ask(self, path: str, accept: str = "*/*") -> tuple[int, bytes] | None:
        """The status code and body of `path`; None where it does not answer in time."""
        timeout, connector = ClientTimeout(total=PATIENCE), UnixConnector(str(self._socket))
        try:
            async with (
                ClientSession(connector=connector, timeout=timeout) as session,
                session.get(f"http://localhost{path}", headers={"Accept": accept}) as response,
            ):
                answer = response.status, await response.read()
        except (OSError, TimeoutError, ClientError) as error:
            if not self._silent:
                _log.warning("a worker does not answer", peer=self.index, error=str(error) or type(error).__name__)
            self._silent = True
            return None
        self._silent = False
        return answer

    async def not_ready(self) -> str | None:
        """Why it is not ready, or None."""
        answer = await self.ask("/readyz")
        if answer is None:
            return f"waiting for: worker {self.index}"
        code, body = answer
        return None if code == HTTPStatus.OK else f"worker {self.index}: {body.decode().strip()}"

    async def status(self) -> Status | None:
        """What it says of itself, if it answers."""
        answer = await self.ask("/status")
        return msgspec.json.decode(answer[1], type=Status) if answer and answer[0] == HTTPStatus.OK else None

    async def metrics(self) -> list[Metric]:
        """Its numbers."""
        answer = await self.ask("/metrics", OPENMETRICS)  # the form that has exemplars
        is_there = answer is not None and answer[0] == HTTPStatus.OK
        return self._counters.take(answer[1]) if answer and is_there else self._counters.remembered()

    async def is_gone(self) -> bool:
        """Whether it has ended."""
        return await self.ask("/livez") is None


class WholeView:
    """What the admin listener shows of several workers: ready when all are, and the numbers of all."""

    _own: View

    def __init__(self, directory: Path, count: int) -> None:
        """Show `count` workers; all but the first have their admin sockets in `directory`."""
        self._counters = Counters(socket_of(directory, 0))
        self._problems: tuple[ProblemStatus, ...] = ()
        self._peers = [Peer(index, socket_of(directory, index)) for index in range(1, count)]

    def over(self, own: View) -> View:
        """This view, where `own` is of the first worker alone."""
        self._own = own
        return self

    async def not_ready(self) -> str | None:
        """Name this process's reason, or the others'."""
        reason = await self._own.not_ready()
        if reason is not None:
            return reason
        return "; ".join(reason for reason in await self._each(Peer.not_ready) if reason) or None

    async def metrics(self) -> Collector:
        """Merge them: see `merge_metrics`."""
        return Merged(await self._families())

    async def status(self) -> Status:
        """Merge them: see `merge_status`."""
        own, others, families = await asyncio.gather(self._own.status(), self._each(Peer.status), self._families())
        by_index = {peer.index: status for peer, status in zip(self._peers, others, strict=True)}
        whole = merge_status(own, by_index, families, self._problems)
        self._problems = whole.problems
        return whole

    async def until_alone(self, sleep: Callable[[float], Awaitable[None]]) -> None:
        """Return when all others have ended."""
        while not all(await self._each(Peer.is_gone)):
            await sleep(_GONE_SECONDS)

    async def _families(self) -> list[Metric]:
        own = self._counters.take(expose(await self._own.metrics(), OPENMETRICS)[0])
        return merge([own, *await self._each(Peer.metrics)])

    async def _each(self, ask: Callable[[Peer], Awaitable[T]]) -> list[T]:
        return await asyncio.gather(*map(ask, self._peers))


def socket_of(directory: Path, index: int) -> Path:
    """The admin socket of a worker; the first one, which has the sidecar's own listener, has none."""
    return directory / f"{index}.sock"


def _parse(exposition: bytes) -> list[Metric]:
    with suppress(ValueError):  # a file that is damaged
        return list(text_string_to_metric_families(exposition.decode()))
    return []


def _start(families: list[Metric]) -> float | None:
    """When the process began: tells one life of a worker from the next."""
    return next((family.samples[0].value for family in families if family.name == _START), None)


def _replace(file: Path, content: bytes) -> None:
    beside = file.with_suffix(file.suffix + ".new")
    with suppress(OSError):  # the file system is full: what is in memory is enough until this process dies
        beside.write_bytes(content)
        beside.replace(file)
