"""What open status pages are sent: server-sent events (HTML, 9.2), built once for all of them."""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec
from msgspec.structs import replace

from sidecar.admin import web
from sidecar.admin.problems import RECENT_SECONDS
from sidecar.admin.status_model import RouteStatus, Status
from sidecar.admin.view import View
from sidecar.clock import Clock
from sidecar.errors import OverloadedError
from sidecar.telemetry.history import STEP, Recent

PACE: Final = 2.0
"""Seconds between two events; longer where building one takes more than a twentieth of that."""
PATIENCE: Final = 10.0
"""Seconds for a page to take an event. One that does not is cut off, connects again, and gets everything."""
MOST_STREAMS: Final = 16
MOST_ROWS: Final = 100
"""Of routes, tokens, problems and issuers each: what is in trouble first."""


class Feed:
    """The events of all pages that are open. Nothing is queued: each event has all that is to be shown."""

    def __init__(self, view: View, clock: Clock) -> None:
        self._view = view
        self._clock = clock
        self._tasks: set[asyncio.Task[object] | None] = set()
        self._lock = asyncio.Lock()
        self._latest = b""
        self._built = -PACE
        """When `_latest` was built, in seconds of the monotonic clock."""
        self._pause = PACE

    async def stream(self, request: web.BaseRequest, fields: dict[str, str]) -> web.StreamResponse:
        """Send events until the page is gone. `fields` are header fields of the answer.

        Raises:
            OverloadedError: too many pages are open.
        """
        if len(self._tasks) >= MOST_STREAMS:
            raise OverloadedError(f"{MOST_STREAMS} status pages are open already.", retry_after=PACE)
        task = asyncio.current_task()
        self._tasks.add(task)
        response = web.StreamResponse(headers={**fields, "Content-Type": "text/event-stream"})
        try:
            event = await self._build(0)
            await response.prepare(request)
            while request.method != "HEAD":
                async with asyncio.timeout(PATIENCE):
                    await response.write(b"data: " + event + b"\n\n")
                await self._clock.sleep(self._pause)
                event = await self._next()
        except BaseException as error:
            # Whatever it is, no answer can follow what was sent already.
            if response.prepared and request.transport is not None:
                request.transport.abort()
            if not isinstance(error, ConnectionError | TimeoutError):
                raise
        finally:
            self._tasks.discard(task)
        return response

    def close(self) -> None:
        """End all streams."""
        for task in self._tasks:
            if task is not None:
                task.cancel()

    async def _next(self) -> bytes:
        async with self._lock:
            began = self._clock.monotonic()
            if began - self._built >= self._pause / 2:
                self._latest = await self._build(int(self._clock.wall()) // STEP - 1)
                self._built = self._clock.monotonic()
                self._pause = max(PACE, 20 * (self._built - began))
            return self._latest

    async def _build(self, since: int) -> bytes:
        status, recent = await asyncio.gather(self._view.status(), self._view.recent(since))
        return msgspec.json.encode(shown(status, recent))


def shown(status: Status, recent: Recent) -> dict[str, object]:
    """What a page shows: of thousands of routes and tokens, those in trouble first, and how many are left out."""
    now = status.started_at + status.uptime
    ill = {(t.credential, t.audience) for t in status.tokens if t.refused or t.new_secret or t.detail}

    def rank(route: RouteStatus) -> tuple[bool, bool, bool]:
        error = route.last_error
        return (
            not route.failing,
            (route.credential, route.audience or None) not in ill,
            error is None or now - error.at > RECENT_SECONDS,
        )

    routes = status.routes
    if len(routes) > MOST_ROWS:
        routes = tuple(sorted(routes, key=lambda route: -route.requests))
    routes = tuple(sorted(routes, key=rank))
    used = {(route.credential, route.audience or None) for route in routes[:MOST_ROWS]}
    keys = {(token.credential, token.audience): token for token in status.tokens}
    tokens = tuple(keys[key] for key in sorted(keys, key=lambda key: (key not in ill, key not in used)))
    lists: dict[str, tuple[object, ...]] = {
        "routes": routes,
        "tokens": tokens,
        "issuers": status.issuers,
        "problems": status.problems,
    }
    hidden = {name: len(rows) - MOST_ROWS for name, rows in lists.items() if len(rows) > MOST_ROWS}
    kept = replace(status, **{name: rows[:MOST_ROWS] for name, rows in lists.items()})
    frames = {route.name: recent.routes[route.name] for route in kept.routes if route.name in recent.routes}
    return {"status": kept, "recent": replace(recent, routes=frames), "hidden": hidden}
