"""Makes one `/status` of several workers'. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from operator import itemgetter
from typing import TypeVar

from msgspec.structs import replace
from prometheus_client import Metric

from sidecar.admin.problems import with_problems
from sidecar.admin.status_model import IssuerStatus, ProblemStatus, RouteStatus, Status, TokenStatus
from sidecar.config.urls import origin

T = TypeVar("T")


def merge_status(
    first: Status, others: Mapping[int, Status | None], metrics: Sequence[Metric], before: Iterable[ProblemStatus] = ()
) -> Status:
    """What `first` says of the process and its addresses; of the rest, what all of them say together.

    Args:
        first: the first worker's.
        others: by worker; None for one that does not answer.
        metrics: all workers' together, which count for workers that have died, too.
        before: the problems that the last look found; one that is still there keeps its `since`.
    """
    everybody = [first, *(one for one in others.values() if one is not None)]
    requests, own = (
        _counts(metrics, "camunda_sidecar_http_requests_total", key)
        for key in (itemgetter("route"), itemgetter("route", "source"))
    )
    asked = _counts(metrics, "camunda_sidecar_token_requests_total", lambda labels: origin(labels["issuer"]))
    reason = first.reason or next(_reasons(others), None)
    whole = replace(
        first,
        ready=reason is None,
        reason=reason,
        routes=_each((one.routes for one in everybody), lambda route: route.name, partial(_route, requests, own)),
        tokens=_each((one.tokens for one in everybody), lambda t: (t.credential, t.audience, t.issuer), _token),
        issuers=_each((one.issuers for one in everybody), lambda one: one.issuer, partial(_issuer, asked)),
        store=next((one.store for one in everybody if not one.store.up), first.store),
        mistakes=next((one.mistakes for one in everybody if one.mistakes), ()),
        reload_refused_at=_latest(one.reload_refused_at for one in everybody),
        secret_files={key: reason for one in everybody for key, reason in one.secret_files.items()},
        log_lines_dropped=_counts(metrics, "camunda_sidecar_log_lines_dropped_total", lambda _: "")[""],
        log_lines_dropped_at=_latest(one.log_lines_dropped_at for one in everybody),
        workers=1 + len(others),
        workers_missing=sum(one is None for one in others.values()),
    )
    return with_problems(whole, [*before, *(problem for one in everybody for problem in one.problems)])


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


def _counts(metrics: Sequence[Metric], name: str, key: Callable[[Mapping[str, str]], Hashable]) -> Counter[Hashable]:
    """The sums of a family's samples that have the same key of their labels."""
    counts: Counter[Hashable] = Counter()
    for family in metrics:
        for sample in family.samples if name.startswith(family.name) else ():
            if sample.name == name:
                counts[key(sample.labels)] += int(sample.value)
    return counts


def _route(requests: Counter[Hashable], own: Counter[Hashable], seen: list[RouteStatus]) -> RouteStatus:
    name = seen[0].name
    return replace(
        seen[0],
        requests=requests[name],
        errors=own[name, "sidecar"],
        last_error=max((one.last_error for one in seen if one.last_error), key=lambda error: error.at, default=None),
        in_flight=sum(one.in_flight for one in seen),
        recent_requests=sum(one.recent_requests for one in seen),
        recent_upstream_errors=sum(one.recent_upstream_errors for one in seen),
        failing=next((one.failing for one in seen if one.failing), ""),
        failing_since=min((one.failing_since for one in seen if one.failing and one.failing_since), default=None),
        failed_at=max(one.failed_at for one in seen),
    )


def _token(seen: list[TokenStatus]) -> TokenStatus:
    """The one who knows most: of a quarantine, else of the token that lives longest."""
    return max(
        seen, key=lambda one: (one.refused, one.quarantined_until or 0.0, one.expires_at or 0.0, one.detail != "")
    )


def _issuer(asked: Counter[Hashable], seen: list[IssuerStatus]) -> IssuerStatus:
    return replace(
        seen[0],
        requests=max(
            asked[seen[0].issuer], sum(one.requests for one in seen)
        ),  # a reload ends series that are wanted no more
        next_slot_at=_latest(one.next_slot_at for one in seen),
        cooldown_until=_latest(one.cooldown_until for one in seen),
    )


def _latest(moments: Iterable[float | None]) -> float | None:
    return max((moment for moment in moments if moment is not None), default=None)
