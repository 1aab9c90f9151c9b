"""What an issuer's response means: a grant, a throttling, a refusal or a fault. Pure.

| status | response | class |
| --- | --- | --- |
| 2xx | a usable bearer token, whatever its Content-Type | the grant |
| 429 | any | throttled, with `Retry-After` |
| any but 401, 404 and 5xx | a page for people | throttled: a firewall, a gateway, a portal answers, not the issuer |
| 400, 401, 403 | an OAuth error that asks to wait (`slow_down`, `too_many_attempts`, …) | throttled |
| 400, 401, 403 | an OAuth error that is the server's own fault (`temporarily_unavailable`, …) | interrupted |
| 400, 401, 403 | any other OAuth error: asking the same again gets the same | refused |
| 401 | any other: RFC 6749, 5.2 has 401 for `invalid_client` alone | refused |
| 403 | any other | throttled: a firewall |
| 5xx | any | interrupted, may be tried again at once, or after `Retry-After` |
| 2xx | any other | interrupted |
| others | any | failed: a redirect (never followed with a secret), a wrong URL |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final

from sidecar.credentials import explanations, token_response, untrusted
from sidecar.errors import (
    GrantError,
    GrantFailedError,
    GrantInterruptedError,
    GrantRefusedError,
    GrantThrottledError,
)
from sidecar.tokens.grant import Grant

WAIT_CODES: Final = frozenset({"slow_down", "too_many_requests", "too_many_attempts", "rate_limit_exceeded"})
"""OAuth error codes (RFC 8628's, Auth0's) that are no refusal of the credential."""
SERVER_CODES: Final = frozenset({"temporarily_unavailable", "server_error"})
"""RFC 6749, 4.1.2.1; Entra ID answers them at its token endpoint too."""


@dataclass(frozen=True, slots=True)
class IssuerResponse:
    """One complete response: status, headers (case-insensitive), bounded body."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    set_cookies: tuple[str, ...] = field(default=(), repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    """What was sent, and must not be shown."""

    def quote(self, text: str, limit: int = 300) -> str:
        """A text of this response as a log line may have it: the server may quote what it was sent."""
        return untrusted.quote(text, limit, self.secrets)


@dataclass(frozen=True, slots=True)
class RequestContext:
    """Which credential asked which issuer for what: the beginning of an error's sentence."""

    issuer: str
    credential: str
    audience: str | None

    def __str__(self) -> str:
        audience = f" for audience {self.audience}" if self.audience else ""
        return f"Credential {self.credential}{audience}: the issuer {self.issuer}"


def classify(response: IssuerResponse, context: RequestContext, now: float) -> Grant:
    """The grant that a response holds; `now` is in seconds of the wall clock, for a `Retry-After` that is a date.

    Raises:
        GrantError: one of its four children, by the table above.
    """
    status = response.status
    is_page = token_response.is_page(response.headers, response.body)
    if status // 100 == 2:  # noqa: PLR2004
        try:
            return token_response.bearer_grant(response.body)
        except token_response.UnusableResponseError as error:
            if not is_page:
                raise GrantInterruptedError(f"{context} {error}") from None
    pause = raise_unavailable(response, context, now)
    said = token_response.oauth_error(response.body) if status in {400, 401, 403} else None
    if said is not None:
        raise _oauth_error(response, context, pause, *said)
    if status == HTTPStatus.UNAUTHORIZED:
        code = "invalid_client"
        cure = explanations.refusal_cure(status, code, "", context.issuer, context.audience)
        what = f"{context} answered 401 with no OAuth error, which stands for {code} (RFC 6749, 5.2)."
        raise GrantRefusedError(f"{what} {cure}", oauth_error=code)
    if status == HTTPStatus.FORBIDDEN or (is_page and status != HTTPStatus.NOT_FOUND):
        raise GrantThrottledError(
            f"{context} answered {status} with something that is no OAuth error: a firewall, a gateway or a login page"
            " stands in between, or blocks this address. All requests to it pause.",
            retry_after=pause,
        )
    location = response.quote(response.headers.get("Location", "").partition("?")[0], 200)
    raise GrantFailedError(f"{context} answered {status}. {explanations.unexpected_status(status, location)}")


def raise_unavailable(response: IssuerResponse, who: object, now: float) -> float | None:
    """Seconds that `Retry-After` asks for; `who` begins the sentence of an error.

    Raises:
        GrantError: the response says nothing about the credential: a 429 or a 5xx.
    """
    status, pause = response.status, retry_after(response.headers, now)
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        raise GrantThrottledError(
            f"{who} answered 429: this address asks too often. All requests to it pause.", retry_after=pause
        )
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise GrantInterruptedError(f"{who} answered {status}.", retry_after=pause)
    return pause


def _oauth_error(
    response: IssuerResponse, context: RequestContext, pause: float | None, code: str, description: str
) -> GrantError:
    shown, quoted = response.quote(code, 80), f' ("{response.quote(description)}")' if description else ""
    said = f"{context} answered {response.status} {shown}{quoted}."
    if code in WAIT_CODES:
        return GrantThrottledError(f"{said} All requests to it pause.", retry_after=pause)
    if code in SERVER_CODES:
        return GrantInterruptedError(said, retry_after=pause)
    cure = explanations.refusal_cure(response.status, code, description, context.issuer, context.audience)
    return GrantRefusedError(f"{said} {cure}", oauth_error=shown)


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds that `Retry-After` asks for (RFC 9110, 10.2.3); None where it is absent or has no such value.

    A date counts from the response's own `Date`, so that a wrong local clock does not matter; without one from `now`,
    in seconds of the wall clock.
    """
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:12])
    moment, sent = _moment(value), _moment(headers.get("Date", ""))
    return None if moment is None else max(0.0, moment - (now if sent is None else sent))


def _moment(http_date: str) -> float | None:
    """Seconds since 1970 of a date (RFC 9110, 5.6.7)."""
    try:
        moment = parsedate_to_datetime(http_date[:64])
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except Exception:  # noqa: BLE001 (that parser raises many things, and a server may write anything)
        return None
