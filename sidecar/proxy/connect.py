"""Opening upstream connections: names, addresses in turn, a forward proxy's CONNECT, TLS."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator
from urllib.parse import unquote, urlsplit

import aiohappyeyeballs

from sidecar.clock import Clock
from sidecar.config.settings import Upstream
from sidecar.errors import SecretUnavailableError, UpstreamUnreachableError
from sidecar.proxy import transport
from sidecar.proxy.tls import TlsLayer, Verified, resumable
from sidecar.proxy.upstream import UpstreamConnection

_NEXT_ADDRESS_SECONDS = 0.25  # RFC 8305, 5
_MAX_CONNECT_ANSWER = 16 << 10

Context = Callable[[], ssl.SSLContext | None]
Make = Callable[[], UpstreamConnection]
Explain = Callable[[OSError, str, str | None], Awaitable[str]]
"""What an error says about connecting to a URL, through a forward proxy or none, as a sentence."""


async def plainly(error: OSError, _url: str, _proxy: str | None) -> str:
    """The system's own words: an `Explain` where there is no better."""
    return str(error)


class Connector:
    """Opens connections to one upstream."""

    def __init__(self, upstream: Upstream, tls: Context, proxy: str | None, explain: Explain, clock: Clock) -> None:
        """One for each route.

        Args:
            upstream: where to.
            tls: the context in force; its files may change.
            proxy: a forward proxy's URL, perhaps with a password.
            explain: see `Explain`.
            clock: how long ago a certificate was verified; time in which the machine slept counts.
        """
        self._upstream = upstream
        self._tls = tls
        self._proxy = proxy
        self._explain = explain
        self._clock = clock
        self._verified: Verified | None = None

    async def __call__(self, make: Make) -> UpstreamConnection:
        """A new connection, TLS verified.

        Raises:
            UpstreamUnreachableError: says why; its cause is the OSError.
        """
        upstream = self._upstream
        try:
            context = self._tls()
            return await (self._plainly(make) if context is None else self._securely(make, context))
        except SecretUnavailableError as error:
            raise UpstreamUnreachableError(f"No connection to the upstream: {error.detail}") from error
        except UnicodeError as error:
            raise UpstreamUnreachableError(f"{upstream.host} is no host name.") from error
        except OSError as error:
            sentence = await self._explain(error, upstream.origin, self._proxy)
            raise UpstreamUnreachableError(f"No connection to the upstream: {sentence}") from error

    async def _plainly(self, make: Make) -> UpstreamConnection:
        sock = await self._reach()
        protocol = make()
        with _closing_on_error(sock):
            await asyncio.get_running_loop().create_connection(lambda: protocol, sock=sock)
        return protocol

    async def _securely(self, make: Make, context: ssl.SSLContext) -> UpstreamConnection:
        verified = resumable(self._verified, context, self._clock.boottime())
        sock = await self._reach()
        try:
            return await self._shake_hands(sock, make(), context, verified)
        except BaseException as error:
            # Resuming is an offer, and a server may turn it down; but some break off over it, or say nothing more.
            if verified is not None and self._verified is verified:
                self._verified = None
            shown = isinstance(error, ssl.SSLCertVerificationError)
            if verified is None or shown or not isinstance(error, OSError):
                raise
        return await self._shake_hands(await self._reach(), make(), context, None)

    async def _shake_hands(
        self, sock: socket.socket, protocol: UpstreamConnection, context: ssl.SSLContext, verified: Verified | None
    ) -> UpstreamConnection:
        now = self._clock.boottime()
        with _closing_on_error(sock):
            layer = TlsLayer(protocol, context, self._upstream.host, verified)
            try:
                await asyncio.get_running_loop().create_connection(lambda: layer, sock=sock)
                await layer.established
            except BaseException:
                layer.abort()
                raise
        self._verified = Verified(layer.tls, verified.at if verified is not None and layer.resumed else now)
        return protocol

    async def _reach(self) -> socket.socket:
        return await (self._through_proxy() if self._proxy else _open(self._upstream.host, self._upstream.port))

    async def _through_proxy(self) -> socket.socket:
        """RFC 9110, 9.3.6."""
        assert self._proxy is not None
        url = urlsplit(self._proxy)
        host = f"[{self._upstream.host}]" if ":" in self._upstream.host else self._upstream.host
        target = f"{host}:{self._upstream.port}"
        request = f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n"
        if url.username is not None:
            pair = f"{unquote(url.username)}:{unquote(url.password or '')}"
            request += f"Proxy-Authorization: Basic {base64.b64encode(pair.encode()).decode()}\r\n"
        sock = await _open(url.hostname or "", url.port or 80)
        with _closing_on_error(sock):
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(sock, request.encode() + b"\r\n")
            answer = b""
            # Byte by byte, so that nothing of the TLS handshake is taken; a proxy's answer is short, and rare.
            while not answer.endswith(b"\r\n\r\n"):
                byte = await loop.sock_recv(sock, 1)
                if not byte or len(answer) > _MAX_CONNECT_ANSWER:
                    raise ConnectionError("the forward proxy did not answer CONNECT")
                answer += byte
            status = answer.split(b"\r\n", 1)[0].split(b" ")
            if len(status) < 2 or not status[0].startswith(b"HTTP/1.") or not status[1].startswith(b"2"):  # noqa: PLR2004
                code = status[1].decode("ascii", "replace") if len(status) > 1 else "no status"
                raise ConnectionError(f"the forward proxy refused CONNECT with {code[:3]}")
        return sock


async def _open(host: str, port: int) -> socket.socket:
    loop = asyncio.get_running_loop()
    addresses = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    sock = await aiohappyeyeballs.start_connection(addresses, happy_eyeballs_delay=_NEXT_ADDRESS_SECONDS, interleave=1)
    transport.keep_alive(sock)
    return sock


@contextlib.contextmanager
def _closing_on_error(sock: socket.socket) -> Iterator[None]:
    try:
        yield
    except BaseException:
        sock.close()
        raise
