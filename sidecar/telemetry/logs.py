"""Log lines: JSON on stderr, colours on a terminal, and no way around the masking.

The standard library's `logging` (aiohttp, asyncio), warnings and uncaught exceptions come out of the same pipe, so
that nothing prints a raw traceback and nothing escapes `masking`.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import sys
import threading
import traceback
from collections.abc import Callable, MutableMapping
from functools import partial
from types import TracebackType
from typing import Any, TextIO

import structlog

from sidecar.config.settings import Logging
from sidecar.telemetry.log_writer import STDERR, WRITER
from sidecar.telemetry.masking import mask_text, mask_value
from sidecar.telemetry.sampling import SAMPLER

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure_logging(settings: Logging, stream: TextIO | None = None) -> None:
    """Send what structlog and the standard library log to standard error, as `settings` say. May be called again.

    A terminal gets the console format whatever `settings.format` says, and colours unless `NO_COLOR` is set.

    Args:
        settings: format and level.
        stream: where to write instead of standard error.
    """
    level = LEVELS[settings.level]
    SAMPLER.whole_access_log = settings.access == "all"
    write = WRITER.write if stream is None else partial(print, file=stream)
    is_terminal = os.isatty(STDERR) if stream is None else stream.isatty()
    structlog.configure(
        processors=_processors(settings, is_terminal=is_terminal),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *names: LineLogger(write, str(names[0]) if names else "sidecar"),
        cache_logger_on_first_use=False,  # a reload may change the level
    )
    logging.raiseExceptions = False  # its handler of last resort prints tracebacks to stderr by itself
    logging.captureWarnings(capture=True)
    logging.basicConfig(handlers=[ForwardingHandler()], level=level, force=True)


def start_writer() -> None:
    """From now on a thread writes the log, so that a full standard error stops nobody."""
    WRITER.start(_report_dropped)
    atexit.register(SAMPLER.flush)


def _report_dropped(lines: int) -> None:
    structlog.get_logger(__name__).warning("log lines were dropped: standard error was not read in time", lines=lines)


def install_hooks() -> None:
    """Uncaught exceptions, of threads and finalisers too, become one masked log line instead of a raw traceback."""
    sys.excepthook = _uncaught
    sys.unraisablehook = _unraisable
    threading.excepthook = _uncaught_in_thread


class LineLogger:
    """What structlog hands finished lines to; `name` becomes the line's `logger`."""

    def __init__(self, write: Callable[[str], None], name: str) -> None:
        self.name = name
        self.msg = self.debug = self.info = self.warning = self.error = self.critical = write


class ForwardingHandler(logging.Handler):
    """The standard library's records, said by structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log the record by structlog."""
        try:
            message = record.getMessage()
        except Exception:  # noqa: BLE001 (a library's malformed call is not ours to die of)
            message = str(record.msg)
        level = min(max(record.levelno // 10 * 10, logging.DEBUG), logging.CRITICAL)
        structlog.get_logger(record.name).log(level, message, exc_info=record.exc_info or None)


def _processors(settings: Logging, *, is_terminal: bool) -> list[structlog.typing.Processor]:
    shared: list[structlog.typing.Processor] = [
        SAMPLER,
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        render_exception,
        mask,
    ]
    if settings.format == "console" or is_terminal:
        colors = is_terminal and not os.environ.get("NO_COLOR")
        plain = structlog.dev.plain_traceback
        return [*shared, structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=plain)]
    return [*shared, _render_json]


def render_exception(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """`exc_info` becomes the text `exception`, without local variables: they hold tokens."""
    given = event.pop("exc_info", None)
    match given:
        case BaseException():
            found: BaseException | None = given
        case tuple():
            found = given[1]
        case _:
            found = sys.exc_info()[1] if given else None
    if found is not None:
        event["exception"] = "".join(traceback.format_exception(found)).rstrip()
    return event


def mask(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Every value, masked; what renders the line afterwards sees only plain data."""
    return {key: mask_value(key, value) for key, value in event.items()}


def _render_json(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> str:
    head = {key: event.pop(key) for key in ("timestamp", "level", "logger", "event") if key in event}
    return json.dumps({**head, **event}, ensure_ascii=False, default=str)


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    structlog.get_logger("sidecar").critical("uncaught exception", exc_info=error.with_traceback(trace))


def _unraisable(details: sys.UnraisableHookArgs) -> None:
    message = mask_text(details.err_msg or "exception ignored")
    structlog.get_logger("sidecar").error(message, exc_info=details.exc_value)


def _uncaught_in_thread(details: threading.ExceptHookArgs) -> None:
    if details.exc_value is not None and not isinstance(details.exc_value, SystemExit):
        structlog.get_logger("sidecar").critical("uncaught exception in a thread", exc_info=details.exc_value)
