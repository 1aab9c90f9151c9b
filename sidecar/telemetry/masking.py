"""Credentials out of log lines: an upstream may echo a token, and a library may put one into an exception's text.

This is the second line of defence (the first is `Secret`), so it errs on the side of masking too much.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any

from sidecar.secret import MASK

# RFC 6750's b64token after its scheme, of a length that no English word after "bearer" has much use for.
_BEARER = re.compile(r"(?i)\b(bearer|negotiate|dpop)(\s+|%20|\+)[\w.~+/=-]{8,}")
# RFC 7617; whether it is one is decided by decoding it, so that "Basic authentication" stays readable.
_BASIC = re.compile(r"(?i)\b(basic)(\s+)([A-Za-z0-9+/_-]{4,}={0,2})")
# The start of every JSON object in base64url: whole and truncated JWS and JWE alike.
_JWT = re.compile(r"\beyJ[\w-]{10,}(?:\.[\w-]*){0,4}")
_FIELD = re.compile(
    r"(?i)\b(access_token|refresh_token|id_token|client_secret|client_assertion|assertion|password|api_key)"
    r"([\"'\\]*(?:\s*[:=]\s*|%3D)[\"'\\]*)([^\s\"'&,;}\\]+)"
)
_COOKIE = re.compile(r"(?i)\b((?:set-)?cookie[\"'\\]*\s*:\s*[\"'\\]*)([^\"'\\\r\n]+)")
_USERINFO = re.compile(r"(?i)\b([a-z][a-z0-9+.-]{1,20}://[^\s/:@]{0,256}:)([^\s/@]{1,1024})@")

# Something of each pattern above: most texts have none of it, and cost one search instead of six.
_SUSPECT = re.compile(r"eyJ|@|(?i:bearer|negotiate|dpop|basic|_token|client_secret|assertion|password|api_key|cookie)")

_SECRET_KEY = re.compile(
    r"(?i)(?:(?:access|id|refresh)[_-])?token|(?:client[_-])?(?:assertion|secret)|(?:api|private)[_-]key|password"
    r"|(?:proxy[_-])?authorization|(?:set[_-])?cookie"
)


def mask_text(text: str) -> str:
    """`text` with everything that looks like a credential replaced by `***`: schemes, JWTs, form and JSON fields."""
    if _SUSPECT.search(text) is None:
        return text
    text = _JWT.sub(MASK, text)
    text = _BEARER.sub(rf"\1\2{MASK}", text)
    text = _BASIC.sub(_masked_basic, text)
    text = _FIELD.sub(rf"\1\2{MASK}", text)
    text = _COOKIE.sub(rf"\1{MASK}", text)
    return _USERINFO.sub(rf"\1{MASK}@", text)


def mask_value(key: str, value: Any) -> Any:
    """`value` as it may be logged under `key`: containers are walked, unknown objects become their masked `repr`."""
    match value:
        case None | bool() | int() | float():
            return value
        case _ if _SECRET_KEY.fullmatch(key):
            return MASK
        case str():
            return mask_text(value)
        case Mapping():
            return {str(name): mask_value(str(name), item) for name, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [mask_value("", item) for item in value]
        case bytes() | bytearray():
            return mask_text(value.decode("utf-8", "backslashreplace"))
        case BaseException():
            return mask_text(f"{type(value).__name__}: {value}")
        case _:
            return mask_text(str(value))


def _masked_basic(found: re.Match[str]) -> str:
    scheme, space, value = found.groups()
    padded = value.rstrip("=") + "=" * (-len(value.rstrip("=")) % 4)
    try:
        decoded = base64.b64decode(padded.replace("-", "+").replace("_", "/"))
    except binascii.Error:
        return found[0]
    return f"{scheme}{space}{MASK}" if b":" in decoded else found[0]
