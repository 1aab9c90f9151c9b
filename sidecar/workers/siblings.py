"""The other workers, as the first one asks them: their metrics, their status, their readiness."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from pathlib import Path

import msgspec
import structlog
from aiohttp import ClientError, ClientSession, ClientTimeout, UnixConnector
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from sidecar.admin.status_model import Status
from sidecar.workers.merge import is_cumulative, merge

PATIENCE = 0.8
"""Seconds; a kubelet gives up on a probe after one."""
_START = "process_start_time_seconds"

_log = structlog.get_logger(__name__)


class Sibling:
    """One of them. It may be slow, or dead and come again as another process."""

    def __init__(self, index: int, path: Path) -> None:
        self.index = index
        self._path = path
        self._silent = True
        self._latest: list[Metric] = []
        self._former: list[Metric] = []

    async def ask(self, path: str) -> tuple[int, bytes] | None:
        """The status code and body of `path`; None where it does not answer in time."""
        try:
            async with (
                ClientSession(
                    connector=UnixConnector(str(self._path)), timeout=ClientTimeout(total=PATIENCE)
                ) as session,
                session.get(f"http://localhost{path}") as response,
            ):
                answer = response.status, await response.read()
        except (OSError, TimeoutError, ClientError) as error:
            if not self._silent:
                _log.warning("a worker does not answer", sibling=self.index, error=str(error) or type(error).__name__)
            self._silent = True
            return None
        self._silent = False
        return answer

    async def missing(self) -> str | None:
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
        """Its numbers, with those of the processes that it was before.

        While it does not answer, its counters stand still: if they fell, a scraper would take that for a new start,
        and all of them for new when they are back.
        """
        answer = await self.ask("/metrics")
        if answer is None or answer[0] != HTTPStatus.OK:
            return merge([filter(is_cumulative, self._latest), self._former])
        families = list(text_string_to_metric_families(answer[1].decode()))
        if _start(self._latest) not in {None, _start(families)}:
            self._former = merge([filter(is_cumulative, self._latest), self._former])
        self._latest = families
        return merge([families, self._former])


class Siblings:
    """All of them, asked at the same time."""

    def __init__(self, paths: Mapping[int, Path]) -> None:
        """`paths`: their admin listeners' Unix sockets, by worker."""
        self._all = [Sibling(index, path) for index, path in paths.items()]

    async def missing(self) -> str | None:
        """Which are not ready and why, or None."""
        reasons = await asyncio.gather(*(one.missing() for one in self._all))
        return "; ".join(reason for reason in reasons if reason) or None

    async def statuses(self) -> dict[int, Status | None]:
        """Each one's by its index, None for who does not answer."""
        statuses = await asyncio.gather(*(one.status() for one in self._all))
        return {one.index: status for one, status in zip(self._all, statuses, strict=True)}

    async def metrics(self) -> list[list[Metric]]:
        """Each one's."""
        return await asyncio.gather(*(one.metrics() for one in self._all))


def _start(families: Sequence[Metric]) -> float | None:
    """When the process began: tells one life of a worker from the next."""
    return next((family.samples[0].value for family in families if family.name == _START), None)
