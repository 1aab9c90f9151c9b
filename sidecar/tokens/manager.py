"""The token core's interface: one manager a process, one cached token an identity, one budget an issuer."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Final

import structlog

from sidecar import background
from sidecar.clock import Clock
from sidecar.config.settings import Refresh, TokenRequests
from sidecar.config.urls import origin
from sidecar.errors import GrantThrottledError, SecretUnavailableError, TokenUnavailableError
from sidecar.tokens.authorizer import TokenAuthorizer
from sidecar.tokens.cached_token import CachedToken
from sidecar.tokens.context import Context
from sidecar.tokens.encryption import KeyRing
from sidecar.tokens.fetch import bounded
from sidecar.tokens.grant import Grant, GrantSource
from sidecar.tokens.identity import Identity, Labels, label
from sidecar.tokens.issuer_budget import AttemptSlots, IssuerBudget
from sidecar.tokens.observer import TokenObserver
from sidecar.tokens.repository import TokenRepository
from sidecar.tokens.snapshot import Snapshot, describe
from sidecar.tokens.stores.base import SharedStore
from sidecar.tokens.token_record import PutToken, Token, new_version

log = structlog.get_logger(__name__)

FETCH_NOW_ATTEMPTS: Final = 2
FETCH_NOW_PATIENCE: Final = 60.0
"""Seconds for slots: a person waits for `doctor`, and may stop it."""


class TokenManager:
    """Keeps one token per identity for everything on a store, within what each issuer allows.

    An authorizer is in use from `authorizer` until `retire`; a cached token and an issuer's budget for as long as an
    authorizer in use needs them.
    """

    def __init__(
        self,
        store: SharedStore,
        clock: Clock,
        requests: TokenRequests | None = None,
        refresh: Refresh | None = None,
        observer: TokenObserver | None = None,
        *,
        rng: random.Random | None = None,
        shared_only: bool = False,
    ) -> None:
        """`rng` is for jitter alone; tests seed it.

        `shared_only`: while the store cannot be written to, its tokens are used and no issuer is asked. That is for
        commands beside a running sidecar, whose rate limit they must not exceed.
        """
        self._context = Context(
            store,
            clock,
            observer or TokenObserver(),
            rng or random.Random(),  # noqa: S311 (jitter)
            requests or TokenRequests(),
            refresh or Refresh(),
            KeyRing(),
            shared_only,
        )
        self._authorizers: list[TokenAuthorizer] = []
        self._tokens: dict[Identity, CachedToken] = {}
        self._retired: list[CachedToken] = []
        """Tokens that no authorizer in use needs, while something is still to be done for them."""
        self._retired_hits: Counter[str] = Counter()
        self._budgets: dict[str, IssuerBudget] = {}
        self._started = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Open the store. A store that cannot be used is reported, and is no reason not to start."""
        await self._context.store.open()
        self._started = True

    async def close(self) -> None:
        """End every fetch, save what is to be saved, let the store go."""
        for task in self._tasks:
            task.cancel()
        gone = TokenUnavailableError("The sidecar is shutting down.", retry_after=1.0)
        await asyncio.gather(*(token.close(gone) for token in (*self._tokens.values(), *self._retired)))
        await self._context.store.close()

    def authorizer(self, source: GrantSource, *, credential: str, audience: str | None) -> TokenAuthorizer:
        """The authorizer of one route. Both names are for people: the identity is what the source says it is."""
        labels = Labels(label(source.issuer), credential, audience or "")
        self._context.observer.registered(**labels.context())
        authorizer = TokenAuthorizer(source, labels, self._bind, self._context.clock)
        self._authorizers.append(authorizer)
        authorizer.rebind()
        return authorizer

    def retire(self, authorizers: Iterable[TokenAuthorizer]) -> None:
        """These are not used by any new request from now on; what only they needed is given up."""
        gone = set(authorizers)
        self._authorizers = [authorizer for authorizer in self._authorizers if authorizer not in gone]
        labels = {authorizer.labels for authorizer in self._authorizers}
        audiences = {each.audience for each in labels}
        for authorizer in gone:
            authorizer.retired = True
            self._retired_hits[authorizer.labels.audience] += authorizer.hits
        for retired in {authorizer.labels for authorizer in gone} - labels:
            self._context.observer.retired(**retired.context())
            if retired.audience not in audiences:
                del self._retired_hits[retired.audience]
        self._give_up_unused()

    def reconfigure(self, requests: TokenRequests, refresh: Refresh) -> None:
        """New settings, from now on."""
        self._context.requests, self._context.refresh = requests, refresh

    def secrets_changed(self) -> None:
        """Some secret may be another one: the routes of its credential get the token of a new identity."""
        for authorizer in self._authorizers:
            authorizer.rebind()

    async def end_quarantines(self) -> None:
        """Ask again for what was refused, when it is next wanted; on the whole store."""
        await asyncio.gather(*(token.end_quarantine() for token in self._tokens.values()))

    async def stored(self, source: GrantSource) -> Grant | None:
        """Return the token that is on the store, its `lifetime` what is left of it; None: there is none that serves."""
        with suppress(SecretUnavailableError):
            token = (await TokenRepository(self._context, Identity.of(source)).load()).token
            left = token.end - self._context.clock.boottime() if token is not None else 0.0
            return replace(token.grant, lifetime=left) if token is not None and left > 0 else None
        return None

    async def fetch_now(self, source: GrantSource) -> Grant:
        """Ask the issuer as `doctor` does: whatever is cached or refused, in a slot of the shared rate limit.

        The grant is saved for every process on the store, and so ends a quarantine.

        Raises:
            GrantError, TokenUnavailableError: why there is no grant.
            SecretUnavailableError: the credential's secret cannot be read.
        """
        context, budget = self._context, self._budget(source.issuer)
        repository = TokenRepository(context, Identity.of(source))
        deadline = context.clock.boottime() + FETCH_NOW_PATIENCE
        labels = Labels(label(source.issuer), "", "")
        slots = AttemptSlots(budget, context, labels, deadline=lambda: deadline)
        try:
            grant = bounded(await source.fetch(slots, attempts=FETCH_NOW_ATTEMPTS))
        except GrantThrottledError as error:
            await budget.throttled(error.retry_after)
            raise
        slots.ended("success")
        repository.unsaved.append(PutToken(Token(new_version(), grant, slots.sent_at)))
        await repository.save()
        return grant

    def memory_lookups(self) -> Mapping[str, int]:
        """By audience, how many tokens were handed out from memory since the start."""
        counts = Counter(self._retired_hits)
        for authorizer in self._authorizers:
            counts[authorizer.labels.audience] += authorizer.hits
        return counts

    def snapshot(self) -> Snapshot:
        """Tokens and issuers that are in use, for people and for gauges; never a token's value."""
        return describe(self._authorizers, self._budgets.values(), self._context.clock)

    # --- identities ----------------------------------------------------------------------------------------------

    def _bind(self, authorizer: TokenAuthorizer) -> None:
        """Give the authorizer the token of its identity as it is now.

        Another token with the same labels that differs by its secret alone hands over to it, with all authorizers that
        have these labels: a secret file was changed, or a reload brought another secret.

        Raises:
            SecretUnavailableError: the secret cannot be read.
        """
        identity = Identity.of(authorizer.source)
        if authorizer.token is not None and authorizer.token.identity == identity:
            return
        token = self._token(identity, authorizer)
        namesakes = [other for other in self._authorizers if other.labels == authorizer.labels]
        held = (other.token for other in namesakes if other.token is not None)
        before = next((each for each in held if each.identity.differs_by_secret_alone(identity)), None)
        for other in namesakes:
            if other is authorizer or (before is not None and other.token is before):
                other.token = token
        if before is not None:
            self._hand_over(before, token)

    def _hand_over(self, before: CachedToken, token: CachedToken) -> None:
        log.info(
            "a credential's secret changed: the next token is obtained with the new one", **before.labels.context()
        )
        self._context.observer.invalidated(audience=before.labels.audience, reason="secret_changed")
        others = [authorizer for authorizer in self._authorizers if authorizer.token is before]
        if others:  # of another credential, whose secret is still the same
            before.source = others[0].source
        token.take_over(before, clients=not others)
        self._give_up_unused()

    def _token(self, identity: Identity, authorizer: TokenAuthorizer) -> CachedToken:
        token = self._tokens.get(identity)
        if token is None:
            budget = self._budget(authorizer.source.issuer)
            token = CachedToken(self._context, authorizer.source, identity, authorizer.labels, budget)
            self._tokens[identity] = token
            if self._started:
                background.spawn("tokens", token.warm(), self._tasks)
        token.source = authorizer.source  # after a reload, the newest: the old one's files are not watched any more
        return token

    def _give_up_unused(self) -> None:
        used = {authorizer.token for authorizer in self._authorizers}
        for identity, token in list(self._tokens.items()):
            if token not in used:
                del self._tokens[identity]
                self._context.keyring.forget(identity.secret)
                token.retire()
                self._retired.append(token)
        self._retired = [token for token in self._retired if token.busy]
        origins = {token.budget.origin for token in self._tokens.values()}
        self._budgets = {place: budget for place, budget in self._budgets.items() if place in origins}

    def _budget(self, issuer: str) -> IssuerBudget:
        place = origin(issuer)
        if place not in self._budgets:
            self._budgets[place] = IssuerBudget(self._context, place)
        return self._budgets[place]
