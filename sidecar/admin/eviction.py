"""Keeps the admin listener answering: the oldest connection makes room for the newest."""

from __future__ import annotations

import asyncio

from sidecar.admin import web


class EvictingFactory:
    """Makes a protocol for each connection and aborts the oldest over `limit`.

    Whoever has been connected longest has had its answer, or never asked, or is a status page, which comes again: idle
    connections, however many a peer opens, cannot keep a probe out.
    """

    def __init__(self, server: web.Server, limit: int) -> None:
        self._server = server
        self._limit = limit

    def __call__(self) -> asyncio.BaseProtocol:
        """The next connection's protocol."""
        connections = self._server.connections
        for oldest in connections[: max(0, len(connections) - self._limit + 1)]:
            oldest.force_close()
            if oldest.transport is not None:
                oldest.transport.abort()  # force_close() alone lets a stalled write linger
        return self._server()
