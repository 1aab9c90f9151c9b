"""Opens upstream connections: by `sidecar.dial`, with TLS for https, and with a sentence for what fails."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from functools import partial
from typing import cast

from sidecar.clock import Clock
from sidecar.config.settings import Upstream
from sidecar.dial import Dialer
from sidecar.errors import SecretUnavailableError, UpstreamUnreachableError
from sidecar.proxy import transport
from sidecar.proxy.tls import TlsLayer, Verified, resumable
from sidecar.proxy.upstream import UpstreamConnection

Context = Callable[[], ssl.SSLContext | None]
Make = Callable[[], UpstreamConnection]
Explain = Callable[[OSError, str, str | None], Awaitable[str]]
"""Makes a sentence of an error in connecting to a URL, through a forward proxy's URL or directly."""


async def plainly(error: OSError, _url: str, _proxy: str | None) -> str:
    """Explain in the system's own words."""
    return str(error)


class Connector:
    """Opens connections to one upstream."""

    def __init__(self, upstream: Upstream, tls: Context, dialer: Dialer, explain: Explain, clock: Clock) -> None:
        """`tls` gives the context in force, whose files may change; `dialer` connects to `upstream`."""
        self._upstream = upstream
        self._tls = tls
        self._dialer = dialer
        self._explain = explain
        self._clock = clock
        self._verified: Verified | None = None

    async def __call__(self, make: Make) -> UpstreamConnection:
        """A new connection, its certificate verified.

        Raises:
            UpstreamUnreachableError: there is none; its cause is what went wrong.
        """
        upstream = self._upstream
        try:
            context = self._tls()
            if context is None:
                return await self._dialer.dial(partial(self._plainly, make))
            return await self._securely(make, context)
        except SecretUnavailableError as error:
            raise UpstreamUnreachableError(f"No connection to the upstream: {error.detail}") from error
        except UnicodeError as error:
            raise UpstreamUnreachableError(f"{upstream.host} is no host name.") from error
        except OSError as error:
            sentence = await self._explain(error, upstream.origin, self._dialer.proxy)
            raise UpstreamUnreachableError(f"No connection to the upstream: {sentence}") from error

    async def _plainly(self, make: Make, sock: socket.socket) -> UpstreamConnection:
        transport.keep_alive(sock)
        connection = make()
        protocol = cast("asyncio.Protocol", connection)
        await asyncio.get_running_loop().create_connection(lambda: protocol, sock=sock)
        return connection

    async def _securely(self, make: Make, context: ssl.SSLContext) -> UpstreamConnection:
        verified = resumable(self._verified, context, self._clock.boottime())
        if verified is not None:
            try:
                return await self._dialer.dial(partial(self._shake_hands, make, context, verified))
            except BaseException as error:
                # Resuming is an offer, and a server may turn it down; but some break off over it, or say nothing more.
                if self._verified is verified:
                    self._verified = None
                if isinstance(error, ssl.SSLCertVerificationError) or not isinstance(error, OSError):
                    raise
        return await self._dialer.dial(partial(self._shake_hands, make, context, None))

    async def _shake_hands(
        self, make: Make, context: ssl.SSLContext, verified: Verified | None, sock: socket.socket
    ) -> UpstreamConnection:
        transport.keep_alive(sock)
        connection = make()
        now = self._clock.boottime()
        layer = TlsLayer(cast("asyncio.Protocol", connection), context, self._upstream.host, verified)
        protocol = cast("asyncio.Protocol", layer)
        try:
            await asyncio.get_running_loop().create_connection(lambda: protocol, sock=sock)
            await layer.established
        except BaseException:
            layer.abort()
            raise
        self._verified = Verified(layer.tls, verified.at if verified is not None and layer.resumed else now)
        return connection
