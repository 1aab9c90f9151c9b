"""Credentials that need no issuer: a static token, HTTP Basic, and none. Each is an `Authorizer` by itself."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from http import HTTPStatus

from sidecar.config.settings import Basic, StaticToken
from sidecar.credentials.token_response import bearer_header, is_visible
from sidecar.credentials.watched import Watched
from sidecar.errors import SecretUnavailableError, TokenUnavailableError
from sidecar.proxy.authorizer import Attachment

RETRY_AFTER = 5.0
"""Seconds within which a changed secret file is noticed."""


@dataclass(frozen=True, slots=True)
class StaticAttachment:
    """Header lines that stay as they are."""

    header: bytes = field(default=b"", repr=False)
    unsafe_header: bytes = field(default=b"", repr=False)


class NoAuthorizer:
    """Nothing is attached, and nothing can be refused."""

    def __init__(self) -> None:
        self._attachment = StaticAttachment()

    def current(self) -> Attachment | None:
        """See `Authorizer`."""
        return self._attachment

    def renewed(self, attachment: Attachment) -> Attachment | None:  # noqa: ARG002 (the Protocol's signature)
        """See `Authorizer`."""
        return self.current()

    async def obtain(self) -> Attachment:
        """See `Authorizer`."""
        return self._attachment

    def refuses(self, status: int, *, safe: bool) -> bool:  # noqa: ARG002 (the Protocol's signature)
        """What is not there is not refused."""
        return False

    async def replace(self, refused: Attachment) -> Attachment | None:  # noqa: ARG002
        """There is nothing else."""
        return None

    def invalidate(self, refused: Attachment) -> None:
        """Nothing to forget."""

    def replayed(self, attachment: Attachment, *, accepted: bool) -> None:
        """Nothing to learn."""

    def received_cookies(self, attachment: Attachment, set_cookie: Sequence[bytes]) -> None:
        """No session."""


class StaticAuthorizer(NoAuthorizer):
    """A header from a file. Where it is refused, a newer one from the file is the only thing to try."""

    def __init__(self, name: str, attachment: Watched[StaticAttachment]) -> None:
        """`name` is the credential's."""
        super().__init__()
        self._name = name
        self._watched = attachment

    def current(self) -> Attachment | None:
        """See `Authorizer`."""
        return self._watched.current

    async def obtain(self) -> Attachment:
        """See `Authorizer`."""
        attachment = self._watched.current
        if attachment is None:
            raise TokenUnavailableError(
                f"Credential {self._name} cannot be read: see the sidecar's log.", retry_after=RETRY_AFTER
            )
        return attachment

    def refuses(self, status: int, *, safe: bool) -> bool:  # noqa: ARG002
        """A 401 (RFC 9110, 15.5.2)."""
        return status == HTTPStatus.UNAUTHORIZED

    async def replace(self, refused: Attachment) -> Attachment | None:
        """The file's content, where it is another by now."""
        await self._watched.refresh()
        newest = self._watched.current
        return newest if newest is not refused else None


def token_attachment(settings: StaticToken) -> StaticAttachment:
    """`Authorization: Bearer …` from the token as it is now.

    Raises:
        SecretUnavailableError: it cannot be read, or could not stand in a header.
    """
    token = settings.token.read().reveal()
    if not is_visible(token):
        raise SecretUnavailableError(
            f"The token of credential {settings.name} has spaces, line breaks or characters outside ASCII:"
            " write the bare token, without Bearer before it."
        )
    return StaticAttachment(bearer_header(token))


def basic_attachment(settings: Basic) -> StaticAttachment:
    """`Authorization: Basic …` (RFC 7617, in UTF-8); a configuration with a colon in the user's name is refused.

    Raises:
        SecretUnavailableError: the password cannot be read.
    """
    pair = f"{settings.username}:{settings.password.read().reveal()}"
    return StaticAttachment(b"Authorization: Basic " + base64.b64encode(pair.encode()) + b"\r\n")
