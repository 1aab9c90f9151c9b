"""Where tokens, budgets and quarantines are shared: memory, a directory, Redis."""

from __future__ import annotations

from typing import assert_never

from sidecar.clock import Clock
from sidecar.config import settings
from sidecar.tokens.observer import TokenObserver
from sidecar.tokens.stores.base import SharedStore, TlsContext
from sidecar.tokens.stores.degrading import DegradingStore
from sidecar.tokens.stores.file import FileStore
from sidecar.tokens.stores.memory import MemoryStore


def build_store(
    configured: settings.TokenStore,
    clock: Clock,
    observer: TokenObserver,
    tls_context: TlsContext | None = None,
    *,
    counted: bool = True,
) -> SharedStore:
    """The configured store; one that fails is replaced by this process's memory until it works again.

    `tls_context`: what Redis needs for TLS. `counted`: this process is one of those that share the issuers' rate; a
    command beside a sidecar is none.
    """
    match configured:
        case settings.MemoryStore():
            return MemoryStore(clock)
        case settings.FileStore(directory, group):
            return DegradingStore(FileStore(directory, group, clock), clock, observer)
        case settings.RedisStore():
            from sidecar.tokens.stores import redis  # noqa: PLC0415 (its library costs who has none)

            assert tls_context is not None
            store = redis.RedisStore(configured, clock, tls_context, counted=counted)
            return DegradingStore(store, clock, observer, redis.stranger(configured.processes))
        case _:
            assert_never(configured)
