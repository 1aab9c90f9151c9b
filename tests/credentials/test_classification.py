"""What each response of an issuer means for everybody else, as a table."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from sidecar.credentials.classification import IssuerResponse, RequestContext, classify, retry_after
from sidecar.errors import (
    GrantError,
    GrantFailedError,
    GrantInterruptedError,
    GrantRefusedError,
    GrantThrottledError,
)

CONTEXT = RequestContext("https://login.cloud.camunda.io/oauth/token", "cluster", "optimize.camunda.io")
SAAS_401 = b'{"error":"access_denied","error_description":"Unauthorized"}'
SAAS_403 = b'{"error":"access_denied","error_description":"Client is not authorized to access \\"optimize\\"."}'
HTML = b"<html>Blocked</html>"


def classified(status: int, body: bytes = b"", **headers: str) -> GrantError:
    response = IssuerResponse(
        status, CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()}), body
    )
    with pytest.raises(GrantError) as caught:
        classify(response, CONTEXT, now=0.0)
    return caught.value


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (200, b"", GrantInterruptedError),
        (200, b'{"access_token":', GrantInterruptedError),
        (200, HTML, GrantThrottledError),
        (200, b'{"access_token":7}', GrantInterruptedError),
        (204, b"", GrantInterruptedError),
        (302, b"", GrantFailedError),
        (302, HTML, GrantThrottledError),
        (400, b"", GrantFailedError),
        (400, b'{"error":"invalid_request"}', GrantRefusedError),
        (400, b'{"error":"invalid_scope"}', GrantRefusedError),
        (400, b'{"error":"invalid_target"}', GrantRefusedError),
        (400, b'{"error":"invalid_grant"}', GrantRefusedError),
        (400, b'{"error":"unauthorized_client"}', GrantRefusedError),
        (400, b'{"error":"an_error_nobody_knows"}', GrantRefusedError),
        (400, b'{"error":"slow_down"}', GrantThrottledError),
        (400, b'{"error":"temporarily_unavailable"}', GrantInterruptedError),
        (400, HTML, GrantThrottledError),
        (401, b"", GrantRefusedError),
        (401, b'{"message":"Unauthorized"}', GrantRefusedError),
        (401, b'{"error":{"code":401}}', GrantRefusedError),
        (401, b'{"error":"slow_down"}', GrantThrottledError),
        (401, b'{"error":"temporarily_unavailable"}', GrantInterruptedError),
        (401, b'{"error":"invalid_client"}', GrantRefusedError),
        (401, SAAS_401, GrantRefusedError),
        (401, HTML, GrantRefusedError),
        (403, b"", GrantThrottledError),
        (403, b'{"message":"Forbidden"}', GrantThrottledError),
        (403, HTML, GrantThrottledError),
        (403, SAAS_403, GrantRefusedError),
        (403, b'{"error":"too_many_attempts"}', GrantThrottledError),
        (404, b"", GrantFailedError),
        (404, HTML, GrantFailedError),
        (404, b'{"error":"Realm does not exist"}', GrantFailedError),
        (405, b"", GrantFailedError),
        (415, b'{"error":"unsupported media type"}', GrantFailedError),
        (418, HTML, GrantThrottledError),
        (429, b"", GrantThrottledError),
        (429, b'{"error":"access_denied"}', GrantThrottledError),
        (429, HTML, GrantThrottledError),
        (500, b"", GrantInterruptedError),
        (500, b'{"error":"invalid_client"}', GrantInterruptedError),
        (502, HTML, GrantInterruptedError),
        (503, b"", GrantInterruptedError),
        (599, b"", GrantInterruptedError),
    ],
)
def test_classes(status: int, body: bytes, error: type[GrantError]) -> None:
    """One row an answer; the exact type, since it decides about quarantine, cool-down and another attempt."""
    assert type(classified(status, body)) is error


@pytest.mark.parametrize(
    ("value", "date", "seconds"),
    [
        ("17", None, 17.0),
        ("0", None, 0.0),
        (" 5 ", None, 5.0),
        ("9" * 400, None, 999_999_999_999.0),
        ("-1", None, None),
        ("1.5", None, None),
        ("soon", None, None),
        ("", None, None),
        ("²", None, None),
        ("Thu, 01 Jan 1970 00:02:00 GMT", None, 120.0),
        ("Thu, 01 Jan 1970 00:02:00 GMT", "Thu, 01 Jan 1970 00:01:30 GMT", 30.0),
        ("Thu, 01 Jan 1970 00:02:00 GMT", "nonsense", 120.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", "Thu, 01 Jan 1970 00:01:00 GMT", 0.0),
        ("Thu, 99 Jan 1970 00:00:00 GMT", None, None),
        ("Thu, 01 Jan 99999 00:00:00 GMT", None, None),
        ("Thu, 01 Jan 1970 00:00:00 +99999999999999999999", None, None),
        ("Thu, 01 Jan 1970 00:02:00 GMT", "Thu, 01 Jan 1970 00:00:00 +99999999999999999999", 120.0),
        ("Thu, 01 Jan 1970 00:02:00 GMT", "Thu, 01 Jan 1970 00:00:00 GMT", 120.0),
        ("Thu, " + "9" * 5000 + " Jan 1970 00:00:00 GMT", None, None),
    ],
)
def test_retry_after(value: str, date: str | None, seconds: float | None) -> None:
    """Seconds or a date (against the answer's own Date); what is neither says nothing, and nothing raises."""
    headers = CIMultiDict({"retry-after": value} | ({"date": date} if date else {}))
    assert retry_after(headers, now=0.0) == seconds


TIMES = st.one_of(
    st.text(),
    st.from_regex(r"[A-Z][a-z]{2}, \d{1,2} [A-Z][a-z]{2} \d{1,6} \d{1,3}:\d{1,3}:\d{1,3}( [A-Z+-]?\d{0,6})?"),
    st.datetimes().map(lambda moment: moment.strftime("%a, %d %b %Y %H:%M:%S -2359")),
    st.builds("{}{}".format, st.integers(), st.sampled_from(["", "s", "\udcff", ".", "²"])),
)


@given(TIMES, TIMES)
def test_no_content_of_retry_after_and_date_raises(value: str, date: str) -> None:
    """A 429 whose header nobody understands is a 429: what comes out is a finite number of seconds, or nothing."""
    seconds = retry_after(CIMultiDict({"Retry-After": value, "Date": date}), now=1.8e9)
    assert seconds is None or 0 <= seconds < math.inf


def test_a_token_is_a_token_whatever_its_label() -> None:
    """JSON that is sent as text/html is parsed first and judged then."""
    headers = CIMultiDict({"Content-Type": "text/html; charset=utf-8"})
    grant = classify(IssuerResponse(200, headers, b'{"access_token":"abc","expires_in":60}'), CONTEXT, now=0.0)
    assert grant.header == b"Authorization: Bearer abc\r\n"


def test_an_unavailable_issuer_says_for_how_long() -> None:
    """RFC 9110, 10.2.3: 503 with `Retry-After`."""
    error = classified(503, Retry_After="7")
    assert isinstance(error, GrantInterruptedError)
    assert error.retry_after == 7.0


def test_what_was_sent_is_masked_in_code_description_and_location() -> None:
    """Wherever the issuer puts it; what the error means is found out from what it said."""
    body = b'{"error":"no-s3cr3t+canary","error_description":"expired secret: s3cr3t%2Bcanary"}'
    headers = CIMultiDict({"Location": "https://s3cr3t+canary.example/s3cr3t+canary?x"})
    for status in (401, 302):
        with pytest.raises(GrantError) as caught:
            classify(IssuerResponse(status, headers, body, secrets=("s3cr3t+canary",)), CONTEXT, now=0.0)
        assert "s3cr3t" not in caught.value.detail
        assert "***" in caught.value.detail
        if isinstance(caught.value, GrantRefusedError):
            assert caught.value.oauth_error == "no-***"
            assert "create a new one" in caught.value.detail


def test_a_wrong_audience_and_a_deleted_key_read_differently() -> None:
    """The log line alone tells which of the two it is, and what to do about it."""
    audience, deleted = classified(403, SAAS_403), classified(401, SAAS_401)
    assert audience.detail == (
        "Credential cluster for audience optimize.camunda.io: the issuer https://login.cloud.camunda.io/oauth/token"
        ' answered 403 access_denied ("Client is not authorized to access "optimize"."). The issuer knows this client'
        " but does not allow audience optimize.camunda.io: add the Optimize permission to the client (Console, the"
        " cluster, API), or, if this is an organization client, use a client of the cluster."
    )
    assert deleted.detail == (
        "Credential cluster for audience optimize.camunda.io: the issuer https://login.cloud.camunda.io/oauth/token"
        ' answered 401 access_denied ("Unauthorized"). The client id or its secret is wrong, or the client was deleted:'
        " check both at the issuer."
    )


@pytest.mark.parametrize("body", [b"", HTML, b'{"message":"Unauthorized"}'])
def test_a_401_without_an_oauth_error_is_the_clients_all_the_same(body: bytes) -> None:
    """RFC 6749, 5.2: 401 is `invalid_client`; said as what it is, with nothing of the body."""
    error = classified(401, body)
    assert isinstance(error, GrantRefusedError)
    assert error.oauth_error == "invalid_client"
    assert error.detail == (
        "Credential cluster for audience optimize.camunda.io: the issuer https://login.cloud.camunda.io/oauth/token"
        " answered 401 with no OAuth error, which stands for invalid_client (RFC 6749, 5.2). The client id or its"
        " secret is wrong, or the client was deleted: check both at the issuer."
    )


def test_a_redirect_says_where_it_led_without_the_query() -> None:
    """So that token_url can be corrected; a query may carry what is nobody's business."""
    error = classified(308, b"", Location="https://other.example/token?state=private")
    assert "https://other.example/token," in error.detail
    assert "private" not in error.detail
