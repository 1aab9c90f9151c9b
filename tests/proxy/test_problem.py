"""Errors as responses (RFC 9457): the contract that clients see."""

from __future__ import annotations

import json

import pytest

from sidecar import errors
from sidecar.errors import BadRequestError, OverloadedError, Problem
from sidecar.proxy import problem
from tests.proxy.strict import Reader

CONTRACT = {
    "bad_request": 400,
    "cross_site": 403,
    "forbidden_by_policy": 403,
    "no_route": 404,
    "request_timeout": 408,
    "body_too_large": 413,
    "uri_too_long": 414,
    "unknown_host": 421,
    "headers_too_large": 431,
    "unsupported": 501,
    "upstream_unreachable": 502,
    "upstream_protocol_error": 502,
    "credential_rejected": 502,
    "token_unavailable": 503,
    "draining": 503,
    "overloaded": 503,
    "upstream_timeout": 504,
}
NOW = 784111777.9
"""RFC 9110's own example: Sun, 06 Nov 1994 08:49:37 GMT."""
PROBLEMS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, Problem) and kind is not Problem and kind.code in CONTRACT
]


def response(error: Problem, *, close: bool = False, head_only: bool = False) -> bytes:
    return problem.response(problem.message(error), request_id="a-1", now=NOW, close=close, head_only=head_only)


def test_every_code_has_its_class() -> None:
    """The codes and statuses are a contract: neither may change, and none may be missing."""
    assert {kind.code: kind.status for kind in PROBLEMS} == CONTRACT


@pytest.mark.parametrize("kind", PROBLEMS, ids=lambda kind: kind.code)
def test_response(kind: type[Problem]) -> None:
    """A whole response: the document, its type and length, and the header that tells it from an upstream's."""
    reader = Reader(requests=False)
    reader.feed(response(kind("What to do.")))
    (message,) = reader.done
    assert message.status == kind.status
    assert message.value(b"sidecar-error") == kind.code.encode()
    assert message.value(b"content-type") == b"application/problem+json"
    assert message.value(b"cache-control") == b"no-store"
    assert message.value(b"x-request-id") == b"a-1"
    assert message.value(b"date") == b"Sun, 06 Nov 1994 08:49:37 GMT"
    assert message.value(b"retry-after") is None
    assert message.value(b"connection") is None
    assert json.loads(message.body) == {
        "type": "about:blank",
        "title": kind.title,
        "status": kind.status,
        "code": kind.code,
        "detail": "What to do.",
    }


@pytest.mark.parametrize(("seconds", "expected"), [(0.0, 1), (0.2, 1), (1.0, 1), (1.01, 2), (59.5, 60), (-3.0, 1)])
def test_retry_after(seconds: float, expected: int) -> None:
    """Rounded up, so that whoever heeds it is not too early; never zero."""
    assert problem.retry_after(seconds) == expected
    sent = response(OverloadedError("Later.", retry_after=seconds))
    assert b"\r\nRetry-After: %d\r\n" % expected in sent
    assert json.loads(sent.partition(b"\r\n\r\n")[2])["retry_after"] == expected


def test_close_and_head() -> None:
    """`close` says so in the head; an answer to HEAD has the length and no body."""
    error = BadRequestError("No.")
    closing = response(error, close=True)
    assert b"\r\nConnection: close\r\n" in closing
    head, _, body = closing.partition(b"\r\n\r\n")
    assert response(error, close=True, head_only=True) == head + b"\r\n\r\n"
    assert b"\r\nContent-Length: %d\r\n" % len(body) in closing


def test_detail_cannot_break_out() -> None:
    """Whatever a detail says stays inside the document."""
    reader = Reader(requests=False)
    reader.feed(response(BadRequestError('a"\r\n\r\nHTTP/1.1 200 OK\r\n\u20ac')))
    assert [message.status for message in reader.done] == [400]
    assert json.loads(reader.done[0].body)["detail"] == 'a"\r\n\r\nHTTP/1.1 200 OK\r\n\u20ac'
