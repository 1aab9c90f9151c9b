"""The whole cache key: everything that reaches the issuer, and the secret."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import urlsplit

from sidecar.config.urls import origin
from sidecar.secret import Secret
from sidecar.tokens.grant import GrantSource

PRINCIPAL: Final = frozenset({"client_id", "username"})
"""The parameters that say who asks."""


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

    def differs_by_secret_alone(self, other: Identity) -> bool:
        """Whether the other one is the same but for its secret."""
        return self != other and replace(self, secret=other.secret) == other

    @property
    def salt(self) -> bytes:
        """The salt of the secret's keys: it follows from issuer and principal, so that all audiences share one key."""
        return _hashed(
            ("salt", self.issuer, *_parts(name for name in self.parameters if name[0] in PRINCIPAL))
        ).digest()

    def digest(self, fingerprint: bytes) -> str:
        """Its name on a store. `fingerprint` is the secret's, derived so that it is as costly to guess as the key."""
        return _hashed(("name", self.issuer, *_parts(self.parameters), fingerprint.hex())).hexdigest()


@dataclass(frozen=True, slots=True)
class Labels:
    """What a route's issuer, credential and audience are called in logs, metrics and `/status`."""

    issuer: str
    credential: str
    audience: str
    """Empty where the route has none."""

    def context(self) -> dict[str, str]:
        """Key and value of each, for a log line."""
        return {"credential": self.credential, "audience": self.audience, "issuer": self.issuer}

    def __str__(self) -> str:
        return f"credential {self.credential}" + (f" (audience {self.audience})" if self.audience else "")


def canonical(fields: Iterable[bytes]) -> bytes:
    """An encoding in which no two different sequences are equal: each field after its own length."""
    return b"".join(len(field).to_bytes(8, "big") + field for field in fields)


def label(url: str) -> str:
    """An issuer's URL for logs and metrics: without user, query and fragment."""
    return origin(url) + urlsplit(url).path


def _parts(parameters: Iterable[tuple[str, str]]) -> Iterable[str]:
    return (part for parameter in sorted(parameters) for part in parameter)


def _hashed(fields: Iterable[str]) -> hashlib._Hash:
    return hashlib.sha256(canonical(field.encode() for field in fields))
