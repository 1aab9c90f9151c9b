"""The calls under way: counted, bounded and logged."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import structlog

from sidecar.clock import Clock
from sidecar.grpc import methods
from sidecar.grpc.statuses import CLIENT, HTTP_STATUS, SIDECAR, Status
from sidecar.telemetry.http import RouteStats

if TYPE_CHECKING:
    from sidecar.grpc.call import Call

_ID_LENGTH = 128
_LOGS_FROM = {"all": 0, "errors": 400, "none": 1000}

_log = structlog.get_logger("sidecar.grpc")


class Account:
    """All calls of one listener."""

    def __init__(self, stats: RouteStats, guard_rejections: Counter[str], clock: Clock) -> None:
        """`stats` are the route's counters, `guard_rejections` the guard's."""
        self.stats = stats
        self.guard_rejections = guard_rejections
        self._clock = clock
        self.calls: set[Call] = set()
        """Under way."""
        self.limit = 0
        self.access = "errors"

    def is_full(self) -> bool:
        """Whether the newest call is one too many."""
        return len(self.calls) > self.limit

    def began(self, call: Call) -> None:
        """It is under way."""
        self.calls.add(call)
        self.stats.in_flight += 1

    def ended(self, call: Call, status: Status, seconds: float) -> None:
        """It is over, after `seconds`."""
        self.calls.discard(call)
        self.stats.in_flight -= 1
        code = HTTP_STATUS[status.code]
        self.stats.finished(methods.label(call.method), code, status.source, seconds)
        own = status.error.code if status.error is not None else ""
        self.stats.erred(self._clock.wall(), code, status.source, own, call.request_id)
        if own and status.source == SIDECAR:
            self.stats.failed(own, self._clock.wall())
        # A client ends a long poll or a stream by cancelling it, or by its deadline: that is no error.
        if code >= _LOGS_FROM[self.access] and (status.source != CLIENT or self.access == "all"):
            self._log(call, status, code, seconds)

    def _log(self, call: Call, status: Status, code: int, seconds: float) -> None:
        error = status.error
        _log.info(
            "request",
            route=self.stats.route,
            method=methods.label(call.method),
            path=call.method,
            status=code,
            grpc_status=status.code.name,
            source=status.source,
            milliseconds=round(seconds * 1000, 1),
            request_id=call.request_id[:_ID_LENGTH],
            **({"code": error.code, "detail": error.detail} if error is not None else {}),
            **({"reason": status.reason} if status.reason else {}),
        )
