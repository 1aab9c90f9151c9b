"""What a service manager passes and is told: sockets (sd_listen_fds(3)) and the process's state (sd_notify(3))."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from typing import Final

from sidecar.clock import SystemClock
from sidecar.config.settings import Address, UnixAddress

_FIRST: Final = 3


def notify(*lines: str) -> None:
    """Tell the service manager, if there is one that wants to know. It neither waits nor raises."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        sock.sendto("\n".join(lines).encode(), "\0" + path[1:] if path.startswith("@") else path)


def reloading() -> None:
    """Tell that the configuration is read again; `READY=1` follows."""
    notify("RELOADING=1", f"MONOTONIC_USEC={int(SystemClock.monotonic() * 1e6)}")


def forget() -> None:
    """Tell nothing from now on: a worker is not the process that the service manager knows."""
    os.environ.pop("NOTIFY_SOCKET", None)


def watchdog_seconds() -> float | None:
    """Return how often `WATCHDOG=1` is to be told: half of the time after which the manager ends the process."""
    text, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not (text.isdigit() and int(text)) or pid not in {"", str(os.getpid())}:
        return None
    return int(text) / 2e6


def inherited() -> list[socket.socket]:
    """Return the sockets that were passed to this process, once; they listen, and are closed by whoever takes them."""
    pid, count = os.environ.pop("LISTEN_PID", ""), os.environ.pop("LISTEN_FDS", "")
    if pid != str(os.getpid()) or not count.isdigit():
        return []
    sockets = [socket.socket(fileno=descriptor) for descriptor in range(_FIRST, _FIRST + int(count))]
    for sock in sockets:
        sock.set_inheritable(False)
    return sockets


def is_at(sock: socket.socket, address: Address) -> bool:
    """Whether a socket listens where the configuration says: no other socket is served, however it was passed."""
    name = sock.getsockname()
    if sock.type != socket.SOCK_STREAM or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return False
    if isinstance(address, UnixAddress):
        return bool(name == str(address.path))
    found = socket.getaddrinfo(address.host or None, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return isinstance(name, tuple) and any(where[:2] == name[:2] for *_, where in found)
