import io
import json
import logging
import sys
import threading
import warnings
from datetime import UTC, datetime

import pytest
import structlog

from sidecar.config.settings import Logging
from sidecar.telemetry.logs import configure_logging, install_hooks

TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJhdWQiOiJvcGVyYXRlIn0.c2ln"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def restored():
    root, level, handlers = logging.getLogger(), logging.getLogger().level, logging.getLogger().handlers[:]
    hooks = sys.excepthook, sys.unraisablehook, threading.excepthook
    with warnings.catch_warnings():
        yield
    structlog.reset_defaults()
    logging.captureWarnings(capture=False)
    logging.raiseExceptions = True
    root.handlers[:] = handlers
    root.setLevel(level)
    sys.excepthook, sys.unraisablehook, threading.excepthook = hooks


def fail() -> None:
    password_in_a_local = "hunter" + "2"
    raise ValueError(f"the upstream said {TOKEN}" + password_in_a_local[:0])


def lines(stream: io.StringIO) -> list[dict]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_one_json_object_with_time_level_logger_and_event_first():
    """A log shipper reads every line; times are ISO 8601 in UTC."""
    stream = io.StringIO()
    configure_logging(Logging(), stream)
    structlog.get_logger("sidecar.tokens").info("token obtained", audience="operate.camunda.io", seconds=0.25)
    [line] = lines(stream)
    assert list(line) == ["timestamp", "level", "logger", "event", "audience", "seconds"]
    assert (line["level"], line["logger"], line["event"]) == ("info", "sidecar.tokens", "token obtained")
    assert datetime.fromisoformat(line["timestamp"]).tzinfo == UTC


def test_levels_are_heeded_and_can_be_changed():
    """`logging.level` filters, for loggers that were made before a reload too."""
    stream = io.StringIO()
    logger = structlog.get_logger("sidecar")
    configure_logging(Logging(level="warning"), stream)
    logger.info("unheard")
    logging.getLogger("aiohttp").info("unheard")
    configure_logging(Logging(level="debug"), stream)
    logger.debug("heard")
    assert [line["event"] for line in lines(stream)] == ["heard"]


def test_the_standard_library_comes_out_of_the_same_pipe():
    """What aiohttp and asyncio log is structured and masked like the rest."""
    stream = io.StringIO()
    configure_logging(Logging(), stream)
    logging.getLogger("asyncio").error("got %s", f"Bearer {TOKEN}")
    logging.getLogger("third.party").log(25, "between two levels")
    logging.getLogger("third.party").warning("%d", "malformed")
    said = [(line["logger"], line["level"], line["event"]) for line in lines(stream)]
    assert said == [
        ("asyncio", "error", "got Bearer ***"),
        ("third.party", "info", "between two levels"),
        ("third.party", "warning", "%d"),
    ]


def test_an_exception_is_one_line_without_local_variables_or_tokens():
    """Tracebacks are logged, not printed; neither a local variable nor a token in the message shows."""
    stream = io.StringIO()
    configure_logging(Logging(), stream)
    try:
        fail()
    except ValueError:
        structlog.get_logger("sidecar").exception("it failed")
        logging.getLogger("aiohttp.server").exception("it failed there")
    ours, theirs = lines(stream)
    for line in (ours, theirs):
        assert "ValueError: the upstream said ***" in line["exception"]
        assert "hunter2" not in json.dumps(line)


def test_uncaught_exceptions_are_log_lines():
    """Nothing prints a raw traceback: not the interpreter's last resort, nor a thread's."""
    stream = io.StringIO()
    configure_logging(Logging(), stream)
    install_hooks()
    error = RuntimeError(f"Bearer {TOKEN}")
    sys.excepthook(RuntimeError, error, None)
    sys.excepthook(KeyboardInterrupt, KeyboardInterrupt(), None)
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    thread.join()
    said = lines(stream)
    assert [line["event"] for line in said] == ["uncaught exception", "uncaught exception in a thread"]
    assert TOKEN not in stream.getvalue()


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_a_terminal_gets_readable_lines(monkeypatch, no_color, coloured):
    """Colours on a terminal, unless NO_COLOR; masked all the same."""
    monkeypatch.setenv("NO_COLOR", no_color)
    stream = Terminal()
    configure_logging(Logging(format="json"), stream)
    structlog.get_logger("sidecar").warning("odd", header=f"Bearer {TOKEN}")
    assert "odd" in stream.getvalue()
    assert TOKEN not in stream.getvalue()
    assert ("\x1b[" in stream.getvalue()) is coloured


def test_the_console_format_needs_no_terminal():
    """`format: console` is for people who read the file itself: no colour codes."""
    stream = io.StringIO()
    configure_logging(Logging(format="console"), stream)
    structlog.get_logger("sidecar").info("readable", route="operate")
    assert "readable" in stream.getvalue()
    assert "\x1b[" not in stream.getvalue()
