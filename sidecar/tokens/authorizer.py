"""What the data plane calls: `proxy.authorizer.Authorizer` for one route's credential and audience."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sidecar.clock import Clock
from sidecar.errors import SecretUnavailableError, TokenUnavailableError
from sidecar.tokens.cached_token import CachedToken
from sidecar.tokens.grant import GrantSource, TokenAttachment
from sidecar.tokens.identity import Labels
from sidecar.tokens.token_state import is_worth_issuing

SECRET_RETRY_AFTER = 5.0
"""Seconds within which a repaired secret file is noticed."""
RETRY_AFTER = 2.0
"""Seconds after which a token that could not be refreshed is asked for again."""


class TokenAuthorizer:
    """Routes with the same token identity share a cached token. When the secret changes, another takes its place."""

    __slots__ = ("_bind", "_now", "hits", "labels", "retired", "secret_error", "source", "token")

    def __init__(
        self, source: GrantSource, labels: Labels, bind: Callable[[TokenAuthorizer], None], clock: Clock
    ) -> None:
        """`bind` sets `token` to that of the source's identity as it is now; it raises `SecretUnavailableError`."""
        self.source = source
        self.labels = labels
        self.token: CachedToken | None = None
        """The token in use; None while the secret could not be read yet."""
        self.secret_error = ""
        """Why the secret could not be read at the last attempt."""
        self.retired = False
        """Its route is not configured any more: the last requests on it keep to the token that they have."""
        self.hits = 0
        """How many times the token was handed out from memory."""
        self._bind = bind
        self._now = clock.boottime

    def current(self) -> TokenAttachment | None:
        """The token in memory, if it may be handed out now without a decision or after one."""
        token = self.token
        if token is not None and self._now() < token.serve_until:
            self.hits += 1
            return token.attachment
        return self._touch()

    def renewed(self, attachment: object) -> TokenAttachment | None:  # noqa: ARG002 (the Protocol's; ours is newest)
        """The newest token in memory; it is not counted as handed out again."""
        return self.token.touch() if self.token is not None else None

    async def obtain(self) -> TokenAttachment:
        """Wait for a token, at most `token_requests.max_wait`.

        Raises:
            TokenUnavailableError, CredentialRejectedError: there is none to be had.
        """
        self.rebind()
        if self.token is None or self.secret_error:
            # The error's text names a file of this host, which is the log's and `status`'s business.
            raise TokenUnavailableError(
                "The credential's secret cannot be read: see the sidecar's log.", retry_after=SECRET_RETRY_AFTER
            )
        return await self.token.obtain()

    async def issue(self) -> tuple[str, int, str]:
        """A token for a program of this host: its text, the seconds that it has left, and its scope if it is known.

        A token that is about to end is refreshed first.

        Raises:
            TokenUnavailableError, CredentialRejectedError: there is none to be had.
        """
        began = self._now()
        await self.obtain()
        for last in (False, True):
            if (cached := self.token) is None:
                break
            now, token = self._now(), cached.state.token
            if token is not None and is_worth_issuing(cached.state, token, now):
                text = token.grant.header.removeprefix(b"Authorization: Bearer ").strip().decode("ascii")
                return text, int(token.end - now), token.grant.scope
            if not last:
                await cached.refreshed(began)
        raise TokenUnavailableError("The token is about to end, and the issuer gave no other.", retry_after=RETRY_AFTER)

    def refuses(self, status: int, *, safe: bool) -> bool:
        """Whether an upstream's `status` says that the token was refused."""
        return self.source.refuses(status, safe=safe)

    async def replace(self, refused: object) -> TokenAttachment | None:
        """The token after the one that an upstream refused, or None: the refusal stands."""
        if self.token is None or not isinstance(refused, TokenAttachment):
            return None
        return await self.token.replace(refused.version)

    def invalidate(self, refused: object) -> None:
        """Drop the token that an upstream refused, without waiting for the next."""
        if self.token is not None and isinstance(refused, TokenAttachment):
            self.token.invalidate(refused.version)

    def replayed(self, attachment: object, *, accepted: bool) -> None:  # noqa: ARG002 (the Protocol's)
        """Tell how the upstream answered the request that was sent again."""
        if self.token is not None:
            self.token.replayed(accepted=accepted)

    def received_cookies(self, attachment: object, set_cookie: Sequence[bytes]) -> None:
        """Take over a session that the upstream changes by `Set-Cookie`."""
        if self.token is not None and isinstance(attachment, TokenAttachment):
            self.token.received_cookies(attachment.version, set_cookie)

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

    def _touch(self) -> TokenAttachment | None:
        if self.token is None:
            self.rebind()
        attachment = self.token.touch() if self.token is not None else None
        if attachment is not None:
            self.hits += 1
        return attachment
