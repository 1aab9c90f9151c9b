"""The token core's door: one manager a process, one entry an identity, one budget an issuer."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Mapping
from dataclasses import replace

import structlog

from sidecar.clock import Clock
from sidecar.config.settings import Refresh, TokenRequests
from sidecar.errors import TokenUnavailableError
from sidecar.tokens.authorizer import Hits, Names, TokenAuthorizer
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
    """Keeps one token per identity for everything on a store, within what each issuer allows.

    An authorizer is in use from `authorizer` until `retire`; an entry and a budget for as long as an authorizer in use
    needs them.
    """

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
        self._authorizers: list[TokenAuthorizer] = []
        self._entries: dict[Identity, Entry] = {}
        self._retired: list[Entry] = []
        """Entries that no authorizer in use needs, while somebody still waits for their answer."""
        self._budgets: dict[str, IssuerBudget] = {}
        self._hits: dict[str, Hits] = {}
        self._started = False

    async def start(self) -> None:
        """Open the store. A store that cannot be used is reported, and is no reason not to start."""
        await self._store.open()
        self._started = True

    async def close(self) -> None:
        """End every flight, save what is to be saved, let the store go."""
        gone = TokenUnavailableError("The sidecar is shutting down.", retry_after=1.0)
        await asyncio.gather(*(entry.close(gone) for entry in (*self._entries.values(), *self._retired)))
        self._keyring.close()
        await self._store.close()

    def authorizer(self, source: GrantSource, *, credential: str, audience: str | None) -> TokenAuthorizer:
        """The authorizer of one route. Both names are for people: the identity is what the source says it is."""
        names = Names(label(source.issuer), credential, audience or "")
        self._observer.registered(issuer=names.issuer, credential=credential, audience=names.audience)
        hits = self._hits.setdefault(names.audience, Hits())
        authorizer = TokenAuthorizer(source, names, self._bind, hits, self._clock)
        self._authorizers.append(authorizer)
        authorizer.rebind()
        return authorizer

    def retire(self, authorizers: Iterable[TokenAuthorizer]) -> None:
        """These are not used by any new request from now on; what only they needed is given up."""
        gone = set(authorizers)
        for authorizer in gone:
            authorizer.retired = True
        self._authorizers = [authorizer for authorizer in self._authorizers if authorizer not in gone]
        names = {authorizer.names for authorizer in self._authorizers}
        for retired in {authorizer.names for authorizer in gone} - names:
            self._observer.retired(issuer=retired.issuer, credential=retired.credential, audience=retired.audience)
        audiences = {each.audience for each in names}
        self._hits = {audience: hits for audience, hits in self._hits.items() if audience in audiences}
        self._give_up_unused()

    def reconfigure(self, requests: TokenRequests, refresh: Refresh) -> None:
        """New settings, from now on."""
        self._around.requests = requests
        self._rules = _rules(refresh, requests)
        for budget in self._budgets.values():
            budget.interval = self._interval(budget.origin)
        for entry in self._entries.values():
            entry.follow(self._rules)

    def secrets_changed(self) -> None:
        """Some secret may be another one: the routes of its credential get the token of a new identity."""
        for authorizer in self._authorizers:
            authorizer.rebind()

    async def end_quarantines(self) -> None:
        """Ask again for what was refused, when it is next wanted; on the whole store."""
        await asyncio.gather(*(entry.end_quarantine() for entry in self._entries.values()))

    def memory_lookups(self) -> Mapping[str, int]:
        """By audience, how many tokens were handed out from memory since the start."""
        return {audience: hits.count for audience, hits in self._hits.items()}

    def snapshot(self) -> Snapshot:
        """Identities, budgets and quarantines, for people and for gauges; never a token."""
        return describe(self._authorizers, self._budgets.values(), self._clock)

    # --- identities ----------------------------------------------------------------------------------------------

    def _bind(self, authorizer: TokenAuthorizer) -> None:
        """Give the authorizer the entry of its identity as it is now.

        Another entry of the same names that differs by its secret alone hands over to it, with all authorizers that
        have these names: a secret file was changed, or a reload brought another secret.

        Raises:
            SecretUnavailableError: the secret cannot be read.
        """
        identity = Identity.of(authorizer.source)
        if authorizer.entry is not None and authorizer.entry.identity == identity:
            return
        entry = self._entry(identity, authorizer)
        namesakes = [other for other in self._authorizers if other.names == authorizer.names]
        before = next((other.entry for other in namesakes if _only_secret_differs(other.entry, identity)), None)
        for other in namesakes:
            if other is authorizer or (before is not None and other.entry is before):
                other.entry = entry
        if before is not None:
            self._hand_over(before, entry)

    def _hand_over(self, before: Entry, entry: Entry) -> None:
        log.info("a credential's secret changed: the next token is obtained with the new one", **before.names)
        self._observer.invalidated(audience=before.audience, reason="secret_changed")
        entry.take_over(before)
        others = [authorizer for authorizer in self._authorizers if authorizer.entry is before]
        if others:  # of another credential, whose secret is still the same
            before.source = others[0].source
        else:
            entry.take_waiters(before)
            self._give_up_unused()

    def _entry(self, identity: Identity, authorizer: TokenAuthorizer) -> Entry:
        source, names = authorizer.source, authorizer.names
        entry = self._entries.get(identity)
        if entry is None:
            entry = self._entries[identity] = Entry(
                self._around,
                source,
                identity,
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

    def _give_up_unused(self) -> None:
        used = {authorizer.entry for authorizer in self._authorizers}
        for identity, entry in list(self._entries.items()):
            if entry not in used:
                del self._entries[identity]
                self._keyring.forget(identity.secret)
                entry.retire()
                self._retired.append(entry)
        self._retired = [entry for entry in self._retired if entry.busy]
        origins = {entry.budget.origin for entry in self._entries.values()}
        self._budgets = {place: budget for place, budget in self._budgets.items() if place in origins}

    def _budget(self, issuer: str) -> IssuerBudget:
        place = origin(issuer)
        if place not in self._budgets:
            self._budgets[place] = IssuerBudget(
                self._store, self._clock, self._rng, origin=place, interval=self._interval(place)
            )
        return self._budgets[place]

    def _interval(self, place: str) -> float:
        requests = self._around.requests
        special = {origin(url): seconds for url, seconds in requests.issuers.items()}
        return special.get(place, requests.min_interval)

    async def _reseal(self, before: bytes, after: bytes) -> dict[str, Move]:
        return dict([await entry.ledger.move(before, after) for entry in list(self._entries.values())])


def _only_secret_differs(entry: Entry | None, identity: Identity) -> bool:
    if entry is None or entry.identity == identity:
        return False
    return replace(entry.identity, secret=identity.secret) == identity


def _rules(refresh: Refresh, requests: TokenRequests) -> Rules:
    return Rules(refresh.after, refresh.leeway, requests.max_wait)
