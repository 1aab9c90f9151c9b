"""A token request's body (RFC 6749, 4.4.2), as a form or as JSON, read strictly. Everything is pure."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import parse_qsl

from sidecar.errors import InvalidRequestError, UnsupportedGrantTypeError

FORM: Final = b"application/x-www-form-urlencoded"
JSON: Final = b"application/json"
FIELDS: Final = frozenset({"grant_type", "client_id", "client_secret", "audience", "scope", "resource"})
"""What is read; anything else is ignored, as RFC 6749, 3.2, wants it."""
_MOST_FIELDS: Final = 100


class _Object(list[tuple[str, Any]]):
    """A JSON object with all its members, those of the same name too."""


def parse(content_type: bytes, body: bytes) -> dict[str, str]:
    """Return the fields that have a value.

    Raises:
        InvalidRequestError: it is neither a form nor a JSON object, or says something twice.
        UnsupportedGrantTypeError: it asks for another grant than client credentials.
    """
    kind = content_type.partition(b";")[0].strip().lower()
    if kind not in {FORM, JSON}:
        raise InvalidRequestError(f"Content-Type has to be {FORM.decode()} or {JSON.decode()}.")
    try:
        pairs = _form(body) if kind == FORM else _json(body)
    except (ValueError, RecursionError):
        raise InvalidRequestError("The body is not what its Content-Type says.") from None
    fields: dict[str, str] = {}
    for name, value in pairs:
        if name not in FIELDS:
            continue
        if name in fields:
            raise InvalidRequestError(f"The field {name} is there twice.")
        if not isinstance(value, str | None):
            raise InvalidRequestError(f"The field {name} is no text.")
        fields[name] = value or ""
    grant = fields.get("grant_type")
    if not grant:
        raise InvalidRequestError("The field grant_type is missing.")
    if grant != "client_credentials":
        raise UnsupportedGrantTypeError("The grant_type has to be client_credentials.")
    return {name: value for name, value in fields.items() if value}


def _form(body: bytes) -> Iterable[tuple[str, Any]]:
    text = body.decode("ascii")
    return parse_qsl(text, True, bool(text), errors="strict", max_num_fields=_MOST_FIELDS)


def _json(body: bytes) -> Iterable[tuple[str, Any]]:
    value = json.loads(body.decode(), object_pairs_hook=_Object)
    if not isinstance(value, _Object):
        raise ValueError  # noqa: TRY004 (the caller's one error)
    return value
