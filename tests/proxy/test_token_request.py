"""What a token request's body may be."""

from __future__ import annotations

import pytest

from sidecar.errors import InvalidRequestError, Problem, UnsupportedGrantTypeError
from sidecar.proxy.token_request import FORM, JSON, parse

AUDIENCE = {"audience": "a.b"}
MORE = {"scope": "x y", "client_secret": "+ü"}
GRANT = b"grant_type=client_credentials"


@pytest.mark.parametrize(
    ("kind", "body", "expected"),
    [
        (FORM, GRANT + b"&audience=a.b&scope=x+y&client_secret=%2B%C3%BC", AUDIENCE | MORE),
        (FORM, GRANT + b"&audience=&tenant=x&tenant=y", {}),
        (FORM + b"; charset=UTF-8", GRANT + b"&client_id=c", {"client_id": "c"}),
        (b"Application/JSON", b'{"grant_type": "client_credentials", "audience": "a.b", "scope": null}', AUDIENCE),
    ],
)  # fmt: skip
def test_both_forms(kind: bytes, body: bytes, expected: dict[str, str]) -> None:
    """A form and JSON say the same; what is empty is not there, what is not known is ignored (RFC 6749, 3.2)."""
    assert parse(kind, body) == {"grant_type": "client_credentials", **expected}


@pytest.mark.parametrize(
    ("kind", "body", "error"),
    [
        (FORM, b"grant_type=password&username=u&password=p", UnsupportedGrantTypeError),
        (FORM, b"grant_type=refresh_token&refresh_token=r", UnsupportedGrantTypeError),
        (FORM, b"", InvalidRequestError),
        (FORM, b"audience=a", InvalidRequestError),
        (FORM, GRANT + b"&audience=a&audience=b", InvalidRequestError),
        (FORM, GRANT + b"&audience=&audience=b", InvalidRequestError),
        (FORM, GRANT + b"&audience=%FF", InvalidRequestError),
        (FORM, GRANT + b"&audience=\xff", InvalidRequestError),
        (FORM, GRANT + b"&x" * 200, InvalidRequestError),
        (FORM, b'{"grant_type": "client_credentials"}', InvalidRequestError),
        (JSON, GRANT, InvalidRequestError),
        (JSON, b"[]", InvalidRequestError),
        (JSON, b'[["grant_type", "client_credentials"]]', InvalidRequestError),
        (JSON, b"[" * 10_000, InvalidRequestError),
        (JSON, b'{"grant_type": "client_credentials", "audience": "a", "audience": "b"}', InvalidRequestError),
        (JSON, b'{"grant_type": "client_credentials", "audience": ["a"]}', InvalidRequestError),
        (JSON, b'{"grant_type": 1}', InvalidRequestError),
        (b"text/plain", GRANT, InvalidRequestError),
        (b"", GRANT, InvalidRequestError),
    ],
)
def test_anything_else_is_refused(kind: bytes, body: bytes, error: type[Problem]) -> None:
    """One clear error of RFC 6749, 5.2; no value of the request is quoted in it."""
    with pytest.raises(error) as raised:
        parse(kind, body)
    assert raised.type is error
    assert raised.value.detail.endswith(".")
