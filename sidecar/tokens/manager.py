"""The token core's door: one manager a process, one entry an identity, one budget an issuer."""

from __future__ import annotations

import asyncio
import random
import weakref
from collections.abc import Mapping

import structlog

from sidecar.clock import Clock
from sidecar.config.settings import Refresh, TokenRequests
from sidecar.errors import TokenUnavailableError
from sidecar.tokens.authorizer import Hits, TokenAuthorizer
from sidecar.tokens.entry import Entry, Surroundings
from sidecar.tokens.gate import IssuerBudget
from sidecar.tokens.grant import GrantSource
from sidecar.tokens.identity import Identity, label, origin
from sidecar.tokens.ledger import Ledger
from sidecar.tokens.observer import NoObserver, TokenObserver
from sidecar.tokens.sealing import KeyRing
from sidecar.tokens.slot import Rules
from sidecar.tokens.snapshot import Snapshot, describe
from sidecar.tokens.stores.base import Move, Store
from sidecar.tokens.stores.degrading import DegradingStore

log = structlog.get_logger(__name__)


class TokenManager:
    """Keeps one token per identity for everything on a store, within what each issuer allows."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        requests: TokenRequests | None = None,
        refresh: Refresh | None = None,
        observer: TokenObserver | None = None,
        *,
        rng: random.Random | None = None,
    ) -> None:
        """`rng` is for jitter alone; tests seed it."""
        self._store = store
        if isinstance(store, DegradingStore):
            store.reseal = self._reseal
        self._clock = clock
        self._observer = observer or NoObserver()
        self._rng = rng or random.Random()  # noqa: S311 (jitter)
        self._around = Surroundings(clock, self._observer, self._rng, requests or TokenRequests())
        self._rules = _rules(refresh or Refresh(), self._around.requests)
        self._keyring = KeyRing()
        self._entries: dict[Identity, Entry] = {}
        self._budgets: dict[str, IssuerBudget] = {}
        self._started = False
        self._hits: dict[str, Hits] = {}
        self._authorizers: weakref.WeakSet[TokenAuthorizer] = weakref.WeakSet()

    async def start(self) -> None:
        """Open the store. A store that cannot be used is reported, and is no reason not to start."""
        await self._store.open()
        self._started = True

    async def close(self) -> None:
        """End every flight, save what is to be saved, let the store go."""
        gone = TokenUnavailableError("The sidecar is shutting down.", retry_after=1.0)
        await asyncio.gather(*(entry.close(gone) for entry in self._entries.values()))
        self._keyring.close()
        await self._store.close()

    def authorizer(self, source: GrantSource, *, credential: str, audience: str | None) -> TokenAuthorizer:
        """The authorizer of one route. Both names are for people: the identity is what the source says it is."""
        names = _Names(credential, audience or "", label(source.issuer))
        self._observer.registered(issuer=names.issuer, credential=credential, audience=names.audience)
        authorizer = TokenAuthorizer(
            source,
            lambda wanted: self._entry(wanted, names),
            self._hits.setdefault(names.audience, Hits()),
            self._clock,
        )
        self._authorizers.add(authorizer)
        authorizer.rebind()
        return authorizer

    def reconfigure(self, requests: TokenRequests, refresh: Refresh) -> None:
        """New settings, from now on."""
        self._around.requests = requests
        self._rules = _rules(refresh, requests)
        for budget in self._budgets.values():
            budget.interval = self._interval(budget.origin)
        for entry in self._entries.values():
            entry.follow(self._rules)

    async def secrets_changed(self) -> None:
        """Some secret may be another one: routes whose credential's is get a new identity, without its past."""
        for authorizer in list(self._authorizers):
            before = authorizer.entry
            if authorizer.rebind() and before is not None:
                log.info("a credential's secret changed: its tokens are obtained anew", **before.names)
                self._observer.invalidated(audience=before.audience, reason="secret_changed")
        self._forget_unused()

    async def end_quarantines(self) -> None:
        """Ask again for what was refused, when it is next wanted; on the whole store."""
        self._forget_unused()
        await asyncio.gather(*(entry.end_quarantine() for entry in self._entries.values()))

    def memory_lookups(self) -> Mapping[str, int]:
        """By audience, how many tokens were handed out from memory since the start."""
        return {audience: hits.count for audience, hits in self._hits.items()}

    def snapshot(self) -> Snapshot:
        """Identities, budgets and quarantines, for people; never a token."""
        self._forget_unused()
        return describe(self._entries.values(), self._budgets.values(), self._clock)

    async def _reseal(self, before: bytes, after: bytes) -> dict[str, Move]:
        return dict([await entry.ledger.move(before, after) for entry in list(self._entries.values())])

    def _entry(self, source: GrantSource, names: _Names) -> Entry:
        identity = Identity.of(source)
        entry = self._entries.get(identity)
        if entry is None:
            entry = self._entries[identity] = Entry(
                self._around,
                source,
                Ledger(self._store, self._keyring, identity),
                self._budget(source.issuer),
                issuer=names.issuer,
                credential=names.credential,
                audience=names.audience,
                rules=self._rules,
            )
            if self._started:
                entry.warm()
        entry.source = source  # after a reload, the newest: the old one's files are not watched any more
        return entry

    def _budget(self, issuer: str) -> IssuerBudget:
        place = origin(issuer)
        if place not in self._budgets:
            self._budgets[place] = IssuerBudget(
                self._store, self._clock, self._observer, self._rng, origin=place, interval=self._interval(place)
            )
        self._budgets[place].labels.add(label(issuer))
        return self._budgets[place]

    def _interval(self, place: str) -> float:
        requests = self._around.requests
        special = {origin(url): seconds for url, seconds in requests.issuers.items()}
        return special.get(place, requests.min_interval)

    def _forget_unused(self) -> None:
        used = {authorizer.entry for authorizer in self._authorizers}
        unused = {identity: entry for identity, entry in self._entries.items() if entry not in used}
        for identity, entry in unused.items():
            del self._entries[identity]
            self._keyring.forget(identity.secret)
            entry.retire(TokenUnavailableError("This credential is not configured any more.", retry_after=1.0))
        if unused:
            for entry in self._entries.values():
                entry.report_again()


class _Names:
    """What a route's credential, audience and issuer are called in logs and metrics."""

    def __init__(self, credential: str, audience: str, issuer: str) -> None:
        self.credential = credential
        self.audience = audience
        self.issuer = issuer


def _rules(refresh: Refresh, requests: TokenRequests) -> Rules:
    return Rules(refresh.after, refresh.leeway, requests.max_wait)
