"""Where transports differ between event loops, and what asyncio has no word for; the one place that knows."""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import struct

# The kernel finds out within a minute that a peer's machine is gone, without a byte of ours (RFC 9293, 3.8.4).
_KEEP_ALIVE = (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))
_LINGER_RST = struct.pack("ii", 1, 0)
WRITE_HIGH_WATER = 64 << 10
"""Bytes that may wait for a slow peer before the other side is paused; one read more (256 KiB) can come on top."""


def write(transport: asyncio.WriteTransport, data: bytes | bytearray | memoryview) -> bool:
    """Write, or say that it cannot be: uvloop raises on a transport that is closed, asyncio only complains."""
    if transport.is_closing():
        return False
    transport.write(data)
    return True


def writelines(transport: asyncio.WriteTransport, pieces: list[bytes | memoryview]) -> bool:
    """The same for several buffers, in one system call where the loop can."""
    if transport.is_closing():
        return False
    transport.writelines(pieces)
    return True


def write_eof(transport: asyncio.WriteTransport) -> bool:
    """Half-close, where the transport can (TLS cannot)."""
    if transport.is_closing() or not transport.can_write_eof():
        return False
    # The peer may be gone while nobody has noticed yet.
    with contextlib.suppress(OSError, RuntimeError):
        transport.write_eof()
    return True


def reset(transport: asyncio.Transport) -> None:
    """End with a RST: `abort()` alone sends FIN, and a body that ends with the connection would look whole."""
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family != socket.AF_UNIX:
        with contextlib.suppress(OSError, ValueError):  # closed already: asyncio says the one, uvloop the other
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RST)
    transport.abort()


def appended(buffer: bytes | bytearray, data: bytes) -> bytes | bytearray:
    """`buffer` with `data` behind it; what was in it already is not copied again for each piece that comes."""
    if not buffer:
        return data
    if isinstance(buffer, bytes):
        buffer = bytearray(buffer)
    buffer += data
    return buffer


def keep_alive(sock: socket.socket) -> None:
    """Notice a peer whose machine is gone while nothing is to be sent; what a TCP listener accepts inherits it."""
    if sock.family == socket.AF_UNIX:
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEP_ALIVE:
        if hasattr(socket, name):  # Linux has all of them, other systems some
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def pause(transport: asyncio.ReadTransport) -> None:
    """Stop reading, if it is not stopped or over."""
    if not transport.is_closing() and transport.is_reading():
        transport.pause_reading()


def resume(transport: asyncio.ReadTransport) -> None:
    """Go on reading, if it was stopped and is not over."""
    if not transport.is_closing() and not transport.is_reading():
        transport.resume_reading()


def is_readable(sock: socket.socket) -> bool:
    """Whether bytes or an end, or at a listener a connection, wait in the kernel for the loop to take them."""
    if sock.fileno() < 0:
        return False
    poller = select.poll()
    poller.register(sock, select.POLLIN)
    return bool(poller.poll(0))
