"""Where a body ends (RFC 9112, 6.3): a reader of each framing; the chunked coding is read strictly and written anew."""

from __future__ import annotations

import re
from collections.abc import Callable

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_QUOTED = rb"\"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*+\""
# Extensions are recognised, so that they can be left out.
_EXTENSION = rb"[ \t]*+;[ \t]*+%b(?:[ \t]*+=[ \t]*+(?:%b|%b))?" % (_TOKEN, _TOKEN, _QUOTED)
_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,15}+)(?:" + _EXTENSION + rb")*+")
_TRAILERS = re.compile(rb"(?:" + _TOKEN + rb":[\t\x20-\x7e\x80-\xff]*+\r\n)*+")
_BARE_LINE_ENDING = re.compile(rb"(?<!\r)\n|\r[^\n]")
_MAX_SIZE_LINE = 256
_CRLF = 2
_MANY = 16

LAST_CHUNK = b"0\r\n\r\n"


class ChunkedError(ValueError):
    """The bytes are not a chunked body; the text says why."""


Pieces = list[bytes | memoryview]
"""Bytes of a message, in the pieces in which they came."""
_State = Callable[[memoryview, Pieces], memoryview | None]


class LengthReader:
    """Reads a body of a known length."""

    __slots__ = ("_left", "done")

    def __init__(self, length: int) -> None:
        self._left = length
        self.done = not length

    def feed(self, data: bytes) -> tuple[Pieces, bytes]:
        """The body's part of `data`, and what follows the body's end (empty until `done`)."""
        left = self._left
        self._left = max(0, left - len(data))
        self.done = not self._left
        return ([data[:left]] if left else []), data[left:]


class UntilCloseReader:
    """Reads a body that ends with its connection."""

    done = False

    def feed(self, data: bytes) -> tuple[Pieces, bytes]:
        """All of `data`."""
        return ([data] if data else []), b""


class ChunkedReader:
    """Takes the wire's bytes in any cuts, gives the data in them; trailers are checked and dropped.

    Data comes back as slices of what came in, without a copy.
    """

    __slots__ = ("_buffer", "_left", "_limit", "_state", "_trailer", "done")

    def __init__(self, trailer_limit: int = 16 << 10) -> None:
        self._buffer = b""
        self._left = 0
        self._limit = trailer_limit
        self._trailer = bytearray()
        self._state: _State = self._size
        self.done = False

    def feed(self, data: bytes) -> tuple[Pieces, bytes]:
        """The data of the body in `data`, and what follows the body's end (empty until `done`).

        Raises:
            ChunkedError: anything that two parsers could read in two ways.
        """
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        view = memoryview(data)
        pieces: Pieces = []
        while view and not self.done:
            rest = self._state(view, pieces)
            if rest is None:
                self._buffer = bytes(view)
                view = view[:0]
                break
            view = rest
        if len(pieces) > _MANY:
            pieces = [b"".join(pieces)]  # crumbs: a view of each would cost more than a copy of all
        return pieces, bytes(view)

    def _size(self, view: memoryview, _: Pieces) -> memoryview | None:
        start = bytes(view[: _MAX_SIZE_LINE + _CRLF])
        end = start.find(b"\r\n")
        if end < 0:
            if len(start) > _MAX_SIZE_LINE:
                raise ChunkedError("A chunk's size line is too long.")
            if b"\n" in start or b"\r" in start[:-1]:
                raise ChunkedError("A chunk's size line ends with a bare CR or LF.")
            return None
        match = _SIZE_LINE.fullmatch(start, 0, end)
        if match is None:
            raise ChunkedError("A chunk's size line is not a hexadecimal number with valid extensions.")
        self._left = int(match[1], 16)
        self._state = self._data if self._left else self._trailers
        return view[end + _CRLF :]

    def _data(self, view: memoryview, pieces: Pieces) -> memoryview | None:
        piece = view[: self._left]
        pieces.append(piece)
        self._left -= len(piece)
        if not self._left:
            self._state = self._data_end
        return view[len(piece) :]

    def _data_end(self, view: memoryview, _: Pieces) -> memoryview | None:
        if view[:_CRLF] != b"\r\n"[: len(view)]:
            raise ChunkedError("A chunk's data is not followed by CRLF.")
        if len(view) < _CRLF:
            return None
        self._state = self._size
        return view[_CRLF:]

    def _trailers(self, view: memoryview, _: Pieces) -> memoryview | None:
        # They may come byte by byte: what is here is neither copied nor looked at again.
        trailers = self._trailer
        before = len(trailers)
        seen = max(0, before - 3)
        trailers += view[: self._limit + 1 - before]
        end = 0 if trailers.startswith(b"\r\n") else trailers.find(b"\r\n\r\n", seen) + _CRLF
        if end == _CRLF - 1:
            if len(trailers) > self._limit:
                raise ChunkedError("The trailers are too long.")
            if _BARE_LINE_ENDING.search(trailers, seen):
                raise ChunkedError("A trailer line ends with a bare CR or LF.")
            return view[len(view) :]
        if _TRAILERS.fullmatch(trailers, 0, end) is None:
            raise ChunkedError("A trailer line is not `name: value`.")
        self.done = True
        return view[end + _CRLF - before :]


BodyReader = LengthReader | ChunkedReader | UntilCloseReader


def encode(pieces: Pieces, *, done: bool) -> Pieces:
    """`pieces` as one chunk, and the last chunk behind it where the body is `done`; as buffers to write.

    No data is no chunk: an empty one would end the body.
    """
    size = sum(map(len, pieces))
    coded: Pieces = [b"%x\r\n" % size, *pieces, b"\r\n"] if size else []
    if done:
        coded.append(LAST_CHUNK)
    return coded
