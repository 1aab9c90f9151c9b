"""Asking an issuer now, whatever is cached or in quarantine: `doctor`'s own flight, beside the lifecycle's.

It keeps what keeps others safe: the shared budget's slot before each attempt, a cool-down for everybody after a 429.
A success is saved for everybody, and so ends the identity's quarantine.
"""

from __future__ import annotations

import random
from typing import Final

from sidecar.clock import Clock
from sidecar.config.settings import TokenRequests
from sidecar.errors import GrantError, GrantRefusedError, GrantThrottledError
from sidecar.tokens.fetching import bounded
from sidecar.tokens.gate import Gate, IssuerBudget
from sidecar.tokens.grant import Grant, GrantSource
from sidecar.tokens.identity import Identity, label, origin
from sidecar.tokens.ledger import Ledger
from sidecar.tokens.observer import NoObserver
from sidecar.tokens.sealing import KeyRing
from sidecar.tokens.shared import PutToken, Token, new_version
from sidecar.tokens.stores.base import Store

ATTEMPTS: Final = 2
PATIENCE: Final = 60.0
"""Seconds for slots: a person waits for `doctor`, and may stop it."""


class Asker:
    """On one store, which is open."""

    def __init__(self, store: Store, clock: Clock, requests: TokenRequests) -> None:
        self._store = store
        self._clock = clock
        self._requests = requests
        self._keyring = KeyRing()
        self._budgets: dict[str, IssuerBudget] = {}

    async def ask(self, source: GrantSource) -> Grant:
        """A new grant.

        Raises:
            GrantError, TokenUnavailableError: why not.
            SecretUnavailableError: the credential's secret cannot be read.
        """
        ledger = Ledger(self._store, self._keyring, Identity.of(source))
        budget = self._budget(source.issuer)
        gate = self._gate(source, budget)
        try:
            grant = bounded(await source.fetch(gate, attempts=ATTEMPTS))
        except GrantThrottledError as error:
            gate.ended("throttled")
            await budget.throttled(error.retry_after)
            raise
        except GrantError as error:
            gate.ended("refused" if isinstance(error, GrantRefusedError) else "failed")
            raise
        gate.ended("success")
        await budget.granted()
        await ledger.change([PutToken(Token(new_version(), grant, gate.sent_at))])
        return grant

    def close(self) -> None:
        """The store stays open: it is the caller's."""
        self._keyring.close()

    def _gate(self, source: GrantSource, budget: IssuerBudget) -> Gate:
        deadline = self._clock.boottime() + PATIENCE
        return Gate(
            budget,
            self._clock,
            NoObserver(),
            issuer=label(source.issuer),
            audience="",
            background=False,
            deadline=lambda: deadline,
            superseded=_never,
        )

    def _budget(self, issuer: str) -> IssuerBudget:
        place = origin(issuer)
        if place not in self._budgets:
            special = {origin(url): seconds for url, seconds in self._requests.issuers.items()}
            interval = special.get(place, self._requests.min_interval)
            rng = random.Random()  # noqa: S311 (jitter)
            self._budgets[place] = IssuerBudget(self._store, self._clock, rng, origin=place, interval=interval)
        return self._budgets[place]


async def _never() -> bool:
    return False
