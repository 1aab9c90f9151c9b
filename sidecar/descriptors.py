"""How a process's file descriptors are shared out: when clients have used up theirs, the rest still works."""

from __future__ import annotations

import resource
from contextlib import suppress
from dataclasses import dataclass

RESERVE = 512
"""Kept back for what is neither a client's nor an upstream's connection: the admin listener, tokens, names, files."""


@dataclass(frozen=True)
class Descriptors:
    """The most file descriptors that each purpose may have."""

    proxy: int
    """For clients' and upstreams' connections together."""
    clients: int
    """Of those; idle clients leave enough for the requests of the others."""
    refused: int
    """For clients that are told that there are too many of them."""
    admin: int
    authorize: int
    """For the proxies that ask for a credential."""


def share_out(limit: int) -> Descriptors:
    """Share out `limit` file descriptors."""
    reserve = min(RESERVE, limit // 4)
    proxy = limit - reserve
    return Descriptors(
        proxy=proxy, clients=proxy * 3 // 4, refused=reserve // 8, admin=reserve // 4, authorize=reserve // 2
    )


def raise_limit() -> int:
    """Raise the process's limit, which often is 1,024 where much more is allowed; the limit that is in force then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    return 1 << 30 if soft == resource.RLIM_INFINITY else soft
