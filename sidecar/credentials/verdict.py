"""What an issuer's answer means: a grant, a throttling, a refusal or a fault. Pure; DESIGN 5.6 and 5.7 in code.

| status | answer | verdict |
| --- | --- | --- |
| 2xx | a usable bearer token | the grant |
| 429 | anything | throttled, with `Retry-After` |
| any but 401, 404 and 5xx | a page for people | throttled: a firewall, a gateway, a portal answers, not the issuer |
| 400, 401, 403 | an OAuth error that asks for patience (`slow_down`, `too_many_attempts`, …) | throttled |
| 400, 401, 403 | an OAuth error that is the server's own fault (`temporarily_unavailable`, …) | interrupted |
| 400, 401, 403 | any other OAuth error: asking the same again gets the same | refused |
| 401 | no OAuth error, whatever else: RFC 6749, 5.2 has 401 for `invalid_client` alone | refused |
| 403 | no OAuth error | throttled: a firewall |
| 5xx | anything | interrupted, may be tried again at once |
| 2xx | anything else | interrupted |
| others | anything | failed: a redirect (never followed with a secret), a wrong URL |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final

from sidecar.credentials import diagnosis, token_response, untrusted
from sidecar.errors import (
    GrantError,
    GrantFailedError,
    GrantInterruptedError,
    GrantRefusedError,
    GrantThrottledError,
)
from sidecar.tokens.grant import Grant

PATIENCE: Final = frozenset({"slow_down", "too_many_requests", "too_many_attempts", "rate_limit_exceeded"})
"""OAuth error codes (RFC 8628's, Auth0's) that are no refusal of the credential."""
SERVERS_FAULT: Final = frozenset({"temporarily_unavailable", "server_error"})
"""RFC 6749, 4.1.2.1; Entra ID answers them at its token endpoint too."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One complete answer: status, headers (case-insensitive), bounded body."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    set_cookies: tuple[str, ...] = field(default=(), repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    """What was sent, and must not be shown."""

    def quote(self, text: str, limit: int = 300) -> str:
        """A text of this answer as a log line may have it: the server may quote what it was sent."""
        return untrusted.quote(text, limit, self.secrets)


@dataclass(frozen=True, slots=True)
class Asked:
    """Who asked whom for what, for the sentences of errors; nothing here is secret."""

    issuer: str
    credential: str
    client: str
    audience: str | None

    def __str__(self) -> str:
        audience = f" for audience {self.audience}" if self.audience else ""
        return f"Credential {self.credential}{audience}: the issuer {self.issuer}"


def judge(answer: Answer, asked: Asked, now: float) -> Grant:
    """The grant; `now` is the wall clock's, for a `Retry-After` that is a date.

    Raises:
        GrantError: one of its four children, by the table above.
    """
    if answer.status // 100 == 2:  # noqa: PLR2004
        try:
            return token_response.bearer_grant(answer.body)
        except token_response.UnusableAnswerError as error:
            if not token_response.is_page(answer.headers, answer.body):
                raise GrantInterruptedError(f"{asked} {error}") from None
    raise failure(answer, asked, now)


def failure(answer: Answer, asked: Asked, now: float) -> GrantError:
    """The error that an answer without a grant is."""
    status = answer.status
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return GrantThrottledError(
            f"{asked} answered 429: this address asks for tokens too often. All requests to it pause.",
            retry_after=retry_after(answer.headers, now),
        )
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return GrantInterruptedError(f"{asked} answered {status}.", retry_after=retry_after(answer.headers, now))
    said = token_response.oauth_error(answer.body) if status in {400, 401, 403} else None
    if said is not None:
        return _oauth(answer, asked, now, *said)
    if status == HTTPStatus.UNAUTHORIZED:
        return _bare_401(asked)
    if status == HTTPStatus.FORBIDDEN or (
        status != HTTPStatus.NOT_FOUND and token_response.is_page(answer.headers, answer.body)
    ):
        return GrantThrottledError(
            f"{asked} answered {status} with something that is no OAuth error: a firewall, a gateway or a login page"
            " stands in between, or blocks this address. All requests to it pause.",
            retry_after=retry_after(answer.headers, now),
        )
    location = answer.quote(answer.headers.get("Location", "").partition("?")[0], 200)
    return GrantFailedError(f"{asked} answered {status}. {diagnosis.unexpected_status(status, location)}")


def _oauth(answer: Answer, asked: Asked, now: float, code: str, description: str) -> GrantError:
    shown, quoted = answer.quote(code, 80), f' ("{answer.quote(description)}")' if description else ""
    said = f"{asked} answered {answer.status} {shown}{quoted}."
    if code in PATIENCE:
        return GrantThrottledError(f"{said} All requests to it pause.", retry_after=retry_after(answer.headers, now))
    if code in SERVERS_FAULT:
        return GrantInterruptedError(said)
    refusal = diagnosis.Refusal(answer.status, code, description, asked.issuer, asked.audience, asked.client)
    return GrantRefusedError(f"{said} {diagnosis.refusal_cure(refusal)}", oauth_error=shown)


def _bare_401(asked: Asked) -> GrantRefusedError:
    code = "invalid_client"
    refusal = diagnosis.Refusal(HTTPStatus.UNAUTHORIZED, code, "", asked.issuer, asked.audience, asked.client)
    said = f"{asked} answered 401 with no OAuth error, which stands for {code} (RFC 6749, 5.2)."
    return GrantRefusedError(f"{said} {diagnosis.refusal_cure(refusal)}", oauth_error=code)


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds that `Retry-After` asks for (RFC 9110, 10.2.3); None where it is absent or no such value.

    A date counts from the answer's own `Date`, so that a wrong local clock does not matter.
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
