"""What the fields of a message mean to a proxy (RFC 9110): which pass, and what the others say. Everything is pure.

The proxy reads few fields. Every other field passes or goes by its name alone, whatever its value; so what the fields
of a message mean is a function of these few lines, which are the same from message to message and can be remembered.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from sidecar.errors import BadRequestError, UpstreamProtocolError
from sidecar.proxy import h1, scan
from sidecar.proxy.memo import Memo
from sidecar.proxy.pool import MAX_IDLE_SECONDS
from sidecar.proxy.target import host_name

# --- methods (RFC 9110, 9) -------------------------------------------------------------------------------------------

_SAFE = frozenset({b"GET", b"HEAD", b"OPTIONS"})  # TRACE is not served
_IDEMPOTENT = _SAFE | {b"PUT", b"DELETE"}
_KNOWN = _IDEMPOTENT | {b"POST", b"PATCH"}


@dataclass(eq=False)
class Method:
    """A request method, with its properties (RFC 9110, 9.2)."""

    name: bytes
    label: str
    """The name of a known method, else `other`: a metric's label takes no value that a client invents."""
    safe: bool
    idempotent: bool
    is_head: bool


def _method(name: bytes) -> Method:
    label = name.decode("ascii") if name in _KNOWN else "other"
    return Method(name, label, safe=name in _SAFE, idempotent=name in _IDEMPOTENT, is_head=name == b"HEAD")


methods = Memo(_method)
"""The methods by name."""

# --- which fields pass -----------------------------------------------------------------------------------------------

_HOP_BY_HOP = {
    *(b"connection", b"http2-settings", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade"),
    # These are not hop-by-hop, but made anew here from what was understood.
    *(b"content-length", b"host"),
}
_NOT_FROM_CLIENTS = {
    # A client's own credentials, and what it may not claim of itself.
    *(b"authorization", b"cookie", b"cookie2", b"forwarded", b"x-forwarded", b"x-real-ip"),
    *(b"x-csrf-token", b"operate-x-csrf-token", b"tasklist-x-csrf-token"),
    # What some frameworks take for the method instead of the request line's, which `allow` has judged.
    *(b"x-http-method", b"x-http-method-override", b"x-method-override", b"x-original-method"),
    # What some take for the path: IIS' rewriting, Symfony and Zend after it, Envoy, ingress controllers.
    *(b"x-original-path", b"x-original-uri", b"x-original-url", b"x-rewrite-path", b"x-rewrite-uri", b"x-rewrite-url"),
    *(b"x-real-uri", b"x-real-url", b"x-request-uri", b"x-request-url", b"x-override-url", b"x-envoy-original-path"),
    *(b"x-http-destinationurl", b"x-script-name", b"x-waws-unencoded-url"),
    # What some take for the host, which may select a tenant.
    *(b"x-host", b"x-http-host-override", b"x-original-host", b"x-real-host", b"x-envoy-original-host"),
}
_NOT_FROM_CLIENTS_PREFIXES = (b"proxy-", b"x-forwarded-")
_NOT_FROM_UPSTREAMS = {b"sidecar-error", b"proxy-authenticate", b"proxy-authentication-info", b"proxy-connection"}
_NOT_FORWARDED = _HOP_BY_HOP | _NOT_FROM_CLIENTS
_NOT_RETURNED = _HOP_BY_HOP | _NOT_FROM_UPSTREAMS | {b"location", b"set-cookie", b"set-cookie2"}
# Many servers make variables of names, with one character for all that are no letter and no digit: X_Forwarded_For
# and X.Forwarded.For must not say what X-Forwarded-For may not.
_SPELLING = bytes(c if bytes((c,)).isalnum() else 0x2D for c in range(256))

_READ_OF_REQUESTS = frozenset(
    {b"connection", b"content-length", b"host", b"origin", b"sec-fetch-site", b"transfer-encoding", b"upgrade"}
)
_READ_OF_RESPONSES = frozenset(
    {b"connection", b"content-length", b"keep-alive", b"location", b"set-cookie", b"transfer-encoding", b"upgrade"}
)
_REQUEST_ID = b"x-request-id"
# What is no longer and has no space is safe to repeat in a log line and in a response; any other is replaced by ours.
_LONGEST_ID = 200
_REQUEST_ID_LINE = re.compile(rb"^x-request-id:[ \t]*+([!-~]++)", re.IGNORECASE | re.MULTILINE)


def is_forwarded(name: bytes) -> bool:
    """Tell whether a client's field of this name (lower case) reaches the upstream."""
    plain = name.translate(_SPELLING)
    return plain not in _NOT_FORWARDED and not plain.startswith(_NOT_FROM_CLIENTS_PREFIXES)


def is_returned(name: bytes) -> bool:
    """Tell whether an upstream's field of this name (lower case) reaches the client."""
    return name not in _NOT_RETURNED


def request_reference(watched: Iterable[bytes] = ()) -> scan.RequestReference:
    """Return what takes requests' heads apart; `watched` (lower case) are more names whose values are read."""
    read = _READ_OF_REQUESTS.union(watched)

    def rule(spelled: bytes) -> h1.FieldRule:
        name = spelled.lower()
        if name == _REQUEST_ID:
            # It only matters that there is one; with its value, no head would ever be found in a memory.
            return True, name + b":", name in read, _LONGEST_ID
        return is_forwarded(name), name + b":" if name in read else b"", True, 0

    names = _NOT_FORWARDED | read | {_REQUEST_ID}
    return scan.RequestReference(h1.FieldReader(rule, BadRequestError), names, _NOT_FROM_CLIENTS_PREFIXES)


def response_reference() -> scan.ResponseReference:
    """Return what takes responses' heads apart."""

    def rule(spelled: bytes) -> h1.FieldRule:
        name = spelled.lower()
        read = name in _READ_OF_RESPONSES or name == _REQUEST_ID
        return is_returned(name), name + b":" if read else b"", name != _REQUEST_ID, 0

    names = _NOT_RETURNED | _READ_OF_RESPONSES | {_REQUEST_ID}
    return scan.ResponseReference(h1.FieldReader(rule, UpstreamProtocolError), names)


def field_values(head: bytes, name: bytes) -> list[bytes]:
    """Return the values of all field lines of a head that was read; `name` is in lower case. It costs a search."""
    lines = (line.partition(b":") for line in head.split(b"\r\n")[1:])
    return [value.strip(b" \t") for spelled, _, value in lines if spelled.lower() == name]


def request_id(lines: bytes) -> str:
    """Return the value of the `X-Request-ID` line among complete field lines; it has to be there."""
    match = _REQUEST_ID_LINE.search(lines)
    assert match is not None
    return match[1].decode("ascii")


# --- what they say together ------------------------------------------------------------------------------------------

# How a response's body ends (RFC 9112, 6.3).
EMPTY: Final = 0
LENGTH: Final = 1
CHUNKED: Final = 2
UNTIL_CLOSE: Final = 3

_OK, _NO_CONTENT = 200, 204
_NO_BODY = frozenset({204, 304})
_MAX_LENGTH_DIGITS = 18  # what every upstream's signed 64 bits can hold
_KEEP_ALIVE_TIMEOUT = re.compile(rb"(?:^|,)[ \t]*+timeout[ \t]*+=[ \t]*+\"?([0-9]{1,9})", re.IGNORECASE)
_PERSISTENCE = frozenset({b"close", b"keep-alive"})
_ONE_CODING = "The only transfer coding that is understood is a single `chunked`."
_SINGLE = {
    b"content-length": "The message has more than one Content-Length.",
    b"host": "A request has exactly one Host; this one has several.",
    b"location": "The message has more than one Location.",
    b"transfer-encoding": _ONE_CODING,
}


@dataclass(eq=False)
class RequestFields:
    """What a request's fields mean. Requests that differ only in fields that are not read share it."""

    values: dict[bytes, bytes]
    """The values that are read, by lower-case name; several lines of one name are joined (RFC 9110, 5.3)."""
    host: bytes
    """Lower case, without the port."""
    chunked: bool
    length: int
    """The body's length in bytes; 0 without a body, and for a chunked one."""
    keep_alive: bool
    """Whether the client keeps its connection open."""
    upgrade: bool
    """Whether it is a WebSocket handshake (RFC 6455, 4.1)."""
    needs_id: bool
    """Whether it has no `X-Request-ID` that can be used, so that one is made."""
    hop_by_hop: frozenset[bytes]
    """The names in `Connection` besides persistence, which are not forwarded either (RFC 9110, 7.6.1)."""
    made: bytes
    """The field lines for the upstream that are made anew from what was understood."""


@dataclass(eq=False)
class ResponseFields:
    """What a response's status line and fields mean. Responses that differ only in other fields share it."""

    status: int
    line: bytes
    """The status line for the client, with its CRLF."""
    location: bytes | None
    set_cookie: tuple[bytes, ...]
    upgrade: bytes | None
    """The value of `Upgrade` in lower case."""
    ends: int
    """EMPTY, LENGTH, CHUNKED or UNTIL_CLOSE; a response to HEAD is always empty."""
    length: int
    """The body's length in bytes, where it ends by LENGTH."""
    idle_seconds: float
    """For how many seconds the upstream's connection may be kept for another request; 0: not at all."""
    hop_by_hop: frozenset[bytes]
    """The names in `Connection` besides persistence."""
    made: bytes
    """The field line with the length, for the client; empty without a length."""
    has_id: bool
    """Whether it has an `X-Request-ID` of its own."""


def request_fields(read: bytes, minor: int = 1) -> RequestFields:
    """Return what the lines that `request_reference` found mean together, in HTTP/1.`minor`.

    Raises:
        BadRequestError: they leave the request's end or its host in doubt.
    """
    values = _values(read, BadRequestError)
    if b"host" not in values:
        raise BadRequestError("A request has exactly one Host; this one has none.")
    host = host_name(values[b"host"])
    if host is None:
        raise BadRequestError("Host is not a name or address with an optional port.")
    length, chunked = _framing(values, minor, BadRequestError)
    connection = _options(values)
    websocket = minor == 1 and b"upgrade" in connection and values.get(b"upgrade", b"").lower() == b"websocket"
    upgrade = websocket and not (length or chunked)
    if b", " in values.get(_REQUEST_ID, b""):
        # Nobody knows which of several counts: they are all removed, as if `Connection` named them.
        connection |= {_REQUEST_ID}
    if upgrade:
        made = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
    elif chunked:
        made = b"Transfer-Encoding: chunked\r\n"
    else:
        made = b"Content-Length: %d\r\n" % length if length is not None else b""
    return RequestFields(
        values=values,
        host=host,
        chunked=chunked,
        length=length or 0,
        keep_alive=b"close" not in connection and (minor == 1 or b"keep-alive" in connection),
        upgrade=upgrade,
        needs_id=_REQUEST_ID not in values or _REQUEST_ID in connection,
        hop_by_hop=connection - _PERSISTENCE,
        made=made,
    )


def response_fields(lines: bytes) -> ResponseFields:
    """Return what the status line and the lines that `response_reference` found mean together.

    Raises:
        UpstreamProtocolError: they leave the response's end in doubt.
    """
    line, _, read = lines.partition(b"\r\n")
    minor, status, reason = h1.status_line(line)
    values = _values(read, UpstreamProtocolError)
    length, chunked = _framing(values, minor, UpstreamProtocolError)
    connection = _options(values)
    return ResponseFields(
        status=status,
        line=b"HTTP/1.1 %d %b\r\n" % (status, reason),
        location=values.get(b"location"),
        set_cookie=tuple(value for name, value in _pairs(read) if name == b"set-cookie"),
        upgrade=values[b"upgrade"].lower() if b"upgrade" in values else None,
        ends=_ends(status, length, chunked=chunked),
        length=length or 0,
        idle_seconds=_idle_seconds(values, connection, minor),
        hop_by_hop=connection - _PERSISTENCE,
        # A 204 has no length (RFC 9110, 8.6).
        made=b"Content-Length: %d\r\n" % length if length is not None and status != _NO_CONTENT else b"",
        has_id=_REQUEST_ID in values and _REQUEST_ID not in connection,
    )


def _idle_seconds(values: dict[bytes, bytes], connection: frozenset[bytes], minor: int) -> float:
    """Return how long the connection may be kept (RFC 9112, 9.3), by `Keep-Alive: timeout=` too (RFC 2068, 19.7.1).

    The server's time began when it sent the response, and a request is on its way for a while: so it is a second less,
    or half of a short time. Else a POST, which is not sent twice, would meet a connection that is just being closed.
    """
    if b"close" in connection or not (minor or b"keep-alive" in connection):
        return 0.0
    match = _KEEP_ALIVE_TIMEOUT.search(values.get(b"keep-alive", b""))
    if match is None:
        return MAX_IDLE_SECONDS
    timeout = int(match[1])
    return min(MAX_IDLE_SECONDS, max(timeout - 1.0, timeout / 2))


def _ends(status: int, length: int | None, *, chunked: bool) -> int:
    """Return how the body ends.

    Raises:
        UpstreamProtocolError: a body is announced where there is none.
    """
    if status < _OK:
        if chunked or length is not None:
            raise UpstreamProtocolError("The upstream sent a 1xx answer with a body.")
        return EMPTY
    if status == _NO_CONTENT and (chunked or length):
        raise UpstreamProtocolError("The upstream's 204 answer announces a body.")
    if status in _NO_BODY:
        return EMPTY
    if chunked:
        return CHUNKED
    return UNTIL_CLOSE if length is None else LENGTH


def _pairs(read: bytes) -> Iterator[tuple[bytes, bytes]]:
    for line in read.split(b"\r\n")[:-1]:
        name, _, value = line.partition(b":")
        yield name, value


def _values(read: bytes, error: h1.Error) -> dict[bytes, bytes]:
    """Return the values by name; several lines of one name are one list (RFC 9110, 5.3), if they may be."""
    values: dict[bytes, bytes] = {}
    for name, value in _pairs(read):
        if name in values and name in _SINGLE:
            raise error(_SINGLE[name])
        values[name] = values[name] + b", " + value if name in values else value
    return values


def _framing(values: dict[bytes, bytes], minor: int, error: h1.Error) -> tuple[int | None, bool]:
    """Return the length, and whether the body is chunked: RFC 9112, 6.3, without what can be read in two ways."""
    length = values.get(b"content-length")
    if b"transfer-encoding" in values:
        if length is not None:
            raise error("The message has both Content-Length and Transfer-Encoding.")
        if values[b"transfer-encoding"].lower() != b"chunked":
            raise error(_ONE_CODING)
        if not minor:
            raise error("A transfer coding does not exist in HTTP/1.0.")
        return None, True
    if length is None:
        return None, False
    if not length.isdigit() or len(length) > _MAX_LENGTH_DIGITS:
        raise error("Content-Length is not a decimal number of a sensible size.")
    return int(length), False


def _options(values: dict[bytes, bytes]) -> frozenset[bytes]:
    """Return the names in `Connection`, in lower case."""
    return frozenset(option.strip(b" \t") for option in values.get(b"connection", b"").lower().split(b",")) - {b""}
