"""Every error that the sidecar makes: one tree, stable codes, and a sentence that a person can act on.

Three questions are answered by the type, so that no caller guesses: which `code` and HTTP status a client sees
(`Problem` and its children; the one place that turns them into bytes is `proxy/problem.py`), whether trying again
can help (`retryable`), and what to do about it (`hint`).

No message may carry a secret, a token, or an address that the client does not already know.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


class SidecarError(Exception):
    """The root. `detail` is a full sentence: what happened, where, and what to do."""

    retryable: ClassVar[bool] = False
    hint: ClassVar[str] = ""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


# --- configuration -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, order=True)
class Mistake:
    """One mistake in a configuration: where it stands and how it is cured."""

    source: str
    """The file, or `environment`."""
    path: str
    """The key's path in it, such as `routes.operate.upstream`; empty for the whole."""
    message: str
    cure: str = ""

    def __str__(self) -> str:
        where = f"{self.source}: {self.path}" if self.path else self.source
        return f"{where}: {self.message}" + (f" ({self.cure})" if self.cure else "")


class ConfigurationError(SidecarError):
    """The configuration cannot be used; `mistakes` has all of them, never just the first. Exit code 2."""

    def __init__(self, mistakes: list[Mistake]) -> None:
        self.mistakes = sorted(mistakes)
        super().__init__("\n".join(str(mistake) for mistake in self.mistakes))


class SecretUnavailableError(SidecarError):
    """A secret's file cannot be read, is empty, or is not what it should be."""


class ListenError(SidecarError):
    """A listener's address cannot be bound; exit code 1."""

    def __init__(self, detail: str, *, taken: str = "") -> None:
        """`taken`: the address, where another process listens on it."""
        super().__init__(detail)
        self.taken = taken


# --- what a client sees (RFC 9457) -------------------------------------------------------------------------------


class Problem(SidecarError):  # noqa: N818 (RFC 9457's own word)
    """An error that becomes a response: `code` and `status` are a contract, see README's table."""

    code: ClassVar[str]
    status: ClassVar[int]
    title: ClassVar[str]

    def __init__(self, detail: str, *, retry_after: float | None = None) -> None:
        """`retry_after` is in seconds; it is sent rounded up, as `Retry-After` (RFC 9110, 10.2.3)."""
        super().__init__(detail)
        self.retry_after = retry_after


class BadRequestError(Problem):
    """What came in is not one unambiguous HTTP/1.1 request."""

    code, status, title = "bad_request", 400, "Bad request"


class CrossSiteError(Problem):
    """A web page of another origin tried to drive the sidecar."""

    code, status, title = "cross_site", 403, "Cross-site request refused"


class ForbiddenByPolicyError(Problem):
    """The route's `allow`, or `guard.require_header`, does not let this request pass."""

    code, status, title = "forbidden_by_policy", 403, "Forbidden by the sidecar's configuration"


class NoRouteError(Problem):
    """No configured prefix matches the path."""

    code, status, title = "no_route", 404, "No such route"


class MethodNotAllowedError(Problem):
    """The admin listener knows the path, but not with this method."""

    code, status, title = "method_not_allowed", 405, "Method not allowed"


class RequestTimeoutError(Problem):
    """The request did not arrive in time."""

    code, status, title = "request_timeout", 408, "Request timeout"


class BodyTooLargeError(Problem):
    """The body is over the route's `max_body`."""

    code, status, title = "body_too_large", 413, "Content too large"


class UriTooLongError(Problem):
    """The request line alone is over `limits.header_bytes`."""

    code, status, title = "uri_too_long", 414, "URI too long"


class UnknownHostError(Problem):
    """`Host` is neither a local name nor listed: DNS rebinding looks like this."""

    code, status, title = "unknown_host", 421, "Misdirected request"


class HeadersTooLargeError(Problem):
    """The head is over `limits.header_bytes`."""

    code, status, title = "headers_too_large", 431, "Request header fields too large"


class UnsupportedError(Problem):
    """A method that a forwarding sidecar must not serve (CONNECT, TRACE)."""

    code, status, title = "unsupported", 501, "Not implemented"


class UpstreamUnreachableError(Problem):
    """No connection to the upstream: DNS, refusal, TLS."""

    code, status, title, retryable = "upstream_unreachable", 502, "Upstream unreachable", True


class UpstreamProtocolError(Problem):
    """The upstream's answer is not one unambiguous HTTP/1.1 response, or ended early."""

    code, status, title, retryable = "upstream_protocol_error", 502, "Upstream sent an invalid response", True


class CredentialRejectedError(Problem):
    """The issuer refuses this credential, definitely; asking again does not help."""

    code, status, title = "credential_rejected", 502, "The issuer refused the credential"


class TokenUnavailableError(Problem):
    """No token within `token_requests.max_wait`: throttled, or the issuer is not answering."""

    code, status, title, retryable = "token_unavailable", 503, "No token available", True


class DrainingError(Problem):
    """The sidecar is shutting down."""

    code, status, title, retryable = "draining", 503, "Shutting down", True


class OverloadedError(Problem):
    """A limit on connections or requests in flight is reached."""

    code, status, title, retryable = "overloaded", 503, "Overloaded", True


class UpstreamTimeoutError(Problem):
    """The upstream did not answer in time."""

    code, status, title, retryable = "upstream_timeout", 504, "Upstream timeout", True


# --- how obtaining a grant fails ---------------------------------------------------------------------------------


class GrantError(SidecarError):
    """An attempt to obtain a grant failed; the type says what the token core does next."""

    def __init__(self, detail: str, *, retry_after: float | None = None) -> None:
        """`retry_after`: seconds, where the issuer named them; nobody on the store asks it sooner."""
        super().__init__(detail)
        self.retry_after = retry_after


class GrantFailedError(GrantError):
    """A transient fault: no connection, a 5xx, a response without a token. Never quarantines."""

    retryable = True


class GrantInterruptedError(GrantFailedError):
    """A fault that the next attempt may not meet: no connection, a 5xx, a garbled response. `fetch` tries it again."""


class GrantThrottledError(GrantError):
    """The issuer said 429, or a firewall in front of it refused: a cool-down for everybody on the store."""

    retryable = True


class GrantRefusedError(GrantError):
    """A definite refusal of this one credential for this one audience: quarantine."""

    def __init__(self, detail: str, *, oauth_error: str) -> None:
        """`oauth_error` is the issuer's own code (RFC 6749, 5.2), without secrets and what cannot be printed."""
        super().__init__(detail)
        self.oauth_error = oauth_error
