"""What a running sidecar says of itself, put together from what its parts say. Never a token, never a secret."""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress
from urllib.parse import urlsplit

from msgspec.structs import replace

from sidecar.admin.status_model import ErrorStatus, RouteStatus, Status, StoreStatus, TokenStatus
from sidecar.config.settings import FileStore, RedisStore, Settings, TokenStore
from sidecar.errors import SecretUnavailableError
from sidecar.secret import SecretSource
from sidecar.telemetry.history import History
from sidecar.telemetry.http import HttpStats
from sidecar.tokens.snapshot import Snapshot


def routes(settings: Settings, stats: HttpStats, history: History) -> tuple[RouteStatus, ...]:
    """Each configured route, and what it has done since the start."""
    return tuple(
        RouteStatus(
            name=route.name,
            prefix=route.prefix,
            upstream=str(route.upstream),
            credential=route.credential,
            audience=route.audience,
            requests=sum((counters := stats.route(route.name)).requests.values()),
            errors=sum(count for (_, _, source), count in counters.requests.items() if source == "sidecar"),
            in_flight=counters.in_flight,
            failing=counters.failing,
            failing_since=counters.failing_since,
            failed_at=counters.failed_at,
            last_error=ErrorStatus(*counters.last_error) if counters.last_error else None,
            recent_requests=(lately := history.lately(route.name))[0],
            recent_upstream_errors=lately[1],
        )
        for route in settings.all_routes
    )


def tokens(settings: Settings, snapshot: Snapshot) -> tuple[TokenStatus, ...]:
    """Each credential's and audience's token, with the routes that use it."""
    users: defaultdict[tuple[str, str | None], list[str]] = defaultdict(list)
    for route in settings.all_routes:
        users[route.credential, route.audience or None].append(route.name)
    return tuple(replace(one, routes=tuple(users[one.credential, one.audience])) for one in snapshot.tokens)


def describe_store(configured: TokenStore) -> StoreStatus:
    """The store: its kind and its place."""
    match configured:
        case FileStore():
            return StoreStatus(type="file", location=str(configured.directory))
        case RedisStore(url=None, sentinel=sentinel):
            return StoreStatus(type="redis", location=sentinel.service if sentinel is not None else "")
        case RedisStore(url=SecretSource() as source):
            with suppress(SecretUnavailableError):
                url = urlsplit(source.read().reveal())
                return StoreStatus(type="redis", location=f"{url.hostname or ''}:{url.port or 6379}")
            return StoreStatus(type="redis", location=str(source.file or ""))
        case _:
            return StoreStatus(type="memory")


def describe(process: Status, settings: Settings, stats: HttpStats, history: History, snapshot: Snapshot) -> Status:
    """`process`, which has what only the running process knows, with what its parts say of themselves."""
    return replace(
        process,
        routes=routes(settings, stats, history),
        tokens=tokens(settings, snapshot),
        issuers=snapshot.issuers,
    )
