"""Request targets: which are safe to forward, and which route they belong to. Everything here is pure.

A path is matched and forwarded as raw bytes. A path that any upstream could read as leaving its place is refused:
servlet containers cut `;parameters`, some servers decode twice, some take a backslash for a slash.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, TypeVar

from sidecar.errors import BadRequestError

_SLASH = 0x2F
_MAX_ROUNDS = 8
_MALFORMED_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")
_CONTROL_OR_BACKSLASH = re.compile(rb"[\x00-\x1f\x7f\\]")
# These bytes never occur in UTF-8, or begin its overlong forms (RFC 3629, 3): `%c0%ae` is a dot to a lenient decoder.
_OVERLONG = re.compile(rb"[\xc0\xc1\xf5-\xff]|\xe0[\x80-\x9f]|\xf0[\x80-\x8f]")
_PARAMETERS = re.compile(rb";[^/]*")
_DOT_SEGMENT = re.compile(rb"(?:^|/)\.\.?(?:/|$)")
# With RFC 3986's characters alone, no escape, and no segment that begins with a dot, there is one reading.
SEGMENT_START: Final[bytes] = rb"[A-Za-z0-9_~!$&'()*+,=:@-]"
SEGMENT: Final[bytes] = rb"[A-Za-z0-9_~!$&'()*+,=:@.-]"
PLAIN_PATH = rb"(?:/" + SEGMENT_START + SEGMENT + rb"*+)*+/?+"
_PLAIN = re.compile(PLAIN_PATH)
_HOST = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~-]+)(?::([0-9]{0,5}))?")


def parse(target: bytes) -> tuple[bytes, bytes, bytes | None]:
    """Take an origin-form, absolute-form or asterisk-form target apart (RFC 9112, 3.2), and refuse an unsafe path.

    The path, the query with its question mark, and the authority are returned as they came. An absolute-form target has
    an authority; it takes the place of `Host`.

    Raises:
        BadRequestError: the target has another form, a fragment, or a path that could be read as leaving its place.
    """
    authority: bytes | None = None
    if b"#" in target:
        raise BadRequestError("A request target has no fragment.")
    if not target.startswith(b"/") and target != b"*":
        authority, target = _absolute(target)
    path, question, query = target.partition(b"?")
    if _PLAIN.fullmatch(path) is None:
        check_path(path)
    return path, question + query, authority


def _absolute(target: bytes) -> tuple[bytes, bytes]:
    scheme, separator, rest = target.partition(b"://")
    if not separator or scheme.lower() != b"http":
        raise BadRequestError("The request target is neither a path nor an http URL.")
    split = min((index for index in (rest.find(b"/"), rest.find(b"?")) if index >= 0), default=len(rest))
    authority, path = rest[:split], rest[split:]
    if host_name(authority) is None:
        raise BadRequestError("The request target's authority is not a name or address with an optional port.")
    return authority, path if path.startswith(b"/") else b"/" + path


def host_name(authority: bytes) -> bytes | None:
    """Return the host of `host[:port]` (RFC 3986, 3.2) in lower case; None for anything else, userinfo included."""
    match = _HOST.fullmatch(authority)
    return match[1].lower() if match else None


def check_path(path: bytes) -> None:
    """Refuse a path that any upstream could read as leaving its place, however often it decodes.

    Raises:
        BadRequestError: the detail says what is wrong with the path.
    """
    if _MALFORMED_ESCAPE.search(path):
        raise BadRequestError("The path has a malformed percent-escape.")
    for reading in _readings(path):
        if _CONTROL_OR_BACKSLASH.search(reading):
            raise BadRequestError("The path has a control character or a backslash, plain or escaped.")
        if _OVERLONG.search(reading):
            raise BadRequestError("The path has an overlong or impossible UTF-8 escape.")
        if _DOT_SEGMENT.search(_PARAMETERS.sub(b"", reading)):
            raise BadRequestError("The path has a `.` or `..` segment, plain or disguised.")


def _readings(path: bytes) -> list[bytes]:
    """Return the path as it came, and after each round of decoding until nothing is left to decode.

    Raises:
        BadRequestError: that takes more rounds than an honest client causes; each of them costs time.
    """
    readings = [path]
    while b"%" in path:
        if len(readings) > _MAX_ROUNDS:
            raise BadRequestError("The path is percent-escaped too many times over.")
        path, decoded = _ESCAPE.subn(lambda match: bytes((int(match[1], 16),)), path)
        if not decoded:
            break
        readings.append(path)
    return readings


def canonical(path: bytes) -> bytes:
    """Return the path as the most eager upstream reads it: decoded until nothing is left, parameters cut."""
    return _PARAMETERS.sub(b"", _readings(path)[-1])


_T = TypeVar("_T")


def match_prefix(path: bytes, prefixes: Sequence[tuple[bytes, _T]]) -> tuple[bytes, _T] | None:
    """Return the path after the longest matching prefix, and what that prefix is bound to.

    Args:
        path: it begins with a slash.
        prefixes: the longest comes first; none has a trailing slash, so that the root's is empty.
    """
    for prefix, bound in prefixes:
        if path.startswith(prefix):
            rest = path[len(prefix) :]
            if not rest or rest[0] == _SLASH:
                return rest, bound
    return None


def localize(location: bytes, *, origins: frozenset[bytes], base_path: bytes, prefix: bytes) -> bytes:
    """Turn a `Location` inside the upstream's base into a local one; return any other as it is.

    Args:
        location: the field's value (RFC 9110, 10.2.2).
        origins: the upstream's origin in each of its spellings, lower case: `https://host`, `https://host:443`.
        base_path: the upstream's base path, without a trailing slash.
        prefix: the route's prefix, without a trailing slash.
    """
    path = location
    if not location.startswith(b"/"):
        scheme, separator, rest = location.partition(b"://")
        authority = re.split(rb"[/?#]", rest, maxsplit=1)[0]
        if not separator or scheme.lower() + separator + authority.lower() not in origins:
            return location
        path = rest[len(authority) :] or b"/"
    elif location.startswith(b"//"):
        return location
    bare = re.split(rb"[?#]", path, maxsplit=1)[0]
    inside = bare.startswith(base_path) and (len(bare) == len(base_path) or bare[len(base_path)] == _SLASH)
    try:
        check_path(bare)
    except BadRequestError:
        inside = False
    local = prefix + path[len(base_path) :] or b"/"
    # Two slashes would name another host (RFC 3986, 4.2).
    return local if inside and not local.startswith(b"//") else location
