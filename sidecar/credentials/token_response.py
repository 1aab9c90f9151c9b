"""A token endpoint's response, read strictly: a grant, or an OAuth error (RFC 6749, 5.1 and 5.2). Pure."""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Mapping
from typing import Any, Final, NoReturn

from sidecar.credentials.untrusted import printable
from sidecar.tokens.grant import Grant

UNKNOWN_LIFETIME: Final = 60.0
"""Seconds, where the issuer says nothing that is a number."""
LONGEST_LIFETIME: Final = 86_400.0
"""Seconds; nothing is trusted for longer."""

_NUMBER = re.compile(r"\s*[+-]?\d+(?:\.\d+)?\s*", re.ASCII)
_VISIBLE = re.compile(r"[\x21-\x7e]+")
_SCOPE = re.compile(r"[\x20-\x7e]{1,1000}")


class UnusableResponseError(ValueError):
    """A success without a usable token. The text is the end of a sentence that begins with "the issuer …"."""


def bearer_grant(body: bytes) -> Grant:
    """The grant that a successful response holds.

    `token_type` may be absent (RFC 6749 requires it, some issuers leave it out); what is there must say Bearer.

    Raises:
        UnusableResponseError: it is no JSON object with a usable bearer token. The text never quotes it.
    """
    answer = json_object(body)
    if answer is None:
        raise UnusableResponseError("answered 200 without a JSON object: is token_url a token endpoint?")
    token = answer.get("access_token")
    if not isinstance(token, str) or not token:
        raise UnusableResponseError("answered 200 without an access_token that is a non-empty string.")
    if not _VISIBLE.fullmatch(token):
        raise UnusableResponseError("sent an access_token with characters that no header may carry (RFC 6750, 2.1).")
    token_type = answer.get("token_type")
    if token_type is not None and not (isinstance(token_type, str) and token_type.lower() == "bearer"):
        raise UnusableResponseError("sent a token whose token_type is not Bearer: the sidecar attaches nothing else.")
    scope = answer.get("scope")
    return Grant(
        header=bearer_header(token),
        lifetime=lifetime(answer.get("expires_in"), token),
        scope=scope if isinstance(scope, str) and _SCOPE.fullmatch(scope) else "",
    )


def bearer_header(token: str) -> bytes:
    """The header line for a token of visible ASCII."""
    return b"Authorization: Bearer " + token.encode("ascii") + b"\r\n"


def is_visible(text: str) -> bool:
    """Whether a text is non-empty and only visible ASCII: it can neither end a header line nor hide in one."""
    return _VISIBLE.fullmatch(text) is not None


def lifetime(expires_in: object, token: str) -> float:
    """A token's life in seconds from the moment when its request was sent, at most a day.

    It is the shorter of `expires_in` and, for a JWT, `exp` less `iat`; its `exp` is never compared with a local clock.

    Raises:
        UnusableResponseError: the life is zero or less.
    """
    is_number = isinstance(expires_in, str) and _NUMBER.fullmatch(expires_in)
    stated = number(float(expires_in) if is_number else expires_in)  # type: ignore[arg-type]
    seconds = UNKNOWN_LIFETIME if math.isnan(stated) else stated
    signed = jwt_life(token)
    if signed is not None:
        seconds = min(seconds, signed)
    if seconds <= 0:
        raise UnusableResponseError("sent a token that is at its end already (expires_in, or exp less iat).")
    return min(seconds, LONGEST_LIFETIME)


def number(value: object) -> float:
    """A JSON number; NaN for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    try:
        return float(value)
    except OverflowError:  # an integer of hundreds of digits
        return math.inf if value > 0 else -math.inf


def jwt_life(token: str) -> float | None:
    """`exp` less `iat` of a JWT, in seconds; None for an opaque token, or one that lacks either."""
    claims = jwt_claims(token) or {}
    life = number(claims.get("exp")) - number(claims.get("iat"))
    return None if math.isnan(life) else life


def jwt_claims(token: str) -> dict[str, Any] | None:
    """A JWT's claims, unverified: for life times and for explanations, never for a decision about trust."""
    parts = token.split(".")
    if len(parts) != 3:  # noqa: PLR2004 (RFC 7515, 3.1: three parts)
        return None
    try:
        payload = base64.b64decode(parts[1] + "=" * (-len(parts[1]) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    return json_object(payload)


def json_object(body: bytes) -> dict[str, Any] | None:
    """The JSON object that the bytes are, or None. `NaN` and its like are no JSON."""
    try:
        value = json.loads(body.removeprefix(b"\xef\xbb\xbf").decode(), parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def oauth_error(body: bytes) -> tuple[str, str] | None:
    """`error` and `error_description` of RFC 6749, 5.2, as the issuer wrote them; None where it is no such answer."""
    answer = json_object(body) or {}
    code, description = answer.get("error"), answer.get("error_description")
    if not isinstance(code, str) or not printable(code, 80):
        return None
    return code, description if isinstance(description, str) else ""


def is_page(headers: Mapping[str, str], body: bytes) -> bool:
    """Whether the answer is a page for people, as firewalls and login forms send. JSON is none, whatever its label."""
    if json_object(body) is not None:
        return False
    return "html" in headers.get("Content-Type", "").lower() or body.lstrip()[:1] == b"<"
