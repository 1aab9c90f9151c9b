import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.secret import Secret
from sidecar.telemetry.masking import MASK, mask_text, mask_value

JWT = "eyJhbGciOiJSUzI1NiJ9.eyJhdWQiOiJvcGVyYXRlLmNhbXVuZGEuaW8ifQ.c2lnbmF0dXJl"
BASIC = base64.b64encode(b"demo:hunter2").decode()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"Authorization: Bearer {JWT}", f"Authorization: Bearer {MASK}"),
        ("bearer 0123456789abcdef", f"bearer {MASK}"),
        (f"the token {JWT} was refused", f"the token {MASK} was refused"),
        (f"cut off: {JWT[:30]}", f"cut off: {MASK}"),
        (f"Authorization: Basic {BASIC}", f"Authorization: Basic {MASK}"),
        ("Basic authentication is off", "Basic authentication is off"),
        ("grant_type=x&client_secret=hunter2&y=1", f"grant_type=x&client_secret={MASK}&y=1"),
        ('{"access_token": "opaque", "x": 1}', f'{{"access_token": "{MASK}", "x": 1}}'),
        (r"{\"access_token\":\"opaque\"}", rf"{{\"access_token\":\"{MASK}\"}}"),
        ("Set-Cookie: OPERATE-SESSION=0123; Path=/", f"Set-Cookie: {MASK}"),
        ("redis://user:hunter2@cache:6379/0", f"redis://user:{MASK}@cache:6379/0"),
        ("password=hunter2", f"password={MASK}"),
        ("the password file /run/secrets/demo is empty", "the password file /run/secrets/demo is empty"),
        ("https://login.cloud.camunda.io/oauth/token", "https://login.cloud.camunda.io/oauth/token"),
        ('WWW-Authenticate: Bearer error="invalid_token"', 'WWW-Authenticate: Bearer error="invalid_token"'),
    ],
)
def test_credentials_are_masked_and_plain_words_stay(text, expected):
    """Whatever looks like a credential is gone, and an ordinary sentence stays readable."""
    assert mask_text(text) == expected


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("token", "opaque", MASK),
        ("Set-Cookie", ["a=b"], MASK),
        ("headers", {"Authorization": "opaque", "x": f"Bearer {JWT}"}, {"Authorization": MASK, "x": f"Bearer {MASK}"}),
        ("parts", (1, None, True, 0.5, JWT), [1, None, True, 0.5, MASK]),
        ("body", f"Bearer {JWT}".encode(), f"Bearer {MASK}"),
        ("error", ValueError(f"bad {JWT}"), f"ValueError: bad {MASK}"),
        ("secret_source", Secret("hunter2"), "Secret(***)"),
        ("tokens", 3, 3),
    ],
)
def test_values_are_walked(key, value, expected):
    """Nested values, bytes, exceptions and unknown objects are masked too; numbers pass."""
    assert mask_value(key, value) == expected


LEAVES = st.none() | st.integers() | st.text() | st.binary()


@given(st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_what_comes_out_can_always_be_rendered(value):
    """A log line never fails to be written because of what was logged."""
    json.dumps(mask_value("event", value))


def test_a_long_hostile_text_is_masked_in_linear_time():
    """No pattern backtracks: an upstream chooses what is logged."""
    for piece in ("eyJ", "Bearer ", "a://", "cookie:", "password=", "basic ", "eyJaaaaaaaaaaaa."):
        mask_text(piece * 20_000)
