import asyncio
import stat

import pytest

from sidecar.config.settings import UnixAddress
from tests.admin.support import ask, connect, serving

uvloop = pytest.importorskip("uvloop", reason="uvloop does not exist here; asyncio's own loop is tested elsewhere")
HOST = "Host: localhost"


def test_the_listener_works_on_uvloop_too(tmp_path):
    """`run` serves on uvloop: TCP, a Unix socket, eviction and closing are the same there."""

    async def scenario():
        async with serving(connections=4) as running:
            held = [await connect(running) for _ in range(12)]
            answers = [(await ask(running, f"GET {path} HTTP/1.1\n{HOST}"))[0] for path in ("/livez", "/status", "/x")]
            for _, writer in held:
                writer.close()
        path = tmp_path / "admin.sock"
        async with serving(UnixAddress(path)) as running:
            mode = stat.S_IMODE(path.stat().st_mode)
            answers.append((await ask(running, f"GET /status HTTP/1.1\n{HOST}"))[0])
        return answers, mode, path.exists()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(scenario()) == ([200, 200, 404, 200], 0o660, False)
