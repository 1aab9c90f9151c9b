"""The one place that knows where transports differ between event loops, and what asyncio has no method for."""

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
    """Write unless the transport is closed: uvloop raises then, asyncio logs a warning. Whether it was written."""
    if transport.is_closing():
        return False
    transport.write(data)
    return True


def writelines(transport: asyncio.WriteTransport, pieces: list[bytes | memoryview]) -> bool:
    """Write several buffers, in one system call if the loop can, unless the transport is closed."""
    if transport.is_closing():
        return False
    transport.writelines(pieces)
    return True


def write_eof(transport: asyncio.WriteTransport) -> bool:
    """Half-close the transport, if it can (TLS cannot). Whether it did."""
    if transport.is_closing() or not transport.can_write_eof():
        return False
    # The peer may be gone, and the loop not have noticed yet.
    with contextlib.suppress(OSError, RuntimeError):
        transport.write_eof()
    return True


def reset(transport: asyncio.Transport) -> None:
    """End with a RST: `abort()` alone sends a FIN, and a body that ends with its connection would look whole."""
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family != socket.AF_UNIX:
        with contextlib.suppress(OSError, ValueError):  # it is closed already: asyncio's error, uvloop's error
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
    """Stop reading, unless it is stopped or the transport is closed."""
    if not transport.is_closing() and transport.is_reading():
        transport.pause_reading()


def resume(transport: asyncio.ReadTransport) -> None:
    """Go on reading, if it was stopped and the transport is not closed."""
    if not transport.is_closing() and not transport.is_reading():
        transport.resume_reading()


def is_readable(sock: socket.socket) -> bool:
    """Whether bytes, a FIN or, at a listener, a connection wait in the kernel until the loop takes them."""
    if sock.fileno() < 0:
        return False
    poller = select.poll()
    poller.register(sock, select.POLLIN)
    return bool(poller.poll(0))
