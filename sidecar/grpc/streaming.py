"""Calls with a stream of messages in one direction or both. Each message waits until the one before it was taken.

So a slow reader holds one message here, besides what HTTP/2's windows on both sides hold.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from grpc import aio

from sidecar import background
from sidecar.clock import Clock
from sidecar.grpc import metadata
from sidecar.grpc.call import Call
from sidecar.grpc.channels import Channel

HEADERS_GRACE = 0.05
"""Seconds for which an answer's headers wait for its first message or its end: a refusal that comes in two parts can
still be answered by another attempt, as long as nothing was passed on."""
CANCELLATION_GRACE = 0.02
"""Seconds between a client's last message and the end of the stream to the upstream. grpcio reports a cancelled stream
as one that ended, and its cancellation a moment later (up to 3 ms, measured under load): half of a stream must not look
like all of it."""


class ServerStreamingCall(Call):
    """One message for a stream of them."""

    def __init__(self, *arguments: Any, request: bytes) -> None:
        """`request` is the one message."""
        super().__init__(*arguments)
        self._request = request

    async def _attempt(self, channel: Channel, arguments: dict[str, Any]) -> Any:
        call = channel.aio.unary_stream(self.method)(self._request, **arguments)
        try:
            return await self._pass_on(call)
        finally:
            call.cancel()

    async def _pass_on(self, call: Any) -> Any:
        """The answer: headers, messages, and the trailers, which are returned."""
        self._headers = metadata.for_client(await call.initial_metadata())
        first = asyncio.ensure_future(call.read())
        try:
            await asyncio.wait({first}, timeout=HEADERS_GRACE)
            if not first.done():
                await self._begin()
            message = await first
        finally:
            first.cancel()
        while message is not aio.EOF:
            await self._begin()
            await self._context.write(message)
            message = await call.read()
        return await call.trailing_metadata()

    async def _begin(self) -> None:
        """From here on something was passed on."""
        if not self._passed_on:
            self._passed_on = True
            self._tell_replayed(accepted=True)
            await self._context.send_initial_metadata(self._headers)


class StreamingCall(ServerStreamingCall):
    """A stream of messages for another: any kind of method is a case of it."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments, request=b"")
        self._messages = ClientMessages(self._context, self._plan.replay_bytes, self._plan.clock)
        self._tasks: set[asyncio.Task[None]] = set()

    async def _attempt(self, channel: Channel, arguments: dict[str, Any]) -> Any:
        call = channel.aio.stream_stream(self.method)(**arguments)
        sending = background.spawn("grpc", self._send(call), self._tasks)
        try:
            return await self._pass_on(call)
        finally:
            sending.cancel()
            call.cancel()

    async def _send(self, call: aio.StreamStreamCall[bytes, bytes]) -> None:
        try:
            await self._messages.send(call)
        except (aio.AioRpcError, aio.InternalError, asyncio.InvalidStateError):
            pass  # the call is over; its status says why
        except BaseException:
            call.cancel()
            raise

    async def run(self) -> None:
        """Carry it out; see `Call.run`."""
        try:
            await super().run()
        finally:
            self._messages.close()

    async def _begin(self) -> None:
        await super()._begin()
        self._messages.forget()

    def _is_whole(self) -> bool:
        return super()._is_whole() and self._messages.are_whole


class ClientMessages:
    """Reads from the client as fast as the upstream takes; what was read is kept while it may have to be sent again."""

    def __init__(self, context: Any, replay_bytes: int, clock: Clock) -> None:
        """`context` is the call's `ServicerContext`."""
        self._context = context
        self._left = replay_bytes
        self._clock = clock
        self._kept: list[bytes] | None = []
        self._reading: asyncio.Task[Any] | None = None

    @property
    def are_whole(self) -> bool:
        """Whether everything that was read is kept."""
        return self._kept is not None

    def forget(self) -> None:
        """Nothing will be sent again."""
        self._kept = None

    async def send(self, call: aio.StreamStreamCall[bytes, bytes]) -> None:
        """Send what is kept, and then what comes, to the client's last message.

        It may be cancelled, and called again with another call while all is kept.

        Raises:
            AioRpcError, InternalError, InvalidStateError: the call is over.
        """
        await call.wait_for_connection()
        write = _writing(call)
        for message in self._kept or ():
            await write(message)
        while (message := await self._next()) is not aio.EOF:
            await write(message)
        await self._clock.sleep(CANCELLATION_GRACE)
        await call.done_writing()

    async def _next(self) -> Any:
        """The client's next message, or `EOF`. Reading is one task, for a read that is given up loses its message."""
        if self._reading is None:
            self._reading = asyncio.get_running_loop().create_task(self._context.read())
        await asyncio.wait({self._reading})
        message = self._reading.result()
        self._reading = None
        if message is not aio.EOF and self._kept is not None:
            self._left -= len(message)
            self._kept.append(message)
            if self._left < 0:
                self._kept = None
        return message

    def close(self) -> None:
        """The call is over."""
        if self._reading is not None:
            self._reading.cancel()


def _writing(call: Any) -> Callable[[bytes], Awaitable[None]]:
    """How to write to `call`. A write that fails because the upstream has ended the call must leave its status alone.

    The call's own `write` puts another status in its place, and messages that are still to be read are lost with it.
    """
    inner = getattr(call, "_cython_call", None)
    write: Callable[[bytes], Awaitable[None]] = call.write if inner is None else inner.send_serialized_message
    return write
