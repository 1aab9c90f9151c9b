"""Opens TCP connections for both planes: looks names up, tries addresses in turn, asks a forward proxy for a tunnel."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import re
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from itertools import takewhile
from operator import ne
from typing import Final, TypeVar
from urllib.parse import unquote, urlsplit

import aiohappyeyeballs
from aiohappyeyeballs import AddrInfoType

from sidecar.background import in_thread
from sidecar.clock import Clock

DNS_SECONDS: Final = 5.0
"""How long an answer is used: the system does not tell for how long it is valid."""
AVOID_SECONDS: Final = 30.0
"""How long an address that failed is tried after those that did not."""
_NEXT_ADDRESS_SECONDS = 0.25  # RFC 8305, 5
_MAX_CONNECT_RESPONSE = 16 << 10
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})(?: |\r)")

T = TypeVar("T")
Addresses = Sequence[AddrInfoType]
LookUp = Callable[[str, int], Addresses]
Peer = tuple[str, int]
"""Address and port of the other end."""


def look_up(host: str, port: int) -> Addresses:
    """The addresses of a name, in the order in which they are to be tried (RFC 6724); blocks.

    Raises:
        OSError: `socket.gaierror`: there is none, or no server answers.
        UnicodeError: it cannot be a name.
    """
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


class Resolver:
    """Looks each name up once at a time, on a thread of its own: a look-up that hangs holds up nothing else."""

    def __init__(self, clock: Clock, look_up: LookUp = look_up) -> None:
        self._clock = clock
        self._look_up = look_up
        self._known: dict[tuple[str, int], tuple[float, Addresses]] = {}
        self._under_way: dict[tuple[str, int], asyncio.Task[Addresses]] = {}

    async def resolve(self, host: str, port: int) -> Addresses:
        """The addresses of `host`, which may be `DNS_SECONDS` old.

        Raises:
            OSError, UnicodeError: what `look_up` raises.
        """
        with contextlib.suppress(socket.gaierror):
            return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        key = host, port
        until, addresses = self._known.get(key, (0.0, []))
        if self._clock.boottime() < until:
            return addresses
        task = self._under_way.get(key)
        if task is None:
            work = in_thread(partial(self._look_up, host, port))
            task = self._under_way[key] = asyncio.ensure_future(work)
            task.add_done_callback(partial(self._looked_up, key))
        return await asyncio.shield(task)

    def close(self) -> None:
        """Wait for no look-up any more."""
        for task in self._under_way.values():
            task.cancel()

    def _looked_up(self, key: tuple[str, int], task: asyncio.Task[Addresses]) -> None:
        del self._under_way[key]
        now = self._clock.boottime()
        self._known = {name: known for name, known in self._known.items() if now < known[0]}
        if not task.cancelled() and task.exception() is None:
            self._known[key] = now + DNS_SECONDS, task.result()


class Dialer:
    """Connects to one server, directly or through a forward proxy."""

    def __init__(self, host: str, port: int, proxy: str | None, resolver: Resolver, clock: Clock) -> None:
        """`proxy` is a forward proxy's URL; it may hold a password."""
        self._target = host, port
        self.proxy = proxy
        self._resolver = resolver
        self._clock = clock
        self._failed: dict[Peer, float] = {}

    async def dial(self, speak: Callable[[socket.socket], Awaitable[T]]) -> T:
        """Connect, and return what `speak` makes of the socket, by a TLS handshake for example.

        Where the tunnel or `speak` fails, the next address is tried; addresses that failed lately come last.

        Raises:
            OSError: the first failure of those; if there was none, why no address can be connected to.
            UnicodeError: the host's name cannot be one.
        """
        addresses = await self._resolver.resolve(*first_hop(*self._target, self.proxy))
        addresses = sorted(addresses, key=lambda address: self._is_avoided(_peer(address)))
        first_error: OSError | None = None
        for _ in range(len(addresses)):
            try:
                sock = await open_socket(addresses)
            except OSError as error:
                raise first_error or error from None
            peer: Peer | None = None
            try:
                with closed_on_error(sock):
                    peer = sock.getpeername()[:2]
                    self._avoid(*takewhile(partial(ne, peer), map(_peer, addresses)))  # they were slower
                    if self.proxy is not None:
                        await open_tunnel(sock, self.proxy, *self._target)
                    return await speak(sock)
            except BaseException as error:
                if peer is not None:
                    self._avoid(peer)
                if not isinstance(error, OSError):
                    raise
                first_error = first_error or error
            addresses = [address for address in addresses if _peer(address) != peer]
            if not addresses:
                break
        assert first_error is not None
        raise first_error

    def _avoid(self, *peers: Peer) -> None:
        now = self._clock.boottime()
        self._failed = {peer: at for peer, at in self._failed.items() if now - at < AVOID_SECONDS}
        self._failed |= dict.fromkeys(peers, now)

    def _is_avoided(self, peer: Peer) -> bool:
        return self._clock.boottime() - self._failed.get(peer, float("-inf")) < AVOID_SECONDS


def first_hop(host: str, port: int, proxy: str | None) -> tuple[str, int]:
    """Host and port of the connection itself: the forward proxy's, if there is one."""
    if proxy is None:
        return host, port
    url = urlsplit(proxy)
    return url.hostname or "", url.port or 80


async def open_socket(addresses: Addresses) -> socket.socket:
    """A socket that is connected to the first of `addresses` to answer; each has a head start (RFC 8305).

    Raises:
        OSError: none does.
    """
    return await aiohappyeyeballs.start_connection(addresses, happy_eyeballs_delay=_NEXT_ADDRESS_SECONDS, interleave=1)


async def open_tunnel(sock: socket.socket, proxy: str, host: str, port: int) -> None:
    """Ask the forward proxy at the other end of `sock` for a tunnel to `host` (CONNECT: RFC 9110, 9.3.6).

    Raises:
        ConnectionError: it refused, or did not answer.
    """
    url = urlsplit(proxy)
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    request = f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n"
    if url.username is not None:
        pair = f"{unquote(url.username)}:{unquote(url.password or '')}"
        request += f"Proxy-Authorization: Basic {base64.b64encode(pair.encode()).decode()}\r\n"
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(sock, request.encode() + b"\r\n")
    response = b""
    # Byte by byte, so that nothing of the TLS handshake is taken; a proxy's response is short, and rare.
    while not response.endswith(b"\r\n\r\n"):
        byte = await loop.sock_recv(sock, 1)
        if not byte or len(response) > _MAX_CONNECT_RESPONSE:
            raise ConnectionError("the forward proxy did not answer CONNECT")
        response += byte
    status = _STATUS.match(response)
    if status is None:
        raise ConnectionError("the forward proxy did not answer CONNECT with HTTP/1.1")
    if not status[1].startswith(b"2"):
        raise ConnectionError(f"the forward proxy refused CONNECT with {status[1].decode()}")


@contextlib.contextmanager
def closed_on_error(sock: socket.socket) -> Iterator[None]:
    """Close `sock` if an exception, a cancellation included, leaves the block."""
    try:
        yield
    except BaseException:
        sock.close()
        raise


def _peer(address: AddrInfoType) -> Peer:
    host, port = address[4][:2]
    return str(host), int(port)
