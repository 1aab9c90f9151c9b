"""What everything of one token manager shares."""

from __future__ import annotations

import random
from dataclasses import dataclass

from sidecar.clock import Clock
from sidecar.config.settings import Refresh, TokenRequests
from sidecar.tokens.encryption import KeyRing
from sidecar.tokens.observer import TokenObserver
from sidecar.tokens.stores.base import SharedStore


@dataclass(slots=True)
class Context:
    """Settings may be replaced by a reload."""

    store: SharedStore
    clock: Clock
    observer: TokenObserver
    rng: random.Random
    """For jitter alone."""
    requests: TokenRequests
    refresh: Refresh
    keyring: KeyRing
    shared_only: bool
    """No issuer is asked while the store cannot be written to."""
