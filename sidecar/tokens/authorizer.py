"""What the data plane calls: `proxy.authorizer.Authorizer` for one route's credential and audience."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from sidecar.clock import Clock
from sidecar.errors import SecretUnavailableError, TokenUnavailableError
from sidecar.tokens.entry import Entry, Held
from sidecar.tokens.grant import GrantSource

SECRET_RETRY_AFTER = 5.0
"""Seconds within which a repaired secret file is noticed."""


class Attachment(Protocol):
    """A credential to send: `proxy.authorizer.Attachment`, which this package does not import."""

    @property
    def header(self) -> bytes:
        """Complete header lines."""
        ...

    @property
    def unsafe_header(self) -> bytes:
        """More of them."""
        ...


@dataclass(frozen=True, slots=True)
class Names:
    """What a route's credential, audience and issuer are called in logs, metrics and `/status`."""

    issuer: str
    credential: str
    audience: str


class Hits:
    """How many tokens of one audience were handed out from memory."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


class TokenAuthorizer:
    """Routes with the same token identity share an entry. When the secret changes, another entry takes its place."""

    __slots__ = ("_bind", "_hits", "_now", "entry", "names", "retired", "secret_error", "source")

    def __init__(
        self, source: GrantSource, names: Names, bind: Callable[[TokenAuthorizer], None], hits: Hits, clock: Clock
    ) -> None:
        """`bind` sets `entry` to that of the source's identity as it is now; it raises `SecretUnavailableError`."""
        self.source = source
        self.names = names
        self._bind = bind
        self._hits = hits
        self._now = clock.boottime
        self.entry: Entry | None = None
        """The entry in use; None while the secret could not be read yet."""
        self.secret_error = ""
        """Why the secret could not be read at the last attempt."""
        self.retired = False
        """Its route is not configured any more: the last requests on it keep to the entry that they have."""

    def current(self) -> Held | None:
        """The token in memory, if it may be handed out now without a decision or after one."""
        entry = self.entry
        if entry is not None and self._now() < entry.serve_until:
            self._hits.count += 1
            return entry.attachment
        return self._touch()

    def renewed(self, attachment: Attachment) -> Held | None:  # noqa: ARG002 (the Protocol's; ours is always newest)
        """The newest token in memory; it is not counted as handed out again."""
        return self.entry.touch() if self.entry is not None else None

    async def obtain(self) -> Held:
        """Wait for a token, at most `token_requests.max_wait`.

        Raises:
            TokenUnavailableError, CredentialRejectedError: there is none to be had.
        """
        self.rebind()
        if self.entry is None or self.secret_error:
            # The error's text names a file of this host, which is the log's and `status`'s business.
            raise TokenUnavailableError(
                "The credential's secret cannot be read: see the sidecar's log.", retry_after=SECRET_RETRY_AFTER
            )
        return await self.entry.obtain()

    def refuses(self, status: int, *, safe: bool) -> bool:
        """Whether an upstream's `status` says that the token was refused."""
        return self.source.refuses(status, safe=safe)

    async def replace(self, refused: Attachment) -> Held | None:
        """The token after the one that an upstream refused, or None: the refusal stands."""
        if self.entry is None or not isinstance(refused, Held):
            return None
        return await self.entry.replace(refused.version)

    def invalidate(self, refused: Attachment) -> None:
        """Drop the token that an upstream refused, without waiting for the next."""
        if self.entry is not None and isinstance(refused, Held):
            self.entry.invalidate(refused.version)

    def replayed(self, attachment: Attachment, *, accepted: bool) -> None:  # noqa: ARG002 (the Protocol's)
        """Tell how the upstream answered the request that was sent again."""
        if self.entry is not None:
            self.entry.replayed(accepted=accepted)

    def received_cookies(self, attachment: Attachment, set_cookie: Sequence[bytes]) -> None:
        """Take over a session that the upstream changes by `Set-Cookie`."""
        if self.entry is not None and isinstance(attachment, Held):
            self.entry.received_cookies(attachment.version, set_cookie)

    def rebind(self) -> None:
        """Follow the source's secret, as far as it can be read."""
        if self.retired:
            return
        try:
            self._bind(self)
        except SecretUnavailableError as error:
            self.secret_error = error.detail
        else:
            self.secret_error = ""

    def _touch(self) -> Held | None:
        if self.entry is None:
            self.rebind()
        held = self.entry.touch() if self.entry is not None else None
        if held is not None:
            self._hits.count += 1
        return held
