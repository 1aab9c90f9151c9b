"""What a token response may say, and how long a token lives, as tables."""

from __future__ import annotations

import base64
import json

import pytest

from sidecar.credentials.token_response import (
    UnusableResponseError,
    bearer_grant,
    is_page,
    jwt_claims,
    jwt_life,
    lifetime,
    oauth_error,
)


def jwt(**claims: object) -> str:
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"eyJhbGciOiJub25lIn0.{payload}.c2ln"


@pytest.mark.parametrize(
    ("expires_in", "seconds"),
    [
        (3600, 3600.0),
        (1, 1.0),
        (0.5, 0.5),
        (86_400, 86_400.0),
        (86_401, 86_400.0),
        (10**30, 86_400.0),
        (10**400, 86_400.0),
        (float("inf"), 86_400.0),
        (float("nan"), 60.0),
        ("3600", 3600.0),
        (" 3600 ", 3600.0),
        ("3600.5", 3600.5),
        ("+7", 7.0),
        ("9" * 400, 86_400.0),
        ("3600s", 60.0),
        ("1e3", 60.0),
        ("1_000", 60.0),
        ("٣٦٠٠", 60.0),
        ("", 60.0),
        ("Infinity", 60.0),
        (None, 60.0),
        (True, 60.0),
        (False, 60.0),
        ([], 60.0),
        ({"seconds": 3600}, 60.0),
    ],
)
def test_lifetime_from_expires_in(expires_in: object, seconds: float) -> None:
    """Missing, null or non-numeric is 60 s, a numeric string its number, more than a day a day."""
    assert lifetime(expires_in, "opaque") == seconds


@pytest.mark.parametrize("expires_in", [0, -1, 0.0, "0", "-5", -(10**400), float("-inf")])
def test_a_life_that_is_over_is_a_failed_grant(expires_in: object) -> None:
    """Zero and less: nothing to hand out."""
    with pytest.raises(UnusableResponseError):
        lifetime(expires_in, "opaque")


@pytest.mark.parametrize(
    ("claims", "expires_in", "seconds"),
    [
        ({"iat": 1000, "exp": 1300}, 3600, 300.0),
        ({"iat": 1000, "exp": 9000}, 3600, 3600.0),
        ({"iat": 1000, "exp": 1300}, None, 60.0),
        ({"exp": 1300}, 3600, 3600.0),
        ({"iat": 1000}, 3600, 3600.0),
        ({"iat": "1000", "exp": "1300"}, 3600, 3600.0),
        ({"iat": True, "exp": 1300}, 3600, 3600.0),
        ({"iat": 1000.25, "exp": 1300.75}, 3600, 300.5),
        ({"iat": 10**400, "exp": 10**400}, 3600, 3600.0),
    ],
)
def test_a_jwt_lives_for_the_shorter_of_both(claims: dict[str, object], expires_in: object, seconds: float) -> None:
    """`exp` less `iat`, whatever the local clock says; a claim that is no number says nothing."""
    assert lifetime(expires_in, jwt(**claims)) == seconds


@pytest.mark.parametrize("claims", [{"iat": 1000, "exp": 1000}, {"iat": 1000, "exp": 900}])
def test_a_jwt_without_a_life_is_a_failed_grant(claims: dict[str, object]) -> None:
    """An end before the beginning."""
    with pytest.raises(UnusableResponseError):
        lifetime(3600, jwt(**claims))


@pytest.mark.parametrize(
    "token",
    ["opaque", "a.b", "a.b.c", "a.!!!.c", "a.bm90IGpzb24.c", "a.W10.c", f"a.{'W' * 99_999}.c", "a.b.c.d.e", "..", ""],
)
def test_an_opaque_token_has_no_claims(token: str) -> None:
    """Three parts with a dot do not make a JWT, and no token makes an exception."""
    assert jwt_claims(token) is None
    assert jwt_life(token) is None


@pytest.mark.parametrize("token_type", ["Bearer", "bearer", "BEARER", None])
def test_bearer_in_any_case_and_a_missing_type_are_good(token_type: str | None) -> None:
    """RFC 6749, 7.1: the type is case-insensitive; issuers that leave it out mean it."""
    body = json.dumps({"access_token": "t", "token_type": token_type, "expires_in": 10}).encode()
    assert bearer_grant(body).header == b"Authorization: Bearer t\r\n"
    assert bearer_grant(b'\xef\xbb\xbf{"access_token":"t"}').lifetime == 60.0


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"token"',
        b"<html>",
        b'{"access_token":',
        b'{"access_token":"t"} trailing',
        b'{"access_token":"t","expires_in":NaN}',
        b'{"access_token":"\xff"}',
        b"[" * 100_000,
        b"{}",
        b'{"access_token":null}',
        b'{"access_token":""}',
        b'{"access_token":7}',
        b'{"access_token":["t"]}',
        b'{"access_token":"a b"}',
        b'{"access_token":"a\\r\\nX-Evil: 1"}',
        b'{"access_token":"a\\n"}',
        b'{"access_token":"\\u0000"}',
        b'{"access_token":"t\\u00e9"}',
        b'{"access_token":"\\ud800"}',
        b'{"access_token":"t\\u007f"}',
        b'{"access_token":"t","token_type":"mac"}',
        b'{"access_token":"t","token_type":""}',
        b'{"access_token":"t","token_type":1}',
        b'{"access_token":"t","expires_in":0}',
    ],
)
def test_what_is_no_usable_token(body: bytes) -> None:
    """Nothing that could not stand in a header, or is no bearer token, is ever handed out; the text quotes nothing."""
    with pytest.raises(UnusableResponseError) as caught:
        bearer_grant(body)
    assert "Evil" not in str(caught.value)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b'{"error":"invalid_client"}', ("invalid_client", "")),
        (b'{"error":"a","error_description":"b\\r\\nc\\u001b[31m"}', ("a", "b\r\nc\x1b[31m")),
        (b'{"error":"a","error_description":{"x":1}}', ("a", "")),
        (b'{"error":{"code":1}}', None),
        (b'{"error":""}', None),
        (b'{"error":"\\u0007"}', None),
        (b'{"message":"no"}', None),
        (b"<html>", None),
        (b"", None),
    ],
)
def test_oauth_errors_are_read(body: bytes, error: tuple[str, str] | None) -> None:
    """RFC 6749, 5.2, word for word: secrets are looked for before anything is cleaned."""
    assert oauth_error(body) == error


@pytest.mark.parametrize(
    ("content_type", "body", "page"),
    [
        ("text/html; charset=utf-8", b"", True),
        ("TEXT/HTML", b"Welcome", True),
        ("text/html", b' {"error":"x"}', False),
        ("", b"\n <!doctype html>", True),
        ("application/json", b"{}", False),
        ("", b"", False),
    ],
)
def test_a_page_for_people_is_told_from_an_answer(content_type: str, body: bytes, page: bool) -> None:
    """By its type, or by how it begins."""
    assert is_page({"Content-Type": content_type}, body) is page
