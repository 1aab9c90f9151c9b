"""Heads taken apart in one pass: what is forwarded as it came, and what is read. Pure: no connection, no settings.

What is here is the reference, and serves where the native module could not be built. That one is faster, takes the
usual heads alone, and leaves every other to the reference: see `_scan.pyx`.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Protocol

from sidecar.proxy import h1, target

try:
    from sidecar.proxy import _scan
except ImportError:  # there was no compiler
    NATIVE = False
else:
    NATIVE = True
    _scan.classify(h1.TCHAR, h1.VALUE, target.SEGMENT_START, target.SEGMENT, h1.QUERY)

_EMPTY_LINE = 4  # with the end of the line before it

RequestHead = tuple[bytes, bytes, bytes | None, bytes, int, bytes, bytes, int]
"""Method; target; where that is a plain path, the path and the query with its `?`; the minor version; the field lines
that pass, and the lines that are read; the size of the head, its empty line included. The target may be empty where the
path is there."""
ResponseHead = tuple[bytes, bytes, int]
"""The field lines that pass; the status line with its CRLF, and behind it the lines that are read; the head's size."""


class RequestScanner(Protocol):
    """Takes requests' heads apart."""

    def scan(self, data: bytes) -> RequestHead | None:
        """Take the head apart that `data` begins with; None where it is not whole.

        Raises:
            BadRequestError, UnsupportedError: it is none that is served.
        """
        ...


class ResponseScanner(Protocol):
    """Takes responses' heads apart."""

    def scan(self, data: bytes) -> ResponseHead | None:
        """Take the head apart that `data` begins with; None where it is not whole. The status line is not looked into.

        Raises:
            UpstreamProtocolError: a line is no field.
        """
        ...


class Reference:
    """What both references have: the reader of field lines, and the names that its rules have a word on."""

    def __init__(self, fields: h1.FieldReader, names: AbstractSet[bytes], prefixes: tuple[bytes, ...] = ()) -> None:
        """`names`, and names that begin with one of `prefixes`, are in lower case; others pass and are not read.

        A name that is spelled with other characters for the hyphens in it counts as that name.
        """
        self.fields = fields
        self.names = names
        self.prefixes = prefixes


class RequestReference(Reference):
    """A `RequestScanner` by patterns."""

    def scan(self, data: bytes) -> RequestHead | None:
        """Take a head apart; see the Protocol for what is raised."""
        size = data.find(b"\r\n\r\n") + 4
        if size < _EMPTY_LINE:
            return None
        end = data.find(b"\r\n")
        method, target, minor, path, query = h1.request_line(data[:end])
        passed, read = self.fields.read(data[end + 2 : size - 2])
        return method, target, path, query, minor, passed, read, size


class ResponseReference(Reference):
    """A `ResponseScanner` by patterns."""

    def scan(self, data: bytes) -> ResponseHead | None:
        """Take a head apart; see the Protocol for what is raised."""
        size = data.find(b"\r\n\r\n") + 4
        if size < _EMPTY_LINE:
            return None
        end = data.find(b"\r\n") + 2
        passed, read = self.fields.read(data[end : size - 2])
        return passed, data[:end] + read, size


def request_scanner(reference: RequestReference) -> RequestScanner:
    """The fastest that there is."""
    return _scan.RequestScanner(reference) if NATIVE else reference


def response_scanner(reference: ResponseReference) -> ResponseScanner:
    """The fastest that there is."""
    return _scan.ResponseScanner(reference) if NATIVE else reference
