"""Who a client is: the configuration's `clients`, and what a client shows to be one of them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress

from sidecar.config.settings import Client
from sidecar.errors import InvalidClientError, SecretUnavailableError, TokenUnavailableError
from sidecar.proxy import semantics
from sidecar.secret import Secret

ANYBODY = "-"
"""The name, in logs and metrics, of a client that the configuration does not know."""
_RETRY_AFTER = 5.0
_UNKNOWN = Secret(secrets.token_hex(32))
"""What the secret of an unknown client is compared with, so that it takes as long as a known one's."""


class Clients:
    """The clients of one configuration."""

    def __init__(self, clients: Mapping[str, Client], secrets_: Mapping[str, Callable[[], Secret]]) -> None:
        """`secrets_` gives each client's secret, by name, as it is now."""
        self._clients = clients
        self._secrets = secrets_

    def __iter__(self) -> Iterator[str]:
        return iter(self._clients)

    def __contains__(self, name: str) -> bool:
        return name in self._clients

    def by_secret(self, name: str, secret: str) -> Client | None:
        """Return the client that has this name and this secret. It takes the same time for every name.

        Raises:
            TokenUnavailableError: the client's secret cannot be read.
        """
        known = self._secrets.get(name)
        try:
            expected = known() if known is not None else _UNKNOWN
        except SecretUnavailableError:
            text = f"The secret of client {name} cannot be read: see the sidecar's log."
            raise TokenUnavailableError(text, retry_after=_RETRY_AFTER) from None
        is_right = hmac.compare_digest(_digest(secret), _digest(expected.reveal()))
        return self._clients.get(name) if is_right and known is not None else None


def basic(head: bytes, decode: Callable[[str], str] = str) -> tuple[str, str] | None:
    """Return name and secret of a head's HTTP Basic (RFC 7617), each decoded; None where it has no Authorization.

    Raises:
        InvalidClientError: there are several, or it is of another kind.
    """
    values = [value for value in semantics.field_values(head, b"authorization") if value]
    if not values:
        return None  # an empty one, which the official JavaScript client sends, is none
    scheme, _, encoded = values[0].partition(b" ")
    name = colon = secret = ""
    if len(values) == 1 and scheme.lower() == b"basic":
        with suppress(ValueError):
            name, colon, secret = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    if not colon:
        raise InvalidClientError("Authorization has to be one line of HTTP Basic, with a name and a secret.")
    return decode(name), decode(secret)


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
