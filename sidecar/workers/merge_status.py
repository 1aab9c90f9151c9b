"""Many workers' `/status` as one sidecar's. Pure."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import TypeVar

from msgspec.structs import replace

from sidecar.admin.problems import with_problems
from sidecar.admin.status_model import IssuerStatus, RouteStatus, Status, TokenStatus

T = TypeVar("T")


def merge_status(first: Status, others: Mapping[int, Status | None]) -> Status:
    """What `first` says of the process and its addresses; of the rest, what all of them say together.

    `others` are by worker; None for one that does not answer.
    """
    everybody = [first, *(one for one in others.values() if one is not None)]
    reason = first.reason or next(_reasons(others), None)
    whole = replace(
        first,
        ready=reason is None,
        reason=reason,
        routes=_each((one.routes for one in everybody), lambda route: route.name, _route),
        tokens=_each((one.tokens for one in everybody), lambda t: (t.credential, t.audience, t.issuer), _token),
        issuers=_each((one.issuers for one in everybody), lambda issuer: issuer.issuer, _issuer),
        store=replace(first.store, up=all(one.store.up for one in everybody)),
        mistakes=next((one.mistakes for one in everybody if one.mistakes), ()),
        reload_refused_at=_latest(one.reload_refused_at for one in everybody),
        secret_files={key: reason for one in everybody for key, reason in one.secret_files.items()},
        log_lines_dropped=sum(one.log_lines_dropped for one in everybody),
        log_lines_dropped_at=_latest(one.log_lines_dropped_at for one in everybody),
        workers=1 + len(others),
        workers_missing=sum(one is None for one in others.values()),
    )
    return with_problems(whole, (problem for one in everybody for problem in one.problems))


def _reasons(others: Mapping[int, Status | None]) -> Iterator[str]:
    for index, one in others.items():
        if one is None:
            yield f"waiting for: worker {index}"
        elif one.reason:
            yield f"worker {index}: {one.reason}"


def _each(lists: Iterable[Iterable[T]], key: Callable[[T], Hashable], merged: Callable[[list[T]], T]) -> tuple[T, ...]:
    """One of each key, in the order in which they first come."""
    groups: dict[Hashable, list[T]] = {}
    for items in lists:
        for item in items:
            groups.setdefault(key(item), []).append(item)
    return tuple(map(merged, groups.values()))


def _route(seen: list[RouteStatus]) -> RouteStatus:
    return replace(
        seen[0],
        requests=sum(one.requests for one in seen),
        errors=sum(one.errors for one in seen),
        in_flight=sum(one.in_flight for one in seen),
        failing=next((one.failing for one in seen if one.failing), ""),
        failing_since=_latest(one.failing_since for one in seen if one.failing),
    )


def _token(seen: list[TokenStatus]) -> TokenStatus:
    """The one who knows most: of a quarantine, else of the token that lives longest."""
    return max(
        seen, key=lambda one: (one.refused, one.quarantined_until or 0.0, one.expires_at or 0.0, one.detail != "")
    )


def _issuer(seen: list[IssuerStatus]) -> IssuerStatus:
    return replace(
        seen[0],
        requests=sum(one.requests for one in seen),
        next_slot_at=_latest(one.next_slot_at for one in seen),
        cooldown_until=_latest(one.cooldown_until for one in seen),
    )


def _latest(moments: Iterable[float | None]) -> float | None:
    return max((moment for moment in moments if moment is not None), default=None)
