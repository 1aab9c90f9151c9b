"""What a running sidecar says of itself, put together from what its parts say. Never a token, never a secret."""

from __future__ import annotations

from urllib.parse import urlsplit

import msgspec

from sidecar.admin.status import IssuerStatus, RouteStatus, Status, StoreStatus, TokenStatus
from sidecar.config.settings import FileStore, RedisStore, Settings, TokenStore
from sidecar.telemetry.http import HttpStats
from sidecar.tokens.snapshot import Snapshot


class ProcessFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What only the running process knows."""

    pid: int
    version: str
    started_at: float
    uptime: float
    not_ready: str | None
    listen: str
    admin: str
    store_up: bool


def routes(settings: Settings, stats: HttpStats) -> tuple[RouteStatus, ...]:
    """Each configured route, and what it has done since the start."""
    return tuple(
        RouteStatus(
            name=route.name,
            prefix=route.prefix,
            upstream=str(route.upstream),
            credential=route.credential,
            audience=route.audience,
            requests=(counters := stats.route(route.name)).requests.total(),
            errors=sum(count for (_, _, source), count in counters.requests.items() if source == "sidecar"),
            in_flight=counters.in_flight,
        )
        for route in settings.routes
    )


def tokens(settings: Settings, snapshot: Snapshot) -> tuple[TokenStatus, ...]:
    """Each token identity, with the routes that share it."""
    return tuple(
        TokenStatus(
            credential=one.credential,
            audience=one.audience or None,
            issuer=one.issuer,
            state=one.state,
            expires_at=one.expires_at,
            refreshes_at=one.refreshes_at,
            quarantined_until=one.quarantined_until,
            detail=one.detail,
            routes=tuple(
                route.name
                for route in settings.routes
                if (route.credential, route.audience or "") == (one.credential, one.audience)
            ),
        )
        for one in snapshot.identities
    )


def issuers(snapshot: Snapshot) -> tuple[IssuerStatus, ...]:
    """Each issuer's budget."""
    return tuple(
        IssuerStatus(
            issuer=one.issuer,
            min_interval=one.min_interval,
            requests=one.requests,
            next_slot_at=one.next_slot_at,
            cooldown_until=one.cooldown_until,
        )
        for one in snapshot.budgets
    )


def store(configured: TokenStore, *, up: bool) -> StoreStatus:
    """The store: its kind and its place."""
    match configured:
        case FileStore():
            return StoreStatus(type="file", location=str(configured.directory), up=up)
        case RedisStore():
            url = urlsplit(configured.url.read().reveal())
            return StoreStatus(type="redis", location=f"{url.hostname or ''}:{url.port or 6379}", up=up)
        case _:
            return StoreStatus(type="memory", up=up)


def describe(settings: Settings, stats: HttpStats, snapshot: Snapshot, process: ProcessFacts) -> Status:
    """All of it."""
    return Status(
        pid=process.pid,
        version=process.version,
        started_at=process.started_at,
        uptime=process.uptime,
        ready=process.not_ready is None,
        reason=process.not_ready,
        listen=process.listen,
        admin=process.admin,
        configuration=settings.source,
        routes=routes(settings, stats),
        tokens=tokens(settings, snapshot),
        issuers=issuers(snapshot),
        store=store(settings.token_store, up=process.store_up),
    )
