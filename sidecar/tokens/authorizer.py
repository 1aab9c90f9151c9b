"""What the data plane calls: `proxy.authorizer.Authorizer` for one route's credential and audience."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from sidecar.clock import Clock
from sidecar.errors import Problem, SecretUnavailableError, TokenUnavailableError
from sidecar.tokens.entry import Entry, Held
from sidecar.tokens.grant import GrantSource

SECRET_RETRY_AFTER = 5.0
"""Seconds within which a repaired secret file is noticed."""


class Attachment(Protocol):
    """See `proxy.authorizer`, which this room does not know."""

    @property
    def header(self) -> bytes:
        """Complete header lines."""
        ...

    @property
    def unsafe_header(self) -> bytes:
        """More of them."""
        ...


class Hits:
    """How many tokens of one audience were handed out from memory."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


class TokenAuthorizer:
    """Routes with the same token identity share an entry; when the secret changes, so does the identity."""

    __slots__ = ("__weakref__", "_entry", "_find", "_hits", "_now", "source")

    def __init__(self, source: GrantSource, find: Callable[[GrantSource], Entry], hits: Hits, clock: Clock) -> None:
        """`find` gives the entry of the source's identity as it is now."""
        self.source = source
        self._find = find
        self._hits = hits
        self._now = clock.boottime
        self._entry: Entry | None = None

    @property
    def entry(self) -> Entry | None:
        """The entry in use; None while the secret could not be read yet."""
        return self._entry

    def current(self) -> Held | None:
        """See `Authorizer`."""
        entry = self._entry
        if entry is not None and self._now() < entry.serve_until:
            self._hits.count += 1
            return entry.attachment
        return self._touch()

    def renewed(self, attachment: Attachment) -> Held | None:  # noqa: ARG002 (the Protocol's; ours is always newest)
        """See `Authorizer`."""
        return self._entry.touch() if self._entry is not None else None

    async def obtain(self) -> Held:
        """See `Authorizer`."""
        entry = self._bind()
        try:
            return await entry.obtain()
        except Problem:
            if self._entry is entry:
                raise
            return await self._bind().obtain()  # the secret was changed meanwhile

    def refuses(self, status: int, *, safe: bool) -> bool:
        """See `Authorizer`."""
        return self.source.refuses(status, safe=safe)

    async def replace(self, refused: Attachment) -> Held | None:
        """See `Authorizer`."""
        if self._entry is None or not isinstance(refused, Held):
            return None
        return await self._entry.replace(refused.version)

    def invalidate(self, refused: Attachment) -> None:
        """See `Authorizer`."""
        if self._entry is not None and isinstance(refused, Held):
            self._entry.invalidate(refused.version)

    def replayed(self, attachment: Attachment, *, accepted: bool) -> None:  # noqa: ARG002 (the Protocol's)
        """See `Authorizer`."""
        if self._entry is not None:
            self._entry.replayed(accepted=accepted)

    def received_cookies(self, attachment: Attachment, set_cookie: Sequence[bytes]) -> None:
        """See `Authorizer`."""
        if self._entry is not None and isinstance(attachment, Held):
            self._entry.received_cookies(attachment.version, set_cookie)

    def rebind(self) -> bool:
        """Follow the source's secret; whether it is another one now."""
        try:
            entry = self._find(self.source)
        except SecretUnavailableError:
            return False
        changed = self._entry is not None and self._entry is not entry
        self._entry = entry
        return changed

    def _bind(self) -> Entry:
        try:
            self._entry = self._find(self.source)
        except SecretUnavailableError as error:
            # Its text names a file of this host, which is the log's and `status`'s business.
            raise TokenUnavailableError(
                "The credential's secret cannot be read: see the sidecar's log.", retry_after=SECRET_RETRY_AFTER
            ) from error
        return self._entry

    def _touch(self) -> Held | None:
        if self._entry is None and not self.rebind():
            return None
        assert self._entry is not None
        held = self._entry.touch()
        if held is not None:
            self._hits.count += 1
        return held
