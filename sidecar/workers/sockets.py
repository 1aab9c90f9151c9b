"""The listeners, bound before any worker is forked: a worker that dies takes no queued connection with it.

For TCP each worker has a socket of its own (SO_REUSEPORT), so that the kernel spreads the connections; a Unix socket
is shared by all.
"""

from __future__ import annotations

import socket
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

from sidecar.admin.listener import bind_unix, unlink_socket
from sidecar.config.settings import Address, Settings, TcpAddress, UnixAddress
from sidecar.service import not_bound

BACKLOG = 4096


@dataclass(frozen=True)
class Listeners:
    """Both listeners, with the real ports where 0 was asked for."""

    listen: Address
    admin: Address
    shares: list[list[socket.socket]]
    """The data plane's sockets, by worker; one for each address that the host's name resolves to."""
    admin_sockets: list[socket.socket]

    def close_shares(self) -> None:
        """Let go of the data plane's sockets: each lives on with the workers that serve it."""
        for sock in chain.from_iterable(self.shares):
            sock.close()


def bind_listeners(settings: Settings, workers: int, stack: ExitStack) -> Listeners:
    """Bind everything; `stack` closes it, and removes the Unix sockets' files.

    Raises:
        ListenError: an address is in use, not this host's, or not permitted.
    """
    admin, [admin_sockets] = _bind("admin.listen", settings.admin_listen, 1, stack)
    listen, shares = _bind("listen", settings.listen, workers, stack)
    return Listeners(listen, admin, shares, admin_sockets)


def _bind(key: str, address: Address, count: int, stack: ExitStack) -> tuple[Address, list[list[socket.socket]]]:
    try:
        if isinstance(address, UnixAddress):
            shared = stack.enter_context(bind_unix(address.path))
            stack.callback(partial(unlink_socket, address.path))
            shared.listen(BACKLOG)
            return address, [[shared]] * count
        return _bind_tcp(address, count, stack)
    except OSError as error:
        raise not_bound(key, address, error) from None


def _bind_tcp(address: TcpAddress, count: int, stack: ExitStack) -> tuple[Address, list[list[socket.socket]]]:
    """Every address that the name resolves to, as `loop.create_server` has it; and one port for all of them."""
    found = socket.getaddrinfo(address.host or None, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    places = list(dict.fromkeys((family, where) for family, _, _, _, where in found))
    if address.port:
        for family, where in places:
            # SO_REUSEPORT would share the port with another process of this user: see first whether it is free.
            _bound(family, where, reuse_port=False).close()
    port = address.port
    shares: list[list[socket.socket]] = [[] for _ in range(count)]
    for family, (host, _, *scope) in places:
        for share in shares:
            sock = stack.enter_context(_bound(family, (host, port, *scope), reuse_port=count > 1))
            port = port or sock.getsockname()[1]
            share.append(sock)
    for sock in chain.from_iterable(shares):
        sock.listen(BACKLOG)
    return TcpAddress(address.host, port), shares


def _bound(family: int, where: tuple[Any, ...], *, reuse_port: bool) -> socket.socket:
    # asyncio switches Nagle's algorithm off only where the socket says that it is TCP's.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(where)
    except OSError:
        sock.close()
        raise
    return sock
