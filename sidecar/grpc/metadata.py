"""Which metadata passes, and in what form a credential is attached. Pure.

Metadata are HTTP/2's fields; the rules are the same as for HTTP/1.1's.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from sidecar.proxy import semantics
from sidecar.proxy.authorizer import Attachment, lines_of

Metadata = tuple[tuple[str, str | bytes], ...]
"""Names in lower case; values are bytes where the name ends in `-bin`."""

Received = Iterable[tuple[str, str | bytes]]

REQUEST_ID = "x-request-id"
_NAMES = 512
"""Whether they pass is remembered of so many names."""


class Credentials:
    """Credentials as metadata. The last one is remembered: calls mostly have the same."""

    def __init__(self) -> None:
        self._attachment: Attachment | None = None
        self._metadata: Metadata = ()

    def of(self, attachment: Attachment) -> Metadata:
        """Its header lines; gRPC's calls are POST requests, so those for unsafe methods too."""
        if attachment is not self._attachment:
            self._metadata = tuple((name.lower(), value) for name, value in lines_of(attachment))
            self._attachment = attachment
        return self._metadata


def for_upstream(metadata: Received) -> Metadata:
    """A client's metadata, less its own credentials and what it may not say of itself."""
    return tuple((name, value) for name, value in metadata if _is_forwarded(name))


def for_client(metadata: Received | None) -> Metadata:
    """The upstream's metadata or trailers, less what means this sidecar or its session with the upstream."""
    return tuple((name, value) for name, value in metadata or () if _is_returned(name))


def values(metadata: Received, names: frozenset[str]) -> dict[bytes, bytes]:
    """The values of these names, for the guard."""
    found = ((name, value) for name, value in metadata if name in names)
    return {name.encode(): value.encode() if isinstance(value, str) else value for name, value in found}


def request_id(metadata: Received) -> str | None:
    """The client's own id of this call, where it gave one."""
    return next((str(value) for name, value in metadata if name == REQUEST_ID), None)


@lru_cache(_NAMES)
def _is_forwarded(name: str) -> bool:
    # The core writes a user-agent of its own in any case.
    return name != "user-agent" and semantics.is_forwarded(name.encode())


@lru_cache(_NAMES)
def _is_returned(name: str) -> bool:
    return semantics.is_returned(name.encode())
