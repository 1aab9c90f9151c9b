"""A sidecar between a real client and a real server, on each event loop, with a plain and a TLS upstream."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pytest

from tests.clients.upstream import Certificates, serving
from tests.proxy.corpus.world import LOOPS
from tests.proxy.support import RunningProxy, route, running_proxy

Play = Callable[[RunningProxy], Awaitable[None]]


@dataclass(frozen=True)
class Setting:
    loop: str
    tls: bool

    def run(self, play: Play) -> None:
        """Run a client's part against a proxy of its own; afterwards nothing is under way."""
        with asyncio.Runner(loop_factory=LOOPS[self.loop]) as runner:
            runner.run(self._run(play))

    async def _run(self, play: Play) -> None:
        certificates = Certificates() if self.tls else None
        async with serving(certificates.server if certificates else None) as url:
            contexts = {"op": certificates.client if certificates else None}
            async with running_proxy(route("op", url), contexts=contexts) as proxy:
                await play(proxy)
                assert proxy.stats.route("op").in_flight == 0


settings = pytest.mark.parametrize(
    "setting",
    [Setting(loop, tls) for loop, tls in product(LOOPS, (False, True))],
    ids=lambda setting: f"{setting.loop}-{'tls' if setting.tls else 'plain'}",
)


async def run(*arguments: str | Path, data: bytes = b"", patience: float = 120) -> tuple[int, bytes, bytes]:
    """Run a program to its end: exit code, standard output, standard error."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*map(str, arguments), stdin=pipe, stdout=pipe, stderr=pipe)
    try:
        async with asyncio.timeout(patience):
            out, err = await process.communicate(data)
    except TimeoutError:
        process.kill()
        out, err = await process.communicate()
        raise AssertionError(f"{arguments[0]} hangs: {out.decode()} {err.decode()}") from None
    assert process.returncode is not None
    return process.returncode, out, err
