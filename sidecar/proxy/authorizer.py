"""All that the data plane knows of tokens: give me the credential to attach; this one was refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Attachment(Protocol):
    """One version of a credential, ready to send."""

    @property
    def header(self) -> bytes:
        """Complete header lines with CRLF, attached to every request; empty for `none`."""
        ...

    @property
    def unsafe_header(self) -> bytes:
        """More of them, for unsafe methods only."""
        ...


class Authorizer(Protocol):
    """A route's credential. Shared by routes of one token identity."""

    def current(self) -> Attachment | None:
        """The hot path: a fresh (or stale, but serving) credential at once, or None: then `obtain`.

        No lock, no await, no allocation.
        """
        ...

    def renewed(self, attachment: Attachment) -> Attachment | None:
        """What to send instead of `attachment`, after a wait for a connection; mostly the same, and not counted again.

        None: it has expired meanwhile; `obtain`.
        """
        ...

    async def obtain(self) -> Attachment:
        """Wait for a credential, at most `token_requests.max_wait`.

        Raises:
            TokenUnavailableError, CredentialRejectedError: for the client to see.
        """
        ...

    def refuses(self, status: int, *, safe: bool) -> bool:
        """Whether an upstream's `status` (401 or 403) to a request says that the credential was refused.

        `safe` is the request method's (RFC 9110, 9.2.1): Spring's CSRF filter answers 403 to unsafe ones only.
        """
        ...

    async def replace(self, refused: Attachment) -> Attachment | None:
        """Compare and invalidate `refused`; the next credential to replay with, or None: pass the answer on."""
        ...

    def invalidate(self, refused: Attachment) -> None:
        """Compare and invalidate, without waiting: the request's body is gone, nothing can be replayed."""
        ...

    def replayed(self, attachment: Attachment, *, accepted: bool) -> None:
        """How the one replay went: a forced refresh that did not help is backed off."""
        ...

    def received_cookies(self, attachment: Attachment, set_cookie: Sequence[bytes]) -> None:
        """The upstream's `Set-Cookie` values: a session that it rotates is taken over. Most credentials ignore it."""
        ...
