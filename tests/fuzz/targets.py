"""What is fuzzed: functions of bytes. Whatever comes in, only our own error types come out, and the invariants hold."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import unquote_to_bytes

from sidecar.errors import BadRequestError, UnsupportedError, UpstreamProtocolError
from sidecar.proxy import h1, scan, semantics
from sidecar.proxy.framing import ChunkedError, ChunkedReader
from sidecar.proxy.target import localize, parse
from tests.fuzz.wire import Upstream, Wire, cut, messages
from tests.proxy.heads import request_fields, response_fields
from tests.proxy.scanning import compare
from tests.proxy.strict import Message, NotStrictError, Reader, parse_lines

GONE = re.compile(
    rb"(?i)(authorization|cookie2?|forwarded|connection|keep-alive|te|trailer|transfer-encoding|upgrade|host"
    rb"|content-length|x-real-ip|proxy-.*|x-forwarded-.*)"
)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def request_head(data: bytes) -> None:
    """What the grammar accepts, a strict reader reads alike; what is forwarded has none of the client's credentials."""
    line, _, block = data.partition(b"\r\n")
    if not data.endswith(b"\r\n"):
        return  # the caller's part: a head is found by its end
    try:
        method, asked, minor, *_ = h1.request_line(line)
        kept, fields = request_fields(block, minor)
    except (BadRequestError, UnsupportedError):
        return
    reader = Reader(requests=True)
    reader.feed(data + b"\r\n")
    message = reader.current or reader.done[0]
    assert (message.method, message.target) == (method, asked)
    assert len(message.values(b"host")) == 1
    assert fields.chunked == (message.framing == "chunked")
    for name, _ in parse_lines(kept[:-2]):
        assert not GONE.fullmatch(name.replace(b"_", b"-")), name


def response_head(data: bytes) -> None:
    """The same for answers."""
    line, _, block = data.partition(b"\r\n")
    if not data.endswith(b"\r\n"):
        return
    try:
        _, status, reason = h1.status_line(line)
        kept, _ = response_fields(block)
    except UpstreamProtocolError:
        return
    assert 100 <= status <= 599
    assert not re.search(rb"[\r\n]", reason)
    names = {name.lower() for name, _ in parse_lines(kept[:-2])}
    assert not names & {b"set-cookie", b"sidecar-error", b"connection", b"content-length", b"transfer-encoding"}


def scanners(data: bytes) -> None:
    """The native scanners read what their references read."""
    if data.endswith(b"\r\n\r\n"):
        for native, reference in _SCANNERS:
            compare(native, reference, data)


def target(data: bytes) -> None:
    """A path that is let pass stays in its place, however it is decoded and whatever is cut from it."""
    if not re.fullmatch(rb"[!-~]+", data):
        return
    try:
        path, _, _ = parse(data)
    except BadRequestError:
        return
    assert path in data or path == b"/"
    assert b"?" not in path
    for _ in range(12):
        assert not re.search(rb"[\x00-\x1f\x7f\\]", path), path
        assert not re.search(rb"[\xc0\xc1]", path), path
        for segment in path.split(b"/"):
            assert segment.split(b";")[0] not in {b".", b".."}, path
        path = unquote_to_bytes(path)


def location(data: bytes) -> None:
    """A Location is a local one only if it was inside the upstream's base; any other stays as it is."""
    origins = frozenset({b"http://origin.test", b"http://origin.test:80"})
    made = localize(data, origins=origins, base_path=b"/base", prefix=b"/op")
    if made == data:
        return
    assert made.startswith(b"/op")
    assert made[3:4] in {b"", b"/", b"?", b"#"}
    assert data.endswith(made[3:])
    assert b"/../" not in made.split(b"?")[0].split(b"#")[0]


def chunks(data: bytes) -> None:
    """A body in any cuts is the same body, and a strict reader's."""
    whole = _decode([data[1:]])
    assert _decode(cut(data)) == whole
    reader = Reader(requests=True, lenient=True)
    try:
        reader.feed(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + data[1:])
    except NotStrictError:
        if not reader.done:
            assert whole is None or not whole[1], "accepted what a strict reader refuses"
    if whole is not None and whole[1]:
        assert reader.done[0].body == whole[0]


def _decode(pieces: list[bytes]) -> tuple[bytes, bool] | None:
    decoder = ChunkedReader()
    body = b""
    try:
        for piece in pieces:
            if decoder.done:
                break
            data, _ = decoder.feed(piece)
            body += b"".join(data)
    except ChunkedError:
        return None
    return (body, True) if decoder.done else (b"", False)


def downstream(data: bytes) -> None:
    """A client's bytes: what goes upstream parses strictly, request by request, with our token and no other."""
    pieces = cut(data)
    raw = b"".join(pieces)
    got = _DOWNSTREAM.play(pieces)
    lenient = Reader(requests=True, lenient=True)
    with suppress(NotStrictError):
        lenient.feed(raw)
    sent = [message for upstream in _DOWNSTREAM.upstreams for message in upstream.reader.done]
    assert len(sent) <= len(lenient.done)
    bodies = [message.body for message in lenient.done]
    for message in sent:
        assert message.values(b"authorization") == [b"Bearer token-1"]
        assert message.values(b"host") == [b"origin.test"]
        assert message.target.startswith((b"/base", b"/low/public"))
        assert message.trailers == []
        assert message.body in bodies
    messages(got, [message.method for message in lenient.done])


def upstream(data: bytes) -> None:
    """An upstream's bytes: what the client gets is strict, and whole only if the answer was."""
    _ANSWER[0] = cut(data)
    raw = b"".join(_ANSWER[0])
    got = _UPSTREAM.play([b"GET /op/x HTTP/1.1\r\nHost: localhost\r\n\r\n"])
    answers, whole = messages(got, [b"GET"])
    final = [answer for answer in answers if answer.status >= 200]
    if not final or not whole or final[0].values(b"sidecar-error"):
        assert len(final) <= 1
        return
    reader = Reader(requests=False, lenient=True)
    reader.methods = [b"GET"]
    with suppress(NotStrictError):
        reader.feed(raw)
        reader.end()
    (expected,) = [message for message in reader.done if message.status >= 200][:1]
    assert (final[0].status, final[0].body) == (expected.status, expected.body)


_ANSWER: list[list[bytes]] = [[]]


def _ok(connection: Upstream, message: Message) -> None:
    connection.receive(OK[:-2] if message.method == b"HEAD" else OK)


def _as_fuzzed(connection: Upstream, _: Message) -> None:
    for piece in _ANSWER[0]:
        connection.receive(piece)
    connection.finish()


_REQUESTS, _RESPONSES = semantics.request_reference([b"x-watched"]), semantics.response_reference()
_SCANNERS = ((scan.request_scanner(_REQUESTS), _REQUESTS), (scan.response_scanner(_RESPONSES), _RESPONSES))
_DOWNSTREAM = Wire(_ok)
_UPSTREAM = Wire(_as_fuzzed)

TARGETS: dict[str, Callable[[bytes], None]] = {
    function.__name__: function
    for function in (request_head, response_head, scanners, target, location, chunks, downstream, upstream)
}
