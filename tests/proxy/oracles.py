"""Two parsers of others, asked what they make of raw bytes: h11 (strict, pure Python) and httptools (Node's llhttp)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import h11
import httptools


@dataclass(frozen=True)
class Reading:
    """How many whole messages it found, and whether it stopped at an error."""

    complete: int
    error: bool


def h11_requests(raw: bytes) -> Reading:
    """As a server that answers each request at once."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=64 << 10)
    complete = 0
    try:
        connection.receive_data(raw)
        while True:
            event = connection.next_event()
            if isinstance(event, h11.EndOfMessage):
                complete += 1
                connection.send(h11.Response(status_code=200, headers=[(b"content-length", b"0")]))
                connection.send(h11.EndOfMessage())
                if connection.our_state is h11.MUST_CLOSE:
                    break
                connection.start_next_cycle()
            elif event is h11.NEED_DATA or event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
                break
    except h11.RemoteProtocolError:
        return Reading(complete, error=True)
    except h11.LocalProtocolError:  # CONNECT's answer
        return Reading(complete, error=False)
    return Reading(complete, error=False)


def h11_response(raw: bytes, method: bytes, *, end: bool) -> Reading:
    """As the client that asked with `method`."""
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=64 << 10)
    connection.send(h11.Request(method=method, target=b"/", headers=[(b"host", b"x")]))
    connection.send(h11.EndOfMessage())
    complete = 0
    try:
        connection.receive_data(raw)
        if end:
            connection.receive_data(b"")
        while True:
            event = connection.next_event()
            if isinstance(event, h11.EndOfMessage):
                complete += 1
                break
            if event is h11.NEED_DATA or event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
                break
    except h11.RemoteProtocolError:
        return Reading(complete, error=True)
    return Reading(complete, error=False)


class _Counter:
    def __init__(self) -> None:
        self.complete = 0

    def on_message_complete(self) -> None:
        self.complete += 1


def _httptools(parser: Callable[[Any], Any], raw: bytes) -> Reading:
    counter = _Counter()
    try:
        parser(counter).feed_data(raw)
    except httptools.HttpParserUpgrade:
        return Reading(counter.complete, error=False)
    except httptools.HttpParserError:
        return Reading(counter.complete, error=True)
    return Reading(counter.complete, error=False)


def httptools_requests(raw: bytes) -> Reading:
    """As its users have it: no option set."""
    return _httptools(httptools.HttpRequestParser, raw)


def httptools_response(raw: bytes) -> Reading:
    """It is not told of the request, nor of the connection's end."""
    return _httptools(httptools.HttpResponseParser, raw)
