"""All that the data plane knows of credentials: one is asked for, and told to be refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Attachment(Protocol):
    """One version of a credential as header lines."""

    @property
    def header(self) -> bytes:
        """Complete header lines with CRLF for every request; empty if the route has no credential."""

    @property
    def unsafe_header(self) -> bytes:
        """More of them, for unsafe methods only (RFC 9110, 9.2.1)."""


def lines_of(attachment: Attachment) -> list[tuple[str, str]]:
    """Return a credential's header lines, those for unsafe methods too, by name and value."""
    lines = (attachment.header + attachment.unsafe_header).decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines if line)
    return [(name, value.strip(" \t")) for name, _, value in pairs]


class Issuer(Protocol):
    """What has tokens that may be given to programs: the authorizer of a `client_credentials` credential."""

    async def issue(self) -> tuple[str, int, str]:
        """A token's text, the seconds that it has left, and its scope, empty where that is not known.

        Raises:
            TokenUnavailableError, CredentialRejectedError: there is none.
        """


class Authorizer(Protocol):
    """A route's credential. Shared by routes of one token identity."""

    def current(self) -> Attachment | None:
        """A credential that is at hand, or None: then `obtain` waits for one.

        Every request asks for it: no lock, no await, no allocation.
        """

    def renewed(self, attachment: Attachment) -> Attachment | None:
        """What to send after a wait for a connection: mostly `attachment` itself, and it is not counted again.

        None: it has expired meanwhile, and `obtain` waits for another one.
        """

    async def obtain(self) -> Attachment:
        """Wait for a credential, at most `token_requests.max_wait`.

        Raises:
            TokenUnavailableError, CredentialRejectedError: for the client to see.
        """

    def refuses(self, status: int, *, safe: bool) -> bool:
        """Whether an upstream's `status` (401 or 403) to a request says that the credential was refused.

        `safe` tells about the request's method (RFC 9110, 9.2.1): Spring's CSRF filter answers 403 to unsafe ones only.
        """

    async def replace(self, refused: Attachment) -> Attachment | None:
        """Invalidate `refused`, unless that is done; another credential to send, or None: pass the response on."""

    def invalidate(self, refused: Attachment) -> None:
        """Invalidate `refused`, unless that is done; the request cannot be sent again, for its body is gone."""

    def replayed(self, attachment: Attachment, *, accepted: bool) -> None:
        """How the one replay went: a forced refresh that did not help is backed off."""

    def received_cookies(self, attachment: Attachment, set_cookie: Sequence[bytes]) -> None:
        """Tell the upstream's `Set-Cookie` values: a session may have been renewed. Most credentials ignore them."""
