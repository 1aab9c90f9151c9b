"""A strict HTTP/1.1 reader for the tests: the origin's and the client's, written from RFC 9110 and 9112 alone.

It shares no line with `sidecar/proxy`, so a mistake there has no twin here. It knows one spelling of everything; what
it refuses, the proxy must not have sent.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
TARGET = re.compile(rb"[\x21-\x7e\x80-\xff]+")
REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([^ ]+) HTTP/1\.([01])")
STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9]) ([\t\x20-\x7e\x80-\xff]*)")
CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})")

Headers = list[tuple[bytes, bytes]]


class NotStrictError(Exception):
    """What came is not exactly one message in the one spelling that everybody reads alike."""


@dataclass
class Message:
    """A request or a response, as it came."""

    start: tuple[bytes, ...]
    """Method, target and minor version; or minor version, status and reason."""
    headers: Headers
    body: bytes = b""
    trailers: Headers = field(default_factory=list)
    framing: str = "none"
    """`none`, `length`, `chunked` or `close`."""
    complete: bool = False

    def values(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def value(self, name: bytes) -> bytes | None:
        """The one value, None where there is none; two are a failure of whoever sent them."""
        values = self.values(name)
        if len(values) > 1:
            raise NotStrictError(f"{name!r} came {len(values)} times")
        return values[0] if values else None

    @property
    def method(self) -> bytes:
        return self.start[0]

    @property
    def target(self) -> bytes:
        return self.start[1]

    @property
    def status(self) -> int:
        return int(self.start[1])


def parse_lines(block: bytes) -> Headers:
    """Field lines without the last CRLF."""
    headers: Headers = []
    for line in block.split(b"\r\n") if block else []:
        if b"\r" in line or b"\n" in line:
            raise NotStrictError(f"a bare CR or LF in {line!r}")
        name, colon, value = line.partition(b":")
        if not colon or not TOKEN.fullmatch(name):
            raise NotStrictError(f"{line!r} is no field line")
        value = value.strip(b" \t")
        if not VALUE.fullmatch(value):
            raise NotStrictError(f"{line!r} has a control character")
        headers.append((name, value))
    return headers


def body_length(message: Message) -> int | None:
    """The declared length, None for chunked; 0 where nothing is declared.

    Raises:
        NotStrictError: both framings, a repeated or malformed length, an unknown coding (RFC 9112, 6.3).
    """
    codings = message.values(b"transfer-encoding")
    lengths = message.values(b"content-length")
    if codings and lengths:
        raise NotStrictError("both framings")
    if codings:
        if len(codings) > 1 or codings[0].lower() != b"chunked":
            raise NotStrictError(f"transfer codings {codings!r}")
        return None
    if lengths:
        if len(lengths) > 1 or not re.fullmatch(rb"[0-9]{1,18}", lengths[0]):
            raise NotStrictError(f"lengths {lengths!r}")
        return int(lengths[0])
    return 0


class Reader:
    """Feed it bytes, take complete messages out. One direction of one connection."""

    def __init__(self, *, requests: bool, lenient: bool = False) -> None:
        """`lenient` lets pass what has to be: an empty line before a request, chunk extensions, a missing reason."""
        self.requests = requests
        self.lenient = lenient
        self.buffer = bytearray()
        self.current: Message | None = None
        self.done: list[Message] = []
        self.methods: list[bytes] = []
        """For responses: the methods of the requests that are still to be answered."""
        self._left: int | None = 0
        self._chunk_state = ""
        self._body = bytearray()

    def feed(self, data: bytes) -> None:
        """Raises NotStrictError; what was complete before it stays in `done`."""
        self.buffer += data
        while self._step():
            pass

    def end(self) -> None:
        """The peer's FIN: completes a body that is delimited by it."""
        if self.current is not None and self.current.framing == "close":
            self._finish()
        elif self.current is not None or self.buffer:
            raise NotStrictError("the connection ended inside a message")

    def _step(self) -> bool:
        if self.current is None:
            return self._head()
        if self.current.framing == "chunked":
            return self._chunk()
        taken = len(self.buffer) if self._left is None else min(self._left, len(self.buffer))
        self._body += self.buffer[:taken]
        del self.buffer[:taken]
        if self._left is None:
            return False
        self._left -= taken
        if self._left == 0:
            self._finish()
            return True
        return False

    def _head(self) -> bool:
        if self.lenient and self.buffer[:2] == b"\r\n":
            del self.buffer[:2]
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            if self.buffer.find(b"\n\n") >= 0 or self.buffer[:1] in (b"\n", b" "):
                raise NotStrictError(f"{bytes(self.buffer[:80])!r} is no head")
            return False
        start, _, block = bytes(self.buffer[:end]).partition(b"\r\n")
        if self.lenient and not self.requests and start.count(b" ") == 1:
            start += b" "
        del self.buffer[: end + 4]
        match = (REQUEST_LINE if self.requests else STATUS_LINE).fullmatch(start)
        if not match:
            raise NotStrictError(f"start line {start!r}")
        message = Message(match.groups(), parse_lines(block))
        self.current = message
        self._body = bytearray()
        if self.requests:
            self._frame_request(message)
        else:
            self._frame_response(message)
        return True

    def _frame_request(self, message: Message) -> None:
        if not TARGET.fullmatch(message.target):
            raise NotStrictError(f"target {message.target!r}")
        self._set_framing(message, body_length(message))
        if message.start[2] == b"0" and message.framing == "chunked":
            raise NotStrictError("chunked in HTTP/1.0")

    def _frame_response(self, message: Message) -> None:
        informational = message.status < 200
        method = self.methods[0] if self.methods else b"GET"
        if not informational and self.methods:
            self.methods.pop(0)
        length = body_length(message)
        framed = message.values(b"content-length") or message.values(b"transfer-encoding")
        if informational or method == b"HEAD" or message.status in (204, 304):
            self._left, message.framing = 0, "none"
        elif not framed:
            self._left, message.framing = None, "close"
        else:
            self._set_framing(message, length)

    def _set_framing(self, message: Message, length: int | None) -> None:
        if length is None:
            message.framing, self._chunk_state, self._left = "chunked", "size", 0
        else:
            message.framing = "length" if message.values(b"content-length") else "none"
            self._left = length

    def _line(self) -> bytes | None:
        end = self.buffer.find(b"\n")
        if end < 0:
            return None
        line = bytes(self.buffer[: end + 1])
        if not line.endswith(b"\r\n") or b"\r" in line[:-2]:
            raise NotStrictError(f"chunk line {line!r}")
        del self.buffer[: end + 1]
        return line[:-2]

    def _chunk(self) -> bool:
        assert self.current is not None
        if self._chunk_state == "data":
            return self._chunk_data()
        line = self._line()
        if line is None:
            return False
        if self._chunk_state == "size":
            if self.lenient:
                line = line.partition(b";")[0].rstrip(b" \t")
            if not CHUNK_SIZE.fullmatch(line):
                raise NotStrictError(f"chunk size {line!r}")
            self._left = int(line, 16)
            self._chunk_state = "data" if self._left else "trailer"
        elif line:
            self.current.trailers += parse_lines(line)
        else:
            self._finish()
        return True

    def _chunk_data(self) -> bool:
        assert self._left is not None
        taken = min(self._left, len(self.buffer))
        self._body += self.buffer[:taken]
        del self.buffer[:taken]
        self._left -= taken
        if self._left or len(self.buffer) < 2:
            return False
        if self.buffer[:2] != b"\r\n":
            raise NotStrictError(f"{bytes(self.buffer[:2])!r} after a chunk")
        del self.buffer[:2]
        self._chunk_state = "size"
        return True

    def _finish(self) -> None:
        assert self.current is not None
        self.current.body = bytes(self._body)
        self.current.complete = True
        self.done.append(self.current)
        self.current = None


def read_requests(raw: bytes) -> tuple[list[Message], bool]:
    """The requests that a strict but lenient reader makes of bytes, and whether it makes something of all of them."""
    reader = Reader(requests=True, lenient=True)
    try:
        reader.feed(raw)
        reader.end()
    except NotStrictError:
        return reader.done, False
    return reader.done, True
