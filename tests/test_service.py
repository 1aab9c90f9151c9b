"""The whole sidecar, put together in this process."""

import threading

from structlog.testing import capture_logs

from sidecar import service
from sidecar.clock import SystemClock
from sidecar.listeners import bound
from sidecar.service import Service
from tests.config.support import MINIMAL, loaded

HERE = "listen: 127.0.0.1:0\nadmin: {listen: '127.0.0.1:0'}\ntoken_store: {type: memory}\n"


async def test_a_reload_whose_files_never_answer_is_told(tmp_path, monkeypatch):
    """The old configuration stays in force, the log says why, and the next reload is not held up by this one."""
    monkeypatch.setattr(service, "RELOAD_SECONDS", 0.5)
    monkeypatch.setattr(service, "configure_logging", lambda _: None)
    settings = loaded(tmp_path, MINIMAL + HERE)
    answers = threading.Event()

    def load():
        answers.wait()
        return settings

    with bound(settings) as [listeners]:
        running = Service(settings, load, SystemClock(), listeners)
        with capture_logs() as logs:
            await running.reload()
            assert [entry["event"] for entry in logs] == ["configuration not reloaded, the old one stays in force"]
            assert "does not answer" in logs[0]["mistake"]
            answers.set()
            monkeypatch.setattr(service, "RELOAD_SECONDS", 30.0)
            await running.reload()
        await running.close()
    assert logs[-1]["event"] == "configuration reloaded"
