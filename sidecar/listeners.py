"""All the sockets of a sidecar, bound before it serves, for one process or for several."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass

from sidecar.config.settings import Settings, TcpAddress
from sidecar.errors import ListenError
from sidecar.listener import Listener, listening, reserved
from sidecar.systemd import inherited


@dataclass(frozen=True)
class Listeners:
    """The bound sockets of a service."""

    proxy: Listener
    admin: Listener
    authorize: Listener | None = None
    grpc: TcpAddress | None = None
    """Reserved: grpcio binds it by itself."""


@contextmanager
def bound(settings: Settings, count: int = 1) -> Iterator[list[Listeners]]:
    """Bind every listener, for `count` processes. This may block, so it comes before there is an event loop.

    Raises:
        ListenError: an address cannot be bound, or a service manager passed a socket for none of them.
    """
    with ExitStack() as stack:
        passed = inherited()
        for sock in passed:
            stack.enter_context(closing(sock))
        [admin] = stack.enter_context(listening("admin.listen", settings.admin.listen, 1, passed))
        proxies = stack.enter_context(listening("listen", settings.listen, count, passed))
        authorize, grpc = None, None
        if settings.authorize is not None:
            [authorize] = stack.enter_context(listening("authorize.listen", settings.authorize.listen, 1, passed))
        _refuse_unused(passed)
        if settings.grpc is not None:
            grpc = stack.enter_context(reserved("grpc.listen", settings.grpc.listen))
        yield [Listeners(proxy, admin, authorize, grpc) for proxy in proxies]


def _refuse_unused(passed: list[socket.socket]) -> None:
    """Refuse sockets that no listener has taken: clients would connect there, and nobody would answer."""
    if passed:
        names = ", ".join(str(sock.getsockname()) for sock in passed)
        raise ListenError(
            f"The service manager passed sockets at {names}: none of listen, admin.listen and authorize.listen is that."
        )
