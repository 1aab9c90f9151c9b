"""The gRPC listener: binds, hands each call to what carries it out, counts, logs, drains."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any, TypeVar

import grpc
from grpc import aio

from sidecar.clock import Clock
from sidecar.config.settings import Settings, TcpAddress
from sidecar.errors import ListenError
from sidecar.grpc import methods
from sidecar.grpc.call import Account, Call, Plan, UnaryCall
from sidecar.grpc.channels import Channels, PemFiles, channel_options, server_options
from sidecar.grpc.metadata import Credentials
from sidecar.grpc.streaming import ServerStreamingCall, StreamingCall
from sidecar.proxy.authorizer import Authorizer
from sidecar.proxy.guard import Guard
from sidecar.telemetry.http import RouteStats

C = TypeVar("C", bound=Call)
END_SECONDS = 2.0
"""How long a call that was cut off may take to tell its client, who may not be reading."""


class GrpcServer(grpc.GenericRpcHandler):
    """One listener and the route behind it."""

    def __init__(self, *, stats: RouteStats, guard_rejections: Counter[str], clock: Clock) -> None:
        """`stats` are the route's counters, `guard_rejections` the guard's."""
        self._account = Account(stats, guard_rejections, clock)
        self._clock = clock
        self._plan: Plan | None = None
        self._server: aio.Server | None = None
        self._sizes: dict[str, int] = {}
        self._given_up = asyncio.Event()
        self._closing: set[asyncio.Task[None]] = set()
        self._ids = count(1)
        self._id_prefix = secrets.token_hex(8)
        self._handlers = {method: self._handler(method) for method in methods.KINDS}

    # --- life ----------------------------------------------------------------------------------------------------

    def configure(self, settings: Settings, authorizer: Authorizer, pem_files: Callable[[], PemFiles]) -> None:
        """Put a configuration with a gRPC section in force; calls under way finish by the one that they came in under.

        `pem_files` gives the files for TLS as they are now.
        """
        section, limits = settings.grpc, settings.limits
        assert section is not None
        sizes = {"max_message": section.max_message, "header_bytes": limits.header_bytes}
        options = channel_options(**sizes, connect=section.connect, proxy=section.proxy)
        old, self._plan = (
            self._plan,
            Plan(
                authorizer=authorizer,
                credentials=Credentials(),
                channels=Channels(section.upstream, options, pem_files, self._closing),
                guard=Guard(settings.guard.hosts, settings.guard.require_header),
                replay_bytes=limits.replay_bytes,
                max_message=section.max_message,
                clock=self._clock,
            ),
        )
        self._account.limit, self._account.access = limits.connections, settings.logging.access
        self._sizes = sizes
        self._account.stats.pools = {self._plan.channels.counts}
        if old is not None:
            old.channels.retire()

    async def start(self, listen: TcpAddress) -> None:
        """Serve on an address that was reserved for it (`listener.reserved`).

        Raises:
            ListenError: it cannot be bound; grpcio does not say why.
        """
        self._server = aio.server(options=server_options(**self._sizes), handlers=[self])
        try:
            self._server.add_insecure_port(str(listen))
        except RuntimeError:
            raise ListenError(f"grpc.listen: {listen} cannot be listened on.") from None
        await self._server.start()

    async def drain(self, timeout: float) -> bool:  # noqa: ASYNC109 (the caller's own limit, not a cancellation)
        """Take no new calls, let those under way finish; whether all did within `timeout` seconds."""
        if self._server is None:
            return True
        stopping = asyncio.ensure_future(self._server.stop(timeout + END_SECONDS))
        giving_up = asyncio.ensure_future(self._given_up.wait())
        await asyncio.wait({stopping, giving_up}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        giving_up.cancel()
        finished = stopping.done()
        await self.close()
        await stopping
        return finished

    def stop_waiting(self) -> None:
        """End a drain now, whatever is still under way."""
        self._given_up.set()

    async def close(self) -> None:
        """End everything that is still there; clients are told why, as far as they read."""
        for call in list(self._account.calls):
            call.cut_off()
        server, self._server = self._server, None
        if server is not None:
            await server.stop(END_SECONDS)
        if self._plan is not None:
            self._plan.channels.retire()
        await asyncio.gather(*self._closing)

    # --- calls ---------------------------------------------------------------------------------------------------

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """The handler (`grpc.RpcMethodHandler`) that carries out a call."""
        method: str = handler_call_details.method
        return self._handlers.get(method) or self._handler(method)

    def _handler(self, method: str) -> Any:
        match methods.KINDS.get(method):
            case "unary":
                return grpc.unary_unary_rpc_method_handler(partial(self._unary, method))
            case "server_streaming":
                return grpc.unary_stream_rpc_method_handler(partial(self._server_streaming, method))
            case _:
                return grpc.stream_stream_rpc_method_handler(partial(self._streaming, method))

    async def _unary(self, method: str, request: bytes, context: Any) -> bytes:
        call = self._call(UnaryCall, method, context, request=request)
        await call.run()
        return call.answer

    async def _server_streaming(self, method: str, request: bytes, context: Any) -> None:
        await self._call(ServerStreamingCall, method, context, request=request).run()

    async def _streaming(self, method: str, _messages: Any, context: Any) -> None:
        await self._call(StreamingCall, method, context).run()

    def _call(self, kind: type[C], method: str, context: Any, **request: bytes) -> C:
        assert self._plan is not None
        request_id = f"{self._id_prefix}-{next(self._ids):x}"
        return kind(self._plan, self._account, method, context, request_id, **request)
