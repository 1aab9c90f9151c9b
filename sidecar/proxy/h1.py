"""HTTP/1.1 heads (RFC 9112): a strict grammar over complete bytes. Pure: no connection, no settings.

Lines are matched whole, by possessive patterns (a naive one is quadratic on hostile input). What is no match is
refused; `_why_…` only finds words for it. Parsing a line is a pure function of its bytes, and the same peers send the
same lines again and again, so they are memoised.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from sidecar.errors import BadRequestError, UnsupportedError, UpstreamProtocolError
from sidecar.proxy.memo import Memo
from sidecar.proxy.target import PLAIN_PATH, host_name

_TCHAR = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]"
# RFC 9110, 5.5, and stricter than its robustness clause: no control character but HTAB.
_VALUE = rb"[\t\x20-\x7e\x80-\xff]"
_FIELD = re.compile(rb"(" + _TCHAR + rb"++):(" + _VALUE + rb"*+)")

# Nearly every target is a plain path; one pattern says so in passing.
_TARGET = rb"(?:(?=/)(" + PLAIN_PATH + rb")(\?[!\"$-~]*+)?+|[!-~]++)"
_REQUEST_LINE = re.compile(rb"(" + _TCHAR + rb"++) (" + _TARGET + rb") HTTP/1\.([01])")
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: (" + _VALUE + rb"*+))?")
_BARE_LINE_ENDING = re.compile(rb"(?<!\r)\n|\r[^\n]")
_MAX_LENGTH_DIGITS = 18  # what every upstream's signed 64 bits can hold

SAFE_METHODS = frozenset({b"GET", b"HEAD", b"OPTIONS"})
"""RFC 9110, 9.2.1; TRACE is not served."""
IDEMPOTENT_METHODS = SAFE_METHODS | {b"PUT", b"DELETE"}
"""RFC 9110, 9.2.2."""

_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"http2-settings",
        b"keep-alive",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        # Not hop-by-hop, but made anew here from what was understood:
        b"content-length",
        b"host",
    }
)
_NOT_FROM_CLIENTS = frozenset(
    {
        # A client's own credentials, and what it may not claim of itself.
        b"authorization",
        b"cookie",
        b"cookie2",
        b"forwarded",
        b"x-forwarded",
        b"x-real-ip",
        b"x-csrf-token",
        b"operate-x-csrf-token",
        b"tasklist-x-csrf-token",
        # What some frameworks take for the method instead of the request line's (`allow` has judged that one).
        b"x-http-method",
        b"x-http-method-override",
        b"x-method-override",
        b"x-original-method",
        # What some take for the path: IIS' rewriting, Symfony and Zend after it, Envoy, ingress controllers.
        b"x-envoy-original-path",
        b"x-http-destinationurl",
        b"x-original-path",
        b"x-original-uri",
        b"x-original-url",
        b"x-override-url",
        b"x-real-uri",
        b"x-real-url",
        b"x-request-uri",
        b"x-request-url",
        b"x-rewrite-path",
        b"x-rewrite-uri",
        b"x-rewrite-url",
        b"x-script-name",
        b"x-waws-unencoded-url",
        # What some take for the host, which may select a tenant.
        b"x-envoy-original-host",
        b"x-host",
        b"x-http-host-override",
        b"x-original-host",
        b"x-real-host",
    }
)
_NOT_FROM_CLIENTS_PREFIXES = (b"proxy-", b"x-forwarded-")
# Many servers make variables of names, with one character for all that are no letter and no digit: X_Forwarded_For
# and X.Forwarded.For must not say what X-Forwarded-For may not.
_SPELLING = bytes(c if bytes((c,)).isalnum() else 0x2D for c in range(256))

_NOT_FROM_UPSTREAMS = frozenset(
    {b"sidecar-error", b"proxy-authenticate", b"proxy-authentication-info", b"proxy-connection"}
)
_NOT_FORWARDED = _HOP_BY_HOP | _NOT_FROM_CLIENTS
_NOT_RETURNED = _HOP_BY_HOP | _NOT_FROM_UPSTREAMS | {b"location", b"set-cookie", b"set-cookie2"}
_ONE_CODING = "The only transfer coding that is understood is a single `chunked`."
_SINGLE = {
    b"content-length": "The message has more than one Content-Length.",
    b"host": "A request has exactly one Host; this one has several.",
    b"location": "The message has more than one Location.",
    b"transfer-encoding": _ONE_CODING,
}
_PERSISTENCE = frozenset({b"close", b"keep-alive"})

# What the proxy goes by. Everything else is forwarded or dropped by its name alone, whatever it says; so all that the
# fields of a message mean is a function of these few lines, and those are the same from request to request.
_READ_OF_REQUESTS = frozenset(
    {b"connection", b"content-length", b"host", b"origin", b"sec-fetch-site", b"transfer-encoding", b"upgrade"}
)
_READ_OF_RESPONSES = frozenset(
    {b"connection", b"content-length", b"keep-alive", b"location", b"set-cookie", b"transfer-encoding", b"upgrade"}
)
_KEEP_ALIVE_TIMEOUT = re.compile(rb"(?:^|,)[ \t]*+timeout[ \t]*+=[ \t]*+\"?([0-9]{1,9})", re.IGNORECASE)
_REQUEST_ID = b"x-request-id"
_REQUEST_ID_KEY = _REQUEST_ID + b":"
# What is safe to repeat in a log line and in an answer; any other is replaced by one of our own.
_REQUEST_ID_VALUE = re.compile(rb"[!-~]{1,200}")
_REQUEST_ID_LINE = re.compile(rb"^x-request-id:[ \t]*+([!-~]++)", re.IGNORECASE | re.MULTILINE)


RequestLine = tuple[bytes, bytes, int, bytes | None, bytes]
"""RFC 9112, 3: method, target, minor version; and where the target is a plain path, that and its query with its `?`."""


@dataclass(eq=False)
class RequestFields:
    """What a request's fields mean to the proxy."""

    values: dict[bytes, bytes]
    """Of the fields that are read here, by lower-case name; several lines of one are joined (RFC 9110, 5.3)."""
    host: bytes
    """Lower case, without the port."""
    content_length: int | None
    chunked: bool
    close: bool
    keep_alive: bool
    upgrade: bytes | None
    """`Upgrade`'s value in lower case, where `Connection` names it."""
    has_request_id: bool
    hop_by_hop: frozenset[bytes]
    """What `Connection` names besides persistence: not forwarded either (RFC 9110, 7.6.1)."""


@dataclass(eq=False)
class ResponseFields:
    """What a response's fields mean to the proxy."""

    location: bytes | None
    set_cookie: tuple[bytes, ...]
    content_length: int | None
    chunked: bool
    close: bool
    keep_alive: bool
    keep_alive_timeout: int | None
    """Seconds after which the server closes the connection when nothing comes, where it says so."""
    upgrade: bytes | None
    hop_by_hop: frozenset[bytes]
    """See `RequestFields`."""


def request_line(line: bytes) -> RequestLine:
    """Parse a request line, without its CRLF.

    Raises:
        BadRequestError: it is not exactly `method SP target SP HTTP/1.0 or 1.1`.
        UnsupportedError: CONNECT or TRACE.
    """
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        raise BadRequestError(_why_request_line(line))
    method, target, path, query, minor = match.groups()
    if method in {b"CONNECT", b"TRACE"}:
        raise UnsupportedError(f"The method {method.decode()} is not served: this sidecar forwards to fixed upstreams.")
    return method, target, minor[0] - 0x30, path, query or b""


class FieldReader:
    """Takes field lines apart: what is forwarded as it came, and what is read.

    Lines are memoised, and names: most lines of a head were seen before, and of those that were not (a trace id, a
    date) the name was.
    """

    __slots__ = ("_lines", "_names", "_refuse")

    def __init__(self, name: Callable[[bytes], Name], refuse: _Error) -> None:
        """`name` says what a field name means; `refuse` is what is raised for a line that is no field."""
        self._names = Memo(name)
        self._lines = Memo(self._line)
        self._refuse = refuse

    def read(self, block: bytes) -> tuple[bytes, bytes]:
        """The lines to forward, as far as it can be told without `Connection`, and the lines that mean something.

        Args:
            block: complete lines, each with its CRLF; without the empty one that ends them.

        Raises:
            BadRequestError, UpstreamProtocolError: a line is no field.
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
        """Whether it is forwarded, and the line that is read of it; None where it is forwarded and means nothing."""
        match = _FIELD.fullmatch(line)
        if match is None:
            raise self._refuse(_why_field(line))
        name, value = match.groups()
        forwarded, key, by_value = self._names[name]
        if key == _REQUEST_ID_KEY and _REQUEST_ID_VALUE.fullmatch(value.strip(b" \t")) is None:
            return False, b""
        if key:
            return forwarded, key + (value.strip(b" \t") if by_value else b"") + b"\r\n"
        return None if forwarded else (False, b"")


def request_id(lines: bytes) -> str:
    """The value of the `X-Request-ID` line among complete field lines, which has to be there."""
    match = _REQUEST_ID_LINE.search(lines)
    assert match is not None
    return match[1].decode("ascii")


def without(lines: bytes, names: frozenset[bytes]) -> bytes:
    """Complete field lines, less those of `names` (lower case)."""
    return b"\r\n".join(line for line in lines.split(b"\r\n") if line.partition(b":")[0].lower() not in names)


def is_forwarded(name: bytes) -> bool:
    """Whether a client's field of this name (lower case) reaches the upstream."""
    plain = name.translate(_SPELLING)
    return plain not in _NOT_FORWARDED and not plain.startswith(_NOT_FROM_CLIENTS_PREFIXES)


def is_returned(name: bytes) -> bool:
    """Whether an upstream's field of this name (lower case) reaches the client."""
    return name not in _NOT_RETURNED


Name = tuple[bool, bytes, bool]
"""Whether fields of this name are forwarded; `name:` in lower case where they are read; whether with their value."""
_Error = type[BadRequestError] | type[UpstreamProtocolError]


def request_reader(watched: Iterable[bytes] = ()) -> FieldReader:
    """For requests; `watched` (lower case) are more names whose values are read."""
    read = _READ_OF_REQUESTS.union(watched)

    def name(spelled: bytes) -> Name:
        lower = spelled.lower()
        if lower == _REQUEST_ID:
            # It only matters that there is one; its value would make every head another one to the memories.
            return True, _REQUEST_ID_KEY, lower in read
        return is_forwarded(lower), lower + b":" if lower in read else b"", True

    return FieldReader(name, BadRequestError)


def response_reader() -> FieldReader:
    """For responses."""

    def name(spelled: bytes) -> Name:
        lower = spelled.lower()
        return is_returned(lower), lower + b":" if lower in _READ_OF_RESPONSES else b"", True

    return FieldReader(name, UpstreamProtocolError)


def request_fields(read: bytes) -> RequestFields:
    """What the lines that `FieldReader.read` found worth reading say together.

    Raises:
        BadRequestError: they leave the request's end or its host in doubt.
    """
    values = _values(read, BadRequestError)
    if b"host" not in values:
        raise BadRequestError("A request has exactly one Host; this one has none.")
    host = host_name(values[b"host"])
    if host is None:
        raise BadRequestError("Host is not a name or address with an optional port.")
    content_length, chunked = _framing(values, BadRequestError)
    connection = _options(values.get(b"connection", b""))
    if b", " in values.get(_REQUEST_ID, b""):
        # Of several nobody knows which one counts: they go, as if `Connection` named them.
        connection |= {_REQUEST_ID}
    return RequestFields(
        values=values,
        host=host,
        content_length=content_length,
        chunked=chunked,
        close=b"close" in connection,
        keep_alive=b"keep-alive" in connection,
        upgrade=values.get(b"upgrade", b"").lower() if b"upgrade" in connection else None,
        has_request_id=_REQUEST_ID in values and _REQUEST_ID not in connection,
        hop_by_hop=connection - _PERSISTENCE,
    )


def status_line(line: bytes) -> tuple[int, int, bytes]:
    """Parse a status line, without its CRLF: the minor version, the status code, the reason.

    Raises:
        UpstreamProtocolError: it is not one of HTTP/1.0 or 1.1.
    """
    match = _STATUS_LINE.fullmatch(line)
    if match is None:
        raise UpstreamProtocolError("The upstream's answer does not begin with an HTTP/1.1 status line.")
    return match[1][0] - 0x30, int(match[2]), match[3] or b""


def response_fields(read: bytes) -> ResponseFields:
    """What the lines that `FieldReader.read` found worth reading say together.

    Raises:
        UpstreamProtocolError: they leave the response's end in doubt.
    """
    values = _values(read, UpstreamProtocolError)
    content_length, chunked = _framing(values, UpstreamProtocolError)
    connection = _options(values.get(b"connection", b""))
    upgrade = values.get(b"upgrade")
    timeout = _KEEP_ALIVE_TIMEOUT.search(values.get(b"keep-alive", b""))
    return ResponseFields(
        location=values.get(b"location"),
        set_cookie=tuple(value for name, value in _pairs(read) if name == b"set-cookie"),
        content_length=content_length,
        chunked=chunked,
        close=b"close" in connection,
        keep_alive=b"keep-alive" in connection,
        keep_alive_timeout=int(timeout[1]) if timeout is not None else None,
        upgrade=upgrade.lower() if upgrade is not None else None,
        hop_by_hop=connection - _PERSISTENCE,
    )


def early_fault(partial: bytes | bytearray, start: int = 0) -> str | None:
    """Words for why a request's head, still incomplete, can never become one; None while it still can.

    Bytes before `start` were looked at before. Without this a client that ends its lines with LF alone, or speaks TLS
    to this port, would wait for the time limit.
    """
    if _BARE_LINE_ENDING.search(partial, max(0, start - 1)):
        return "A line of the request's head ends with a bare CR or LF."
    if partial and not re.match(_TCHAR, partial[:1]):
        return "The request does not begin with a method (was TLS spoken to a plain HTTP port?)."
    return None


def _pairs(read: bytes) -> Iterator[tuple[bytes, bytes]]:
    for line in read.split(b"\r\n")[:-1]:
        name, _, value = line.partition(b":")
        yield name, value


def _values(read: bytes, error: _Error) -> dict[bytes, bytes]:
    """By name; several lines of one are one list (RFC 9110, 5.3), but for those that must not be."""
    values: dict[bytes, bytes] = {}
    for name, value in _pairs(read):
        if name in values and name in _SINGLE:
            raise error(_SINGLE[name])
        values[name] = values[name] + b", " + value if name in values else value
    return values


def _framing(values: dict[bytes, bytes], error: _Error) -> tuple[int | None, bool]:
    """RFC 9112, 6.3, less everything that two parsers could read in two ways."""
    length = values.get(b"content-length")
    if b"transfer-encoding" in values:
        if length is not None:
            raise error("The message has both Content-Length and Transfer-Encoding.")
        if values[b"transfer-encoding"].lower() != b"chunked":
            raise error(_ONE_CODING)
        return None, True
    if length is None:
        return None, False
    if not length.isdigit() or len(length) > _MAX_LENGTH_DIGITS:
        raise error("Content-Length is not a decimal number of a sensible size.")
    return int(length), False


def _options(connection: bytes) -> frozenset[bytes]:
    """The options that `Connection` names, in lower case."""
    return frozenset(option.strip(b" \t") for option in connection.lower().split(b",")) - {b""}


def _why_request_line(line: bytes) -> str:
    if b"\n" in line or b"\r" in line:
        return "The request line ends with a bare CR or LF."
    if line == b"PRI * HTTP/2.0":  # RFC 9113, 3.4
        return (
            "This port speaks HTTP/1.1, and this client began with HTTP/2, as gRPC clients do. Set its REST address "
            "(CAMUNDA_REST_ADDRESS or ZEEBE_REST_ADDRESS) to this port and have it prefer REST over gRPC."
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
