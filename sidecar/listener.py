"""Binding an address, TCP or a Unix socket, for one process or for several that share it."""

from __future__ import annotations

import asyncio
import errno
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sidecar.config.settings import Address, TcpAddress, UnixAddress
from sidecar.errors import ListenError
from sidecar.systemd import is_at

SOCKET_MODE = 0o660
_NO_SUCH_FAMILY = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}


@dataclass(frozen=True)
class Listener:
    """One address, bound: one socket, or one for each address that a host's name resolves to."""

    address: Address
    """With the real port where 0 was asked for."""
    sockets: tuple[socket.socket, ...]

    async def serve(self, factory: Callable[[], asyncio.BaseProtocol], backlog: int) -> list[asyncio.Server]:
        """Accept connections, each with a protocol of `factory`; whoever closes the servers closes the sockets."""
        loop = asyncio.get_running_loop()
        is_unix = isinstance(self.address, UnixAddress)
        create: Callable[..., Any] = loop.create_unix_server if is_unix else loop.create_server
        return [await create(factory, sock=sock, backlog=backlog) for sock in self.sockets]

    def close(self) -> None:
        """Close the sockets: other processes that have them go on listening."""
        for sock in self.sockets:
            sock.close()


@contextmanager
def listening(
    key: str, address: Address, count: int = 1, passed: list[socket.socket] | None = None
) -> Iterator[list[Listener]]:
    """Bind and listen; at the end, close, and remove a Unix socket's file.

    Sockets that a service manager has `passed` for this very address are taken from that list instead, and shared.

    With a `count` over 1 there is a listener for each of so many processes: on TCP each has sockets of its own
    (SO_REUSEPORT), so that the kernel spreads the connections; a Unix socket is shared.

    Raises:
        ListenError: `address`, the value of the setting `key`, is in use, not this host's, or not permitted.
    """
    listeners: list[Listener] = []
    taken: list[socket.socket] = []
    try:
        with _told(key, address):
            taken += [sock for sock in passed or [] if is_at(sock, address)]
            if taken and passed is not None:
                passed[:] = [sock for sock in passed if sock not in taken]
                listeners = [Listener(address, tuple(taken))] * count
            elif isinstance(address, UnixAddress):
                listeners = [Listener(address, (_bind_unix(address.path),))] * count
            else:
                listeners = _bind_tcp(address, count, reuse_port=count > 1)
            for listener in listeners:
                for sock in listener.sockets:
                    sock.listen()
        yield listeners
    finally:
        for listener in listeners:
            listener.close()
        if isinstance(address, UnixAddress) and listeners and not taken:
            address.path.unlink(missing_ok=True)


@contextmanager
def reserved(key: str, address: TcpAddress) -> Iterator[TcpAddress]:
    """Hold an address for a library that binds it by itself, in this process or its children, with SO_REUSEPORT.

    What is held is bound and does not listen, so no connection comes to it. The address has the real port.

    Raises:
        ListenError: as `listening` does.
    """
    with _told(key, address):
        [held] = _bind_tcp(address, 1, reuse_port=True)
    try:
        assert isinstance(held.address, TcpAddress)
        yield held.address
    finally:
        held.close()


@contextmanager
def _told(key: str, address: Address) -> Iterator[None]:
    """An OSError becomes the error that names the setting."""
    try:
        yield
    except OSError as error:
        taken = str(address) if error.errno == errno.EADDRINUSE else ""
        reason = error.strerror or str(error)
        raise ListenError(f"{key}: {address} cannot be listened on: {reason}.", taken=taken) from None


def _bind_tcp(address: TcpAddress, count: int, *, reuse_port: bool) -> list[Listener]:
    """Bind every address that the host's name resolves to, and one port for all of them."""
    found = socket.getaddrinfo(address.host or None, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    places = list(dict.fromkeys((family, where) for family, _, _, _, where in found))
    port = address.port
    shares: list[list[socket.socket]] = [[] for _ in range(count)]
    missing: OSError | None = None
    with ExitStack() as stack:
        for family, (host, _, *scope) in places:
            try:
                if port and reuse_port:
                    # SO_REUSEPORT would share the port with another process of this user: see first whether it is free.
                    _bound(family, (host, port, *scope), reuse_port=False).close()
                for share in shares:
                    share.append(stack.enter_context(_bound(family, (host, port, *scope), reuse_port=reuse_port)))
                    port = port or share[0].getsockname()[1]
            except OSError as error:
                if error.errno not in _NO_SUCH_FAMILY:
                    raise
                missing = error  # a name such as localhost may have an address of a family that is switched off here
        if missing is not None and not shares[0]:
            raise missing
        stack.pop_all()  # now the caller closes them
    return [Listener(TcpAddress(address.host, port), tuple(share)) for share in shares]


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


def _bind_unix(path: Path) -> socket.socket:
    """Bind a socket that has permissions 0660 before anybody can connect; replace one that nobody listens on."""
    with suppress(FileNotFoundError):
        if stat.S_ISSOCK(path.lstat().st_mode):
            if _is_served(path):
                raise OSError(errno.EADDRINUSE, "another process is listening on it")
            path.unlink()  # left behind by a process that was killed
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(str(path))
        path.chmod(SOCKET_MODE)  # before listen(): until then nobody can connect
    except OSError:
        sock.close()
        raise
    return sock


def _is_served(path: Path) -> bool:
    """Whether somebody listens; a socket that may not be asked is taken for somebody's."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return False
        except OSError:
            return True
        return True
