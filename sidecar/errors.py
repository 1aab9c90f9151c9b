"""Every error that the sidecar makes: one tree, stable codes, and a sentence that a person can act on.

The type says what a caller needs to know: which `code` and HTTP status a client sees (`Problem` and its children;
`proxy/problem.py` alone turns them into bytes), and what the token core does next (`GrantError` and its children).

No message may carry a secret, a token, or an address that the client does not already know.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


class SidecarError(Exception):
    """The root of the tree."""

    hint: ClassVar[str] = ""
    """What a person can do about any error of this type."""

    def __init__(self, detail: str, *, retry_after: float | None = None) -> None:
        """Make the error.

        Args:
            detail: a whole sentence: what happened, where, and what to do.
            retry_after: the seconds after which trying again can help, where they are known.
        """
        super().__init__(detail)
        self.detail = detail
        self.retry_after = retry_after


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
        """Keep `taken`, the address, where another process listens on it."""
        super().__init__(detail)
        self.taken = taken


# --- what a client sees (RFC 9457) -------------------------------------------------------------------------------


class Problem(SidecarError):  # noqa: N818 (RFC 9457's own word)
    """An error that becomes a response. `code` and `status` are a contract: the README has a table of them."""

    code: ClassVar[str]
    status: ClassVar[int]
    title: ClassVar[str]


class BadRequestError(Problem):
    """What came in is not one unambiguous HTTP/1.1 request."""

    code, status, title = "bad_request", 400, "Bad request"


class UnauthorizedError(Problem):
    """The client is none of `clients`, where only those may come in."""

    code, status, title = "unauthorized", 401, "Unknown client"


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

    code, status, title = "upstream_unreachable", 502, "Upstream unreachable"


class UpstreamProtocolError(Problem):
    """The upstream's answer is not one unambiguous HTTP/1.1 response, or ended early."""

    code, status, title = "upstream_protocol_error", 502, "Upstream sent an invalid response"


class CredentialRejectedError(Problem):
    """The issuer refuses this credential, definitely; asking again does not help."""

    code, status, title = "credential_rejected", 502, "The issuer refused the credential"


class TokenUnavailableError(Problem):
    """No token within `token_requests.max_wait`: throttled, or the issuer is not answering."""

    code, status, title = "token_unavailable", 503, "No token available"


class DrainingError(Problem):
    """The sidecar is shutting down."""

    code, status, title = "draining", 503, "Shutting down"


class OverloadedError(Problem):
    """A limit on connections or requests in flight is reached."""

    code, status, title = "overloaded", 503, "Overloaded"


class UpstreamTimeoutError(Problem):
    """The upstream did not answer in time."""

    code, status, title = "upstream_timeout", 504, "Upstream timeout"


# --- what the token endpoint says of a request (RFC 6749, 5.2) ---------------------------------------------------


class InvalidRequestError(Problem):
    """A token request lacks a field, has one twice, or is neither a form nor JSON."""

    code, status, title = "invalid_request", 400, "Invalid token request"


class InvalidClientError(InvalidRequestError):
    """The client is not known, or its secret is another one."""

    code, status = "invalid_client", 401


class UnsupportedGrantTypeError(InvalidRequestError):
    """Another grant than `client_credentials` is asked for."""

    code = "unsupported_grant_type"


class InvalidScopeError(InvalidRequestError):
    """No credential asks its issuer for this scope."""

    code = "invalid_scope"


class InvalidTargetError(InvalidRequestError):
    """No route has this audience, or the client may not have a token for it (RFC 8707, 2)."""

    code = "invalid_target"


# --- how obtaining a grant fails ---------------------------------------------------------------------------------


class GrantError(SidecarError):
    """An attempt to obtain a grant failed; the type says what the token core does next."""


class GrantFailedError(GrantError):
    """A transient fault: no connection, a 5xx, a response without a token. It never leads to a quarantine."""


class GrantInterruptedError(GrantFailedError):
    """A fault that the next attempt may not meet: no connection, a 5xx, a garbled response.

    A fetch that clients wait for tries again; where a 5xx named a time, nobody asks the issuer sooner.
    """


class GrantThrottledError(GrantError):
    """The issuer said 429, or a firewall in front of it refused: everybody on the store cools down."""


class GrantRefusedError(GrantError):
    """The issuer refused this one credential for this one audience, definitely: it is quarantined."""

    def __init__(self, detail: str, *, oauth_error: str) -> None:
        """Keep the issuer's own error code (RFC 6749, 5.2), without secrets and what cannot be printed."""
        super().__init__(detail)
        self.oauth_error = oauth_error
