"""The one place that turns an error into a response (RFC 9457)."""

from __future__ import annotations

import json
import math

from sidecar.errors import Problem

REASONS = {
    400: b"Bad Request",
    403: b"Forbidden",
    404: b"Not Found",
    408: b"Request Timeout",
    413: b"Content Too Large",
    414: b"URI Too Long",
    421: b"Misdirected Request",
    431: b"Request Header Fields Too Large",
    501: b"Not Implemented",
    502: b"Bad Gateway",
    503: b"Service Unavailable",
    504: b"Gateway Timeout",
}


def document(error: Problem) -> bytes:
    """The problem document's JSON."""
    members: dict[str, object] = {
        "type": "about:blank",
        "title": error.title,
        "status": error.status,
        "code": error.code,
        "detail": error.detail,
    }
    if error.retry_after is not None:
        members["retry_after"] = retry_after(error.retry_after)
    return json.dumps(members).encode() + b"\n"


def retry_after(seconds: float) -> int:
    """`Retry-After` in whole seconds: rounded up, so that whoever heeds it is not too early; at least 1."""
    return max(1, math.ceil(seconds))


def response(error: Problem, *, close: bool, head_only: bool = False) -> bytes:
    """The whole response; `close` says that the connection ends after it, `head_only` answers a HEAD."""
    body = document(error)
    head = (
        b"HTTP/1.1 %d %b\r\nContent-Type: application/problem+json\r\nContent-Length: %d\r\n"
        b"Sidecar-Error: %b\r\nCache-Control: no-store\r\n"
        % (error.status, REASONS[error.status], len(body), error.code.encode())
    )
    if error.retry_after is not None:
        head += b"Retry-After: %d\r\n" % retry_after(error.retry_after)
    if close:
        head += b"Connection: close\r\n"
    return head + b"\r\n" + (b"" if head_only else body)
