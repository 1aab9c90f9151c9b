"""Cookie login of self-managed Operate and Tasklist, and of 8.8's orchestration cluster (Spring Security's form login).

| version | login | session cookie | CSRF token |
| --- | --- | --- | --- |
| to 8.4 | `POST /api/login`, form or query | `OPERATE-SESSION`, `TASKLIST-SESSION` | none |
| 8.5 to 8.7 | the same | the same | `OPERATE-X-CSRF-TOKEN` or `X-CSRF-TOKEN` (Tasklist's own likewise) |
| 8.8 | `POST /login`, form | `camunda-session` | `X-CSRF-TOKEN` |
| later | `GET /login` first: the login itself wants a CSRF token | `camunda-session…` | `X-CSRF-TOKEN` |

The token comes as a response header, as a cookie, or as both; it goes back as a header on unsafe methods, and its
cookie with all cookies. The header's value wins where both came: Spring masks it against BREACH, and an older filter
accepts only the masked form.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Final
from urllib.parse import urlencode

from sidecar.clock import Clock
from sidecar.config.settings import SessionLogin
from sidecar.credentials import cookies, explanations
from sidecar.credentials.classification import IssuerResponse, raise_unavailable
from sidecar.credentials.file_watching import Watched
from sidecar.credentials.token_request import FORM, Endpoint, GetPage, RequestContent, TokenRequest
from sidecar.credentials.token_response import is_page, is_visible
from sidecar.errors import GrantFailedError, GrantInterruptedError, GrantRefusedError, GrantThrottledError
from sidecar.secret import Secret
from sidecar.tokens.grant import AttemptGate, Grant

LIFETIME: Final = 8 * 3600.0
"""Seconds; a session lives until a 401 or this, whichever is first."""
REFUSED: Final = "login_refused"
"""Stands where an issuer has its OAuth error code."""


class SessionSource:
    """A `GrantSource`: one login for the whole host."""

    def __init__(self, settings: SessionLogin, *, password: Watched[Secret], endpoint: Endpoint, clock: Clock) -> None:
        self._settings = settings
        self._password = password
        self.endpoint = endpoint
        self._clock = clock
        self._page_first = False
        """Whether this server wants a CSRF token for the login itself; learnt from its first refusal."""
        self.parameters: tuple[tuple[str, str], ...] = (
            ("type", "session"),
            ("request_format", settings.request_format),
            ("username", settings.username),
        )

    @property
    def issuer(self) -> str:
        """The login's URL."""
        return self._settings.login_url

    def secret(self) -> Secret:
        """The password as it is in force."""
        return self._password.value

    def refuses(self, status: int, *, safe: bool) -> bool:
        """A 401; or a 403 to an unsafe request, as Spring's CSRF filter answers once the session is gone."""
        return status == HTTPStatus.UNAUTHORIZED or (status == HTTPStatus.FORBIDDEN and not safe)

    def rotate(self, grant: Grant, set_cookie: Sequence[bytes]) -> Grant | None:
        """The grant with a session or CSRF cookie that the upstream renewed; other cookies stay out of it."""
        before = cookies.parse_line(grant.header)
        changed = cookies.apply(before, [line.decode("latin-1") for line in set_cookie])
        # A session that the upstream ends is found out by its 401; only then is it logged in again, once for the host.
        after = before | {name: value for name, value in changed.items() if name in before or _is_ours(name)}
        line = cookies.cookie_line(after)
        if after == before or len(line) > cookies.MAX_BYTES:
            return None
        old, new = cookies.csrf_cookie(before), cookies.csrf_cookie(after)
        unsafe = grant.unsafe_header if old == new or new is None else _csrf_line(*new)
        return Grant(line, grant.lifetime, unsafe)

    async def fetch(self, gate: AttemptGate, *, attempts: int) -> Grant:
        """Log in, up to `attempts` times at transient faults.

        Raises:
            GrantError: the login failed.
            TokenUnavailableError: the gate's.
        """
        return await TokenRequest(self.endpoint, gate, self._content, self._classify).send(attempts)

    async def _content(self, get_page: GetPage) -> RequestContent:
        headers = {}
        if self._page_first:
            headers = _with_token(await get_page())
        fields = {"username": self._settings.username, "password": self._password.value.reveal()}
        if self._settings.request_format == "query":
            return RequestContent(headers, b"", fields)
        return RequestContent({**headers, "Content-Type": FORM}, urlencode(fields).encode())

    def _classify(self, response: IssuerResponse) -> Grant:
        if response.status // 100 == 2:  # noqa: PLR2004
            grant = session_grant(response)
            if grant is not None:
                return grant
        elif wants_token(response) and not self._page_first:
            self._page_first = True
            raise GrantInterruptedError(
                f"{self} wants a CSRF token for the login itself: it is fetched first from now on."
            )
        status, pause = response.status, raise_unavailable(response, self, self._clock.wall())
        redirects_to_error = status // 100 == 3 and "error" in response.headers.get("Location", "")  # noqa: PLR2004
        if status == HTTPStatus.UNAUTHORIZED or redirects_to_error:
            raise GrantRefusedError(
                f"{self} refused user {self._settings.username}: check user and password.", oauth_error=REFUSED
            )
        if status == HTTPStatus.FORBIDDEN:
            raise GrantThrottledError(
                f"{self} answered 403: a firewall stands in between, or blocks this address. All logins to it pause.",
                retry_after=pause,
            )
        raise GrantFailedError(f"{self} answered {status} without a session. {explanations.unexpected_login(status)}")

    def __str__(self) -> str:
        return f"Credential {self._settings.name}: the login {self._settings.login_url}"


def session_grant(response: IssuerResponse) -> Grant | None:
    """The session that a login's response begins; None where it sets no session cookie."""
    jar = cookies.apply({}, response.set_cookies)
    line = cookies.cookie_line(jar)
    if not any(cookies.is_session(name) for name in jar) or len(line) > cookies.MAX_BYTES:
        return None
    token = csrf_token(response.headers, jar)
    return Grant(line, LIFETIME, _csrf_line(*token) if token is not None else b"")


def csrf_token(headers: Mapping[str, str], jar: Mapping[str, str]) -> tuple[str, str] | None:
    """Name and value for the CSRF header: from a response header, else from a cookie."""
    for name in cookies.CSRF_NAMES:
        value = headers.get(name, "")
        if is_visible(value):
            return name, value
    return cookies.csrf_cookie(jar)


def wants_token(response: IssuerResponse) -> bool:
    """Whether a login is refused for want of a CSRF token: Spring says so, or answers 403, which no password earns."""
    if response.status not in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return False
    if b"csrf" in response.body.lower():
        return True
    return response.status == HTTPStatus.FORBIDDEN and not is_page(response.headers, response.body)


def _with_token(page: IssuerResponse) -> dict[str, str]:
    jar = cookies.apply({}, page.set_cookies)
    token = csrf_token(page.headers, jar)
    headers = dict([token]) if token is not None else {}
    line = cookies.cookie_line(jar).decode("ascii")
    if line:
        headers["Cookie"] = line.removeprefix("Cookie: ").rstrip()
    return headers


def _csrf_line(name: str, value: str) -> bytes:
    return f"{name}: {value}\r\n".encode("ascii")


def _is_ours(name: str) -> bool:
    return cookies.is_session(name) or cookies.csrf_cookie({name: "x"}) is not None
