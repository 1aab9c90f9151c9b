"""Which metadata passes, and in what form a credential is attached. Pure.

Metadata are HTTP/2's fields; the rules are the same as for HTTP/1.1's.
"""

from __future__ import annotations

from collections.abc import Iterable

from sidecar.proxy import semantics
from sidecar.proxy.authorizer import Attachment

Metadata = tuple[tuple[str, str | bytes], ...]
"""Names in lower case; values are bytes where the name ends in `-bin`."""

REQUEST_ID = "x-request-id"
# The core writes its own in any case.
_CORES_OWN = frozenset({"user-agent"})


def of_credential(attachment: Attachment) -> Metadata:
    """The credential's header lines as metadata. gRPC's calls are POST requests, so those for unsafe methods too."""
    lines = (attachment.header + attachment.unsafe_header).decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines if line)
    return tuple((name.lower(), value.strip(" \t")) for name, _, value in pairs)


def for_upstream(metadata: Iterable[tuple[str, str | bytes]]) -> Metadata:
    """A client's metadata, less its own credentials and what it may not say of itself."""
    return tuple((name, value) for name, value in metadata if name not in _CORES_OWN and _passes(name))


def for_client(metadata: Iterable[tuple[str, str | bytes]] | None) -> Metadata:
    """The upstream's metadata or trailers, less what means this sidecar or its session with the upstream."""
    return tuple((name, value) for name, value in metadata or () if semantics.is_returned(name.encode()))


def values(metadata: Iterable[tuple[str, str | bytes]], names: frozenset[bytes]) -> dict[bytes, bytes]:
    """The values of these names, for the guard."""
    pairs = ((name.encode(), value) for name, value in metadata)
    return {name: value.encode() if isinstance(value, str) else value for name, value in pairs if name in names}


def request_id(metadata: Iterable[tuple[str, str | bytes]]) -> str | None:
    """The client's own id of this call, where it gave one."""
    return next((str(value) for name, value in metadata if name == REQUEST_ID), None)


def _passes(name: str) -> bool:
    return semantics.is_forwarded(name.encode())
