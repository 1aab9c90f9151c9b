"""The interface between the token core and the credentials: a grant, its source, and what counts the attempts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from sidecar.secret import Secret


@dataclass(frozen=True, slots=True)
class Grant:
    """An issuer's answer, or a login's, in the form in which it is attached: complete header lines.

    `header` and `unsafe_header` end in CRLF and are validated by whoever makes the grant: visible ASCII only, so that
    nothing an issuer says can add a header.
    """

    header: bytes = field(repr=False)
    """`Authorization: Bearer …` or `Cookie: …`, attached to every request."""
    lifetime: float
    """Seconds, counted from `sent_at` of the attempt that brought it; `token_response` has applied its rules."""
    unsafe_header: bytes = field(default=b"", repr=False)
    """More lines for unsafe methods only (RFC 9110, 9.2.1): a session's CSRF token."""
    scope: str = ""
    """`scope` of the issuer's answer, where it gave one."""


@dataclass(frozen=True, slots=True)
class TokenAttachment:
    """One version of a credential, ready to send: a `proxy.authorizer.Attachment`."""

    header: bytes = field(repr=False)
    unsafe_header: bytes = field(repr=False)
    version: str


class AttemptGate(Protocol):
    """Every attempt to reach the issuer waits for its slot here, aiohttp-retry's included."""

    async def slot(self) -> None:
        """Wait for this attempt's slot in the issuer's budget.

        Raises:
            TokenUnavailableError: there is none within the client's patience; nothing was reserved.
        """
        ...

    def sent(self) -> None:
        """The attempt's head has left: the next slot, and the grant's lifetime, count from now."""
        ...

    async def postpone(self, seconds: float) -> None:
        """The issuer asks for a pause (503 with `Retry-After`): no attempt of anybody on the store is sooner."""
        ...


class GrantSource(Protocol):
    """One way to obtain a grant for one token identity: client credentials, a session login."""

    @property
    def issuer(self) -> str:
        """The token endpoint's, or the login's, URL; its origin (scheme, host, port) is what the budget belongs to."""
        ...

    @property
    def parameters(self) -> tuple[tuple[str, str], ...]:
        """Everything else that reaches the issuer, but the secret: with it, the whole token identity."""
        ...

    def secret(self) -> Secret:
        """The credential's own secret as it is in force now (a private key and a password alike)."""
        ...

    def refuses(self, status: int, *, safe: bool) -> bool:
        """Whether an upstream's 401 or 403 says that the grant was refused; see `proxy.authorizer.Authorizer`."""
        ...

    def rotate(self, grant: Grant, set_cookie: Sequence[bytes]) -> Grant | None:
        """The grant with the cookies that the upstream set, or None where they change nothing."""
        ...

    async def fetch(self, gate: AttemptGate, *, attempts: int) -> Grant:
        """Ask the issuer, up to `attempts` times at transient faults, each through `gate`.

        Raises:
            GrantFailedError: a transient fault, on the last attempt too.
            GrantThrottledError: 429, or a firewall's page; never retried here.
            GrantRefusedError: a definite refusal; never retried here.
            TokenUnavailableError: the gate's.
        """
        ...
