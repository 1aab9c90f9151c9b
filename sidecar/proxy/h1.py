"""HTTP/1.1 heads (RFC 9112): a strict grammar over complete bytes. Pure: no connection, no settings.

A head is matched whole, by possessive patterns (a naive one is quadratic on hostile input). What is no match is
refused; `_why` only finds words for it. Parsing a line or a field block is a pure function of its bytes, and the same
client sends the same bytes again and again, so callers memoise them (see `memo.py`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from sidecar.errors import BadRequestError, UnsupportedError, UpstreamProtocolError

_TCHAR = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]"
# RFC 9110, 5.5, and stricter than its robustness clause: no control character but HTAB.
_VALUE = rb"[\t\x20-\x7e\x80-\xff]"

_REQUEST_LINE = re.compile(rb"(" + _TCHAR + rb"++) ([!-~]++) HTTP/1\.([01])")
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: (" + _VALUE + rb"*+))?")
_FIELDS = re.compile(rb"(?:" + _TCHAR + rb"++:" + _VALUE + rb"*+\r\n)*+")
_FIELD = re.compile(rb"([^:\r\n]++):[ \t]*+([^\r\n]*+)\r\n")
_HOST = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~-]+)(?::([0-9]{0,5}))?")
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
# A client's own credentials, and what it may not claim of itself.
_NOT_FROM_CLIENTS = frozenset(
    {
        b"authorization",
        b"cookie",
        b"cookie2",
        b"forwarded",
        b"x-real-ip",
        b"x-csrf-token",
        b"operate-x-csrf-token",
        b"tasklist-x-csrf-token",
    }
)
_NOT_FROM_CLIENTS_PREFIXES = (b"proxy-", b"x-forwarded-")
_NOT_FROM_UPSTREAMS = frozenset(
    {b"sidecar-error", b"proxy-authenticate", b"proxy-authentication-info", b"proxy-connection"}
)

Field = tuple[bytes, bytes, bytes]
"""Lower-case name, value without surrounding white space, the whole line as it came."""


@dataclass(frozen=True, slots=True)
class RequestLine:
    """RFC 9112, 3."""

    method: bytes
    target: bytes
    minor: int


@dataclass(frozen=True, slots=True)
class RequestFields:
    """What a request's fields mean to the proxy, and the lines of it that are forwarded."""

    kept: bytes
    """Complete lines, byte for byte as they came: all but hop-by-hop fields and client credentials."""
    values: dict[bytes, bytes]
    """By lower-case name; several lines of one name are joined by `, ` (RFC 9110, 5.3)."""
    host: bytes
    """Lower case, without the port."""
    content_length: int | None
    chunked: bool
    close: bool
    keep_alive: bool
    upgrade: bytes | None
    """`Upgrade`'s value in lower case, where `Connection` names it."""
    expects_continue: bool
    has_request_id: bool


@dataclass(frozen=True, slots=True)
class ResponseFields:
    """What a response's fields mean to the proxy, and the lines of it that are forwarded."""

    kept: bytes
    """Complete lines; without `Location`, `Set-Cookie` and what is hop-by-hop."""
    location: bytes | None
    set_cookie: tuple[bytes, ...]
    content_length: int | None
    chunked: bool
    close: bool
    keep_alive: bool
    upgrade: bytes | None


def request_line(line: bytes) -> RequestLine:
    """Parse a request line, without its CRLF.

    Raises:
        BadRequestError: it is not exactly `method SP target SP HTTP/1.0 or 1.1`.
        UnsupportedError: CONNECT or TRACE.
    """
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        raise BadRequestError(_why_request_line(line))
    method, target, minor = match.groups()
    if method in {b"CONNECT", b"TRACE"}:
        raise UnsupportedError(f"The method {method.decode()} is not served: this sidecar forwards to fixed upstreams.")
    return RequestLine(method, target, minor[0] - 0x30)


def request_fields(block: bytes) -> RequestFields:
    """Parse a request's field lines, each with its CRLF; without the empty line that ends them.

    Raises:
        BadRequestError: a line that is no field, or fields that leave the request's end or host in doubt.
    """
    fields = _split(block, BadRequestError)
    framing = _framing(fields, BadRequestError)
    values: dict[bytes, bytes] = {}
    for name, value, _ in fields:
        values[name] = values[name] + b", " + value if name in values else value
    connection = _connection(fields)
    drop = _HOP_BY_HOP | _NOT_FROM_CLIENTS | connection
    kept = [
        line
        for name, _, line in fields
        if (plain := name.replace(b"_", b"-")) not in drop
        and name not in drop
        and not plain.startswith(_NOT_FROM_CLIENTS_PREFIXES)
    ]
    return RequestFields(
        kept=b"".join(kept),
        values=values,
        host=_only_host(fields),
        content_length=framing[0],
        chunked=framing[1],
        close=b"close" in connection,
        keep_alive=b"keep-alive" in connection,
        upgrade=values.get(b"upgrade", b"").lower() if b"upgrade" in connection else None,
        expects_continue=values.get(b"expect", b"").lower() == b"100-continue",
        has_request_id=b"x-request-id" in values and b"x-request-id" not in connection,
    )


def host_name(authority: bytes) -> bytes | None:
    """The host of `host[:port]` (RFC 3986, 3.2), in lower case; None where it is none, userinfo included."""
    match = _HOST.fullmatch(authority)
    return match[1].lower() if match else None


def status_line(line: bytes) -> tuple[int, int, bytes]:
    """Parse a status line, without its CRLF: the minor version, the status code, the reason.

    Raises:
        UpstreamProtocolError: it is not one of HTTP/1.0 or 1.1.
    """
    match = _STATUS_LINE.fullmatch(line)
    if match is None:
        raise UpstreamProtocolError("The upstream's answer does not begin with an HTTP/1.1 status line.")
    return match[1][0] - 0x30, int(match[2]), match[3] or b""


def response_fields(block: bytes) -> ResponseFields:
    """Parse a response's field lines, each with its CRLF; without the empty line that ends them.

    Raises:
        UpstreamProtocolError: a line that is no field, or fields that leave the response's end in doubt.
    """
    fields = _split(block, UpstreamProtocolError)
    content_length, chunked = _framing(fields, UpstreamProtocolError)
    connection = _connection(fields)
    drop = _HOP_BY_HOP | _NOT_FROM_UPSTREAMS | connection | {b"location", b"set-cookie", b"set-cookie2"}
    locations = [value for name, value, _ in fields if name == b"location"]
    if len(locations) > 1:
        raise UpstreamProtocolError("The upstream's answer has more than one Location.")
    return ResponseFields(
        kept=b"".join(line for name, _, line in fields if name not in drop),
        location=locations[0] if locations else None,
        set_cookie=tuple(value for name, value, _ in fields if name == b"set-cookie"),
        content_length=content_length,
        chunked=chunked,
        close=b"close" in connection,
        keep_alive=b"keep-alive" in connection,
        upgrade=next((value.lower() for name, value, _ in fields if name == b"upgrade"), None),
    )


def early_fault(partial: bytes, start: int = 0) -> str | None:
    """Words for why a request's head, still incomplete, can never become one; None while it still can.

    Bytes before `start` were looked at before. Without this a client that ends its lines with LF alone, or speaks TLS
    to this port, would wait for the time limit.
    """
    if _BARE_LINE_ENDING.search(partial, max(0, start - 1)):
        return "A line of the request's head ends with a bare CR or LF."
    if partial and not re.match(_TCHAR, partial[:1]):
        return "The request does not begin with a method (was TLS spoken to a plain HTTP port?)."
    return None


_Error = type[BadRequestError] | type[UpstreamProtocolError]


def _split(block: bytes, error: _Error) -> list[Field]:
    if _FIELDS.fullmatch(block) is None:
        raise error(_why_fields(block))
    return [(match[1].lower(), match[2].rstrip(b" \t"), match[0]) for match in _FIELD.finditer(block)]


def _framing(fields: list[Field], error: _Error) -> tuple[int | None, bool]:
    """RFC 9112, 6.3, less everything that two parsers could read in two ways."""
    lengths = [value for name, value, _ in fields if name == b"content-length"]
    codings = [value for name, value, _ in fields if name == b"transfer-encoding"]
    if codings:
        if lengths:
            raise error("The message has both Content-Length and Transfer-Encoding.")
        if len(codings) > 1 or codings[0].lower() != b"chunked":
            raise error("The only transfer coding that is understood is a single `chunked`.")
        return None, True
    if not lengths:
        return None, False
    if len(lengths) > 1:
        raise error("The message has more than one Content-Length.")
    if not lengths[0].isdigit() or len(lengths[0]) > _MAX_LENGTH_DIGITS:
        raise error("Content-Length is not a decimal number of a sensible size.")
    return int(lengths[0]), False


def _connection(fields: list[Field]) -> frozenset[bytes]:
    """The options that `Connection` names, in lower case."""
    value = b",".join(value for name, value, _ in fields if name == b"connection").lower()
    return frozenset(option.strip(b" \t") for option in value.split(b",")) - {b""}


def _only_host(fields: list[Field]) -> bytes:
    hosts = [value for name, value, _ in fields if name == b"host"]
    if len(hosts) != 1:
        raise BadRequestError("A request has exactly one Host; this one has " + ("none." if not hosts else "several."))
    host = host_name(hosts[0])
    if host is None:
        raise BadRequestError("Host is not a name or address with an optional port.")
    return host


def _why_request_line(line: bytes) -> str:
    if b"\n" in line or b"\r" in line:
        return "The request line ends with a bare CR or LF."
    parts = line.split(b" ")
    if len(parts) != 3:  # noqa: PLR2004 (method, target, version)
        return "The request line is not exactly three parts with one space between them."
    if re.fullmatch(rb"HTTP/1\.[01]", parts[2]) is None:
        return "The version is neither HTTP/1.1 nor HTTP/1.0."
    return "The request line has a character that a method or a target must not have."


def _why_fields(block: bytes) -> str:
    if b"\0" in block:
        return "A field line has a NUL."
    if _BARE_LINE_ENDING.search(block):
        return "A field line ends with a bare CR or LF."
    if block.startswith((b" ", b"\t")) or b"\r\n " in block or b"\r\n\t" in block:
        return "A field line is folded (obsolete since RFC 7230)."
    if re.search(rb"(?:^|\n)[^:\n]*[ \t]:", block):
        return "A field line has white space before its colon."
    return "A field line is not `name: value` with a token for a name and no control characters."
