"""The values that a configuration's text stands for, beyond numbers and text: addresses, rules, a required header."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A host (name or address, IPv6 without brackets) and a port; port 0 is any free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A Unix socket's path."""

    path: Path

    def __str__(self) -> str:
        return f"unix:{self.path}"


Address = TcpAddress | UnixAddress


@dataclass(frozen=True, slots=True)
class Upstream:
    """An upstream's base URL, taken apart."""

    scheme: Literal["http", "https"]
    host: str
    """A name or an address, IPv6 without brackets."""
    port: int
    base_path: str
    """Without a trailing slash; empty for the root."""

    @property
    def authority(self) -> str:
        """`Host`'s value: without a default port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = 443 if self.scheme == "https" else 80
        return host if self.port == default else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """Scheme and authority: `https://example.com`."""
        return f"{self.scheme}://{self.authority}"

    def __str__(self) -> str:
        return f"{self.origin}{self.base_path}"


NOWHERE = Upstream("https", "invalid", 443, "")
"""Stands for an upstream that is missing or wrong while the rest is checked."""


@dataclass(frozen=True, slots=True)
class Rule:
    """`GET /api/public/**`: a method (None: any; GET includes HEAD) and a pattern for the path after the prefix."""

    method: str | None
    pattern: str

    def __str__(self) -> str:
        return f"{self.method} {self.pattern}" if self.method else self.pattern


@dataclass(frozen=True, slots=True)
class RequiredHeader:
    """A header that must be there; with a value, exactly that."""

    name: str
    value: str | None = field(default=None, repr=False)
