"""Binding the admin listener, and keeping it answering: the oldest connection makes room for the newest."""

from __future__ import annotations

import asyncio
import errno
import socket
import stat
from contextlib import suppress
from pathlib import Path

from sidecar.admin import web
from sidecar.config.settings import Address, UnixAddress

SOCKET_MODE = 0o660
BACKLOG = 128


class EvictingFactory:
    """Makes a protocol for each connection and aborts the oldest over `limit`.

    Every answer here is short, so whoever has been connected longest has had its answer, or never asked: idle
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


async def bind(factory: EvictingFactory, address: Address) -> tuple[asyncio.Server, Address]:
    """Listen on `address`; the address returned has the real port where 0 was asked for.

    Raises:
        OSError: the address is in use, not this host's, or not permitted.
    """
    loop = asyncio.get_running_loop()
    if isinstance(address, UnixAddress):
        bound = bind_unix(address.path)
        return await loop.create_unix_server(factory, sock=bound, backlog=BACKLOG), address
    server = await loop.create_server(factory, address.host, address.port, backlog=BACKLOG)
    port: int = server.sockets[0].getsockname()[1]
    return server, type(address)(address.host, port)


def unlink_socket(path: Path) -> None:
    """Remove a Unix socket's file, and only that."""
    with suppress(FileNotFoundError):
        if stat.S_ISSOCK(path.lstat().st_mode):
            path.unlink()


def bind_unix(path: Path) -> socket.socket:
    """A socket with permissions 0660 from its first moment; one that nobody listens on any more is replaced.

    Raises:
        OSError: the path is in use, or not permitted.
    """
    if _is_served(path):
        raise OSError(errno.EADDRINUSE, f"another process is listening on {path}")
    unlink_socket(path)  # left behind by one that was killed
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        bound.bind(str(path))
        path.chmod(SOCKET_MODE)  # before listen(): until then nobody can connect
    except OSError:
        bound.close()
        raise
    return bound


def _is_served(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True
