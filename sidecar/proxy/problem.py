"""The one place that turns an error into a response (RFC 9457). Both listeners use it."""

from __future__ import annotations

import json
import math
from email.utils import formatdate
from http import HTTPStatus
from typing import NamedTuple

from sidecar.errors import Problem


def document(error: Problem) -> bytes:
    """Return the problem document's JSON."""
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


def fields(error: Problem) -> dict[str, str]:
    """Return the header fields that every response with the document has."""
    said = {
        "Content-Type": "application/problem+json",
        "Sidecar-Error": error.code,
        "Cache-Control": "no-store",
    }
    if error.status == HTTPStatus.UNAUTHORIZED:
        said["WWW-Authenticate"] = 'Basic realm="camunda-sidecar"'
    if error.retry_after is not None:
        said["Retry-After"] = str(retry_after(error.retry_after))
    return said


def retry_after(seconds: float) -> int:
    """Return `Retry-After` in whole seconds: rounded up, so that a client that heeds it is not early; at least 1."""
    return max(1, math.ceil(seconds))


class Message(NamedTuple):
    """A response of the sidecar's own."""

    status: int
    fields: dict[str, str]
    body: bytes


def message(error: Problem) -> Message:
    """Return the response that tells of `error`."""
    return Message(error.status, fields(error), document(error))


def response(message: Message, *, request_id: str, now: float, close: bool, head_only: bool = False) -> bytes:
    """Return the whole HTTP/1.1 response.

    Args:
        message: what it says.
        request_id: what the log calls the request, in printable ASCII.
        now: seconds of the wall clock, for `Date` (RFC 9110, 6.6.1).
        close: whether the connection ends after it.
        head_only: whether it answers a HEAD, and so has no body.
    """
    status, more, body = message
    lines = {
        **more,
        "Content-Length": str(len(body)),
        "Date": formatdate(now, usegmt=True),
        "X-Request-ID": request_id,
        **({"Connection": "close"} if close else {}),
    }
    head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return head.encode("ascii") + b"\r\n" + (b"" if head_only else body)
