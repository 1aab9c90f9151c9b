"""What the admin listener shows of several workers: each remembers its numbers, and the first asks the others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
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
from sidecar.clock import Clock
from sidecar.telemetry.exposition import OPENMETRICS, expose
from sidecar.telemetry.history import Recent, merged
from sidecar.workers.merge_metrics import Merged, is_cumulative, merge
from sidecar.workers.merge_status import merge_status

PATIENCE = 0.8
"""Seconds; a kubelet gives up on a probe after one."""
_GONE_SECONDS = 0.05

T = TypeVar("T")

_log = structlog.get_logger(__name__)


class RememberingView:
    """What a worker's admin listener shows: its numbers with those of the processes that it was before.

    A counter that fell would be taken for a new start by a scraper, and all of it for new when it is back. So whatever
    is shown is in a file first, for the worker's next process, and for the first worker while this one is silent.
    """

    def __init__(self, own: View, file: Path) -> None:
        self._own = own
        self._file = file
        self._former = remembered(file)

    async def not_ready(self) -> str | None:
        """Why it is not ready, or None."""
        return await self._own.not_ready()

    async def status(self) -> Status:
        """What it says of itself."""
        return await self._own.status()

    async def recent(self, since: int) -> Recent:
        """Its last hour."""
        return await self._own.recent(since)

    async def metrics(self) -> Collector:
        """Its numbers."""
        whole = Merged(merge([(await self._own.metrics()).collect(), self._former]))
        beside = self._file.with_suffix(".new")
        with suppress(OSError):  # the file system is full: what is shown counts until this process dies
            beside.write_bytes(expose(whole, OPENMETRICS)[0])
            beside.replace(self._file)
        return whole


def remembered(file: Path) -> list[Metric]:
    """The counters that a worker has shown last; none where it has not, or the file is damaged."""
    with suppress(OSError, ValueError):
        return [family for family in text_string_to_metric_families(file.read_text()) if is_cumulative(family)]
    return []


class Peer:
    """Another worker. It may be slow, or dead and come again as another process."""

    def __init__(self, index: int, directory: Path) -> None:
        """`directory` has its admin listener's socket, and its numbers."""
        self.index = index
        self._socket, self._file = socket_of(directory, index), metrics_of(directory, index)
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

    async def recent(self, since: int) -> Recent | None:
        """Its last hour, if it answers."""
        answer = await self.ask(f"/recent?since={since}")
        return msgspec.json.decode(answer[1], type=Recent) if answer and answer[0] == HTTPStatus.OK else None

    async def metrics(self) -> list[Metric]:
        """Its numbers."""
        answer = await self.ask("/metrics", OPENMETRICS)  # the form that has exemplars
        if answer is None or answer[0] != HTTPStatus.OK:
            return remembered(self._file)
        return list(text_string_to_metric_families(answer[1].decode()))

    async def is_gone(self) -> bool:
        """Whether it has ended."""
        return await self.ask("/livez") is None


class WholeView:
    """What the admin listener shows of several workers: ready when all are, and the numbers of all."""

    def __init__(self, own: View, peers: Sequence[Peer]) -> None:
        """`own` is of the first worker alone."""
        self._own = own
        self._peers = peers
        self._problems: tuple[ProblemStatus, ...] = ()

    async def not_ready(self) -> str | None:
        """Name this process's reason, or the others'."""
        reason = await self._own.not_ready()
        if reason is not None:
            return reason
        return "; ".join(reason for reason in await self._each(Peer.not_ready) if reason) or None

    async def metrics(self) -> Collector:
        """All workers' numbers as those of one process."""
        return Merged(await self._families())

    async def status(self) -> Status:
        """What all workers say, as one sidecar says it."""
        own, others, families = await asyncio.gather(self._own.status(), self._each(Peer.status), self._families())
        by_index = {peer.index: status for peer, status in zip(self._peers, others, strict=True)}
        whole = merge_status(own, by_index, families, self._problems)
        self._problems = whole.problems
        return whole

    async def recent(self, since: int) -> Recent:
        """Add them up."""
        others = await self._each(partial(Peer.recent, since=since))
        return merged([await self._own.recent(since), *(one for one in others if one is not None)])

    async def _families(self) -> list[Metric]:
        return merge([(await self._own.metrics()).collect(), *await self._each(Peer.metrics)])

    async def _each(self, ask: Callable[[Peer], Awaitable[T]]) -> list[T]:
        return await asyncio.gather(*map(ask, self._peers))


async def until_gone(peers: Sequence[Peer], clock: Clock) -> None:
    """Return when all of them have ended."""
    while not all(await asyncio.gather(*map(Peer.is_gone, peers))):
        await clock.sleep(_GONE_SECONDS)


def socket_of(directory: Path, index: int) -> Path:
    """The admin socket of a worker; the first one, which has the sidecar's own listener, has none."""
    return directory / f"{index}.sock"


def metrics_of(directory: Path, index: int) -> Path:
    """The file with what a worker has shown last."""
    return directory / f"{index}.metrics"
