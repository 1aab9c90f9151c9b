"""The whole cache key: everything that reaches the issuer, and a fingerprint of the secret (DESIGN 5.4)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from sidecar.secret import Secret
from sidecar.tokens.grant import GrantSource

DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Identity:
    """A token identity within this process; two routes with equal ones share a token."""

    issuer: str
    parameters: tuple[tuple[str, str], ...]
    secret: Secret

    @classmethod
    def of(cls, source: GrantSource) -> Identity:
        """The identity that a source stands for now.

        Raises:
            SecretUnavailableError: its secret cannot be read.
        """
        return cls(source.issuer, tuple(source.parameters), source.secret())

    def digest(self, fingerprint: bytes) -> str:
        """Its name on a store: `fingerprint` is the secret's, derived so that it is no oracle (see `sealing`)."""
        fields = (self.issuer, *(part for parameter in sorted(self.parameters) for part in parameter))
        return hashlib.sha256(canonical((*(field.encode() for field in fields), fingerprint))).hexdigest()


def canonical(fields: Iterable[bytes]) -> bytes:
    """An encoding in which no two different sequences are equal: each field after its own length."""
    return b"".join(len(field).to_bytes(8, "big") + field for field in fields)


def origin(url: str) -> str:
    """Scheme, host and port of an issuer, written in one way: what a budget belongs to."""
    parts = urlsplit(url)
    scheme, host = parts.scheme.lower(), (parts.hostname or "").rstrip(".")
    host = f"[{host}]" if ":" in host else host
    port = parts.port or DEFAULT_PORTS.get(scheme)
    return f"{scheme}://{host}" if port == DEFAULT_PORTS.get(scheme) else f"{scheme}://{host}:{port}"


def label(url: str) -> str:
    """An issuer's URL for logs and metrics: without user, query and fragment."""
    return origin(url) + urlsplit(url).path
