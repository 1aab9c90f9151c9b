"""Repeated log lines are sampled, and their number is told."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from sidecar.config.settings import Logging
from sidecar.telemetry import logs
from sidecar.telemetry.sampling import KINDS, MOST, WINDOW, Sampler


class Log:
    """What is written, and the time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.sampler = Sampler(lambda: self.now)
        self.stream = io.StringIO()
        monkeypatch.setattr(logs, "SAMPLER", self.sampler)
        self.configure("errors")

    def configure(self, access: Any) -> None:
        logs.configure_logging(Logging(access=access), self.stream)

    def say(self, event: str, times: int = 1, **context: object) -> None:
        for _ in range(times):
            structlog.get_logger("sidecar.x").info(event, **context)

    def lines(self, event: str) -> list[dict[str, Any]]:
        return [line for line in map(json.loads, self.stream.getvalue().splitlines()) if line["event"] == event]


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[Log]:
    yield Log(monkeypatch)
    structlog.reset_defaults()


def test_a_storm_becomes_some_lines_and_a_number(log: Log) -> None:
    """A log is readable in a storm of failures, and says how large it was, of which route and why."""
    log.say("request", 5000, route="operate", status=502, request_id="different each time")
    assert len(log.lines("request")) == MOST
    assert log.lines("log lines were left out") == []
    log.now += WINDOW
    log.say("another")
    [told] = log.lines("log lines were left out")
    assert (told["repeated"], told["lines"], told["route"], told["status"]) == ("request", 5000 - MOST, "operate", 502)
    log.say("request", 1, route="operate", status=502)
    assert len(log.lines("request")) == MOST + 1


def test_one_kind_hides_no_other(log: Log) -> None:
    """A route that fails all the time leaves the lines of another as they are."""
    log.say("request", 5000, route="operate", status=502)
    log.say("request", 3, route="tasklist", status=502)
    assert len([line for line in log.lines("request") if line["route"] == "tasklist"]) == 3


def test_an_access_log_that_was_asked_for_is_whole(log: Log) -> None:
    """`logging.access: all` may be kept for an audit."""
    log.configure("all")
    log.say("request", 5000, route="operate", status=200)
    assert len(log.lines("request")) == 5000


def test_the_end_of_the_process_tells_the_number_too(log: Log) -> None:
    """A storm just before the end is not lost."""
    log.say("request", MOST + 7)
    log.sampler.flush()
    log.sampler.flush()
    assert [line["lines"] for line in log.lines("log lines were left out")] == [7]


def test_what_is_kept_is_bounded(log: Log) -> None:
    """A library whose every line differs costs no memory, and its lines are all written."""
    for number in range(3 * KINDS):
        log.say(f"line {number}")
    assert log.stream.getvalue().count("\n") == 3 * KINDS
    log.say("line 0", MOST)
    log.say("line 2500", 2 * MOST)
    assert (len(log.lines("line 0")), len(log.lines("line 2500"))) == (MOST, 2 * MOST + 1)
