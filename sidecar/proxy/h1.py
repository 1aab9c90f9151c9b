"""HTTP/1.1 heads as bytes (RFC 9112): a strict grammar over complete lines. Everything here is pure.

A line is matched whole, by a possessive pattern (others are quadratic on hostile input). A line that does not match is
refused; `_why_…` only finds words for it. Parsing a line is a pure function of its bytes, and the same peers send the
same lines again and again, so lines are memoised.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from sidecar.errors import BadRequestError, UnsupportedError, UpstreamProtocolError
from sidecar.proxy.memo import Memo
from sidecar.proxy.target import PLAIN_PATH

TCHAR: Final[bytes] = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]"
# RFC 9110, 5.5, and stricter than its robustness clause: no control character but HTAB.
VALUE: Final[bytes] = rb"[\t\x20-\x7e\x80-\xff]"
_FIELD = re.compile(rb"(" + TCHAR + rb"++):(" + VALUE + rb"*+)")

QUERY: Final[bytes] = rb"[!\"$-~]"
# Nearly every target is a plain path; one pattern says so in passing.
_TARGET = rb"(?:(?=/)(" + PLAIN_PATH + rb")(\?" + QUERY + rb"*+)?+|[!-~]++)"
_REQUEST_LINE = re.compile(rb"(" + TCHAR + rb"++) (" + _TARGET + rb") HTTP/1\.([01])")
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: (" + VALUE + rb"*+))?")
_SP, _HTAB = b" \t"  # numbers: `in` looks for them at once
_BARE_LINE_ENDING = re.compile(rb"(?<!\r)\n|\r[^\n]")

RequestLine = tuple[bytes, bytes, int, bytes | None, bytes]
"""RFC 9112, 3: method, target, minor version; and where the target is a plain path, that and its query with its `?`."""
Error = type[BadRequestError] | type[UpstreamProtocolError]


def request_line(line: bytes) -> RequestLine:
    """Parse a request line, without its CRLF.

    Raises:
        BadRequestError: the line is not exactly `method SP target SP HTTP/1.0 or 1.1`.
        UnsupportedError: the method is CONNECT or TRACE.
    """
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        raise BadRequestError(_why_request_line(line))
    method, target, path, query, minor = match.groups()
    if method in {b"CONNECT", b"TRACE"}:
        raise UnsupportedError(f"The method {method.decode()} is not served: this sidecar forwards to fixed upstreams.")
    return method, target, minor[0] - 0x30, path, query or b""


def status_line(line: bytes) -> tuple[int, int, bytes]:
    """Parse a status line, without its CRLF, into the minor version, the status code and the reason.

    Raises:
        UpstreamProtocolError: the line is not one of HTTP/1.0 or 1.1.
    """
    match = _STATUS_LINE.fullmatch(line)
    if match is None:
        raise UpstreamProtocolError("The upstream's answer does not begin with an HTTP/1.1 status line.")
    return match[1][0] - 0x30, int(match[2]), match[3] or b""


FieldRule = tuple[bool, bytes, bool, int]
"""What is done with fields of one name: whether they are forwarded; `name:` in lower case where they are read; whether
with their value; and where only one word of visible ASCII is let pass, its largest length, else 0."""


class FieldReader:
    """Takes field lines apart into those that are forwarded as they came and those that are read.

    It remembers lines, and names: it has seen most lines of a head before, and the names of the others (a trace id, a
    date).
    """

    __slots__ = ("_error", "_lines", "rules")

    def __init__(self, rule: Callable[[bytes], FieldRule], error: Error) -> None:
        """Ask `rule` about each name, in the sender's spelling; raise `error` for a line that is no field."""
        self.rules = Memo(rule)
        self._lines = Memo(self._line)
        self._error = error

    def read(self, block: bytes) -> tuple[bytes, bytes]:
        """Return the lines to forward, as far as that can be told without `Connection`, and the lines to be read.

        Args:
            block: complete lines, each with its CRLF, without the empty line that ends them.

        Raises:
            BadRequestError, UpstreamProtocolError: A line is no field.
        """
        lines = block.split(b"\r\n")
        known = self._lines
        kept, read = [], []
        for line in lines[:-1]:
            special = known[line]
            if special is None:
                kept.append(line)
                continue
            forwarded, meaning = special
            if forwarded:
                kept.append(line)
            read.append(meaning)
        kept.append(b"")
        return b"\r\n".join(kept), b"".join(read)

    def _line(self, line: bytes) -> tuple[bool, bytes] | None:
        """Tell whether a line is forwarded, and what is read of it; None where it is forwarded and not read."""
        match = _FIELD.fullmatch(line)
        if match is None:
            raise self._error(_why_field(line))
        name, value = match.groups()
        passes, key, by_value, longest = self.rules[name]
        if not key:
            return None if passes else (False, b"")
        value = value.strip(b" \t")
        if longest and not (0 < len(value) <= longest and value.isascii() and _SP not in value and _HTAB not in value):
            return False, b""
        return passes, key + (value if by_value else b"") + b"\r\n"


def without(lines: bytes, names: frozenset[bytes]) -> bytes:
    """Return complete field lines, less those with one of `names` (lower case)."""
    return b"\r\n".join(line for line in lines.split(b"\r\n") if line.partition(b":")[0].lower() not in names)


def early_fault(partial: bytes | bytearray, start: int = 0) -> str | None:
    """Say why a request's head that is still incomplete can never become one; None while it still can.

    Bytes before `start` were looked at before. Without this, a client that ends its lines with LF alone, or speaks TLS
    to this port, would wait for the time limit.
    """
    if _BARE_LINE_ENDING.search(partial, max(0, start - 1)):
        return "A line of the request's head ends with a bare CR or LF."
    if partial and not re.match(TCHAR, partial[:1]):
        return "The request does not begin with a method (was TLS spoken to a plain HTTP port?)."
    return None


def _why_request_line(line: bytes) -> str:
    if b"\n" in line or b"\r" in line:
        return "The request line ends with a bare CR or LF."
    if line == b"PRI * HTTP/2.0":  # RFC 9113, 3.4
        return (
            "This port speaks HTTP/1.1, and this client began with HTTP/2, as gRPC clients do. Give it the address of "
            "the sidecar's gRPC listener (grpc.listen), or have it prefer REST, with this port as its REST address "
            "(CAMUNDA_REST_ADDRESS or ZEEBE_REST_ADDRESS)."
        )
    parts = line.split(b" ")
    if len(parts) != 3:  # noqa: PLR2004 (method, target, version)
        return "The request line is not exactly three parts with one space between them."
    if re.fullmatch(rb"HTTP/1\.[01]", parts[2]) is None:
        return "The version is neither HTTP/1.1 nor HTTP/1.0."
    return "The request line has a character that a method or a target must not have."


def _why_field(line: bytes) -> str:
    if b"\0" in line:
        return "A field line has a NUL."
    if b"\n" in line or b"\r" in line:
        return "A field line ends with a bare CR or LF."
    if line.startswith((b" ", b"\t")):
        return "A field line is folded (obsolete since RFC 7230)."
    if line.partition(b":")[0].endswith((b" ", b"\t")):
        return "A field line has white space before its colon."
    return "A field line is not `name: value` with a token for a name and no control characters."
