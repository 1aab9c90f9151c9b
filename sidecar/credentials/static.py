"""Credentials that need no issuer: a static token, HTTP Basic, and none."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import Final, assert_never

from sidecar.config.settings import Basic, StaticToken
from sidecar.credentials.file_watching import Watched, setting_of
from sidecar.credentials.token_response import bearer_header, is_visible
from sidecar.errors import SecretUnavailableError, TokenUnavailableError
from sidecar.proxy.authorizer import Attachment

RETRY_AFTER: Final = 5.0
"""Seconds within which a changed secret file is noticed."""


@dataclass(frozen=True, slots=True)
class StaticAttachment:
    """Header lines that stay as they are."""

    header: bytes = field(default=b"", repr=False)
    unsafe_header: bytes = field(default=b"", repr=False)


class StaticAuthorizer:
    """An `Authorizer`: a header from a file. Where it is refused, the file may have a newer one."""

    def __init__(self, name: str, attachment: Watched[StaticAttachment]) -> None:
        """`name` is the credential's."""
        self._name = name
        self._watched = attachment

    def current(self) -> Attachment | None:
        """The header in force; None while its file cannot be read."""
        return self._watched.current

    def renewed(self, attachment: Attachment) -> Attachment | None:  # noqa: ARG002 (the Protocol's signature)
        """The header in force: it does not expire."""
        return self._watched.current

    async def obtain(self) -> Attachment:
        """The header in force.

        Raises:
            TokenUnavailableError: its file cannot be read.
        """
        if self._watched.current is None:
            raise TokenUnavailableError(
                f"Credential {self._name} cannot be read: see the sidecar's log.", retry_after=RETRY_AFTER
            )
        return self._watched.current

    def refuses(self, status: int, *, safe: bool) -> bool:  # noqa: ARG002 (the Protocol's signature)
        """A 401 (RFC 9110, 15.5.2) does; but what is in no file cannot be replaced, so that nothing follows from it."""
        return status == HTTPStatus.UNAUTHORIZED and self._watched.may_change

    async def replace(self, refused: Attachment) -> Attachment | None:
        """The file's content, where it is another by now."""
        await self._watched.refresh()
        newest = self._watched.current
        return newest if newest is not refused else None

    def invalidate(self, refused: Attachment) -> None:
        """Nothing is kept that could be forgotten."""

    def replayed(self, attachment: Attachment, *, accepted: bool) -> None:
        """Nothing follows from it."""

    def received_cookies(self, attachment: Attachment, set_cookie: Sequence[bytes]) -> None:
        """There is no session that a cookie could change."""


def attachment(credential: StaticToken | Basic) -> Watched[StaticAttachment]:
    """The header of a credential, made again when its secret's file changes."""
    match credential:
        case StaticToken(name=name, token=source):
            return Watched(setting_of(name, "token", source), [source.file], partial(_bearer, credential))
        case Basic(name=name, password=source):
            return Watched(setting_of(name, "password", source), [source.file], partial(_basic, credential))
        case _:
            assert_never(credential)


def _bearer(settings: StaticToken) -> StaticAttachment:
    token = settings.token.read().reveal()
    if not is_visible(token):
        raise SecretUnavailableError(
            f"The token of credential {settings.name} has spaces or characters outside ASCII: write the bare token,"
            " without Bearer before it."
        )
    return StaticAttachment(bearer_header(token))


def _basic(settings: Basic) -> StaticAttachment:
    """RFC 7617, in UTF-8; a configuration with a colon in the user's name is refused."""
    pair = f"{settings.username}:{settings.password.read().reveal()}"
    return StaticAttachment(b"Authorization: Basic " + base64.b64encode(pair.encode()) + b"\r\n")
