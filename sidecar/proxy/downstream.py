"""One connection from a client: takes requests apart, one at a time, and hands each to its `Exchange`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from sidecar.errors import (
    BadRequestError,
    CrossSiteError,
    HeadersTooLargeError,
    OverloadedError,
    Problem,
    RequestTimeoutError,
    UnknownHostError,
    UriTooLongError,
)
from sidecar.proxy import h1, problem, semantics, transport
from sidecar.proxy.chunked import ChunkedDecoder, ChunkedError
from sidecar.proxy.exchange import Exchange
from sidecar.proxy.routing import Request, ResolvedLine

if TYPE_CHECKING:
    from sidecar.proxy.server import ProxyServer

LINGER_SECONDS = 2.0
"""How long a refused client may go on sending, so that it reads the answer and not a reset."""
_NEVER = float("inf")
_CR = 0x0D
_INTRUSIONS = (CrossSiteError, UnknownHostError)


class Downstream(asyncio.Protocol):
    """See the module. `deadline` (monotonic seconds) is what the server's sweep looks at, and `expired` its answer."""

    __slots__ = (
        "_buffer",
        "_closing",
        "_decoder",
        "_exchange",
        "_is_full",
        "_left",
        "_read",
        "_reading_body",
        "_scanned",
        "_skipped",
        "_taken",
        "_unsent",
        "deadline",
        "half_closed",
        "keep_alive",
        "server",
        "transport",
        "upstream_is_full",
    )

    transport: asyncio.Transport

    def __init__(self, server: ProxyServer) -> None:
        self.server = server
        self.deadline = _NEVER
        self.keep_alive = True
        self.upstream_is_full = False
        self._exchange: Exchange | None = None
        self._buffer: bytes | bytearray = b""
        self._scanned = 0
        self._skipped = False
        self.half_closed = False
        self._is_full = False
        self._closing = False
        self._reading_body = False
        self._left = 0
        self._taken = 0
        self._unsent = 0
        self._decoder: ChunkedDecoder | None = None
        self._read = self._read_head

    # --- asyncio's side ------------------------------------------------------------------------------------------

    def connection_made(self, transport_: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self.transport = cast("asyncio.Transport", transport_)  # uvloop's are no subclass of it
        self.transport.set_write_buffer_limits(high=transport.WRITE_HIGH_WATER)
        self.deadline = self.server.monotonic() + self.server.keep_alive_seconds
        if not self.server.admit(self):
            error = OverloadedError("Too many connections (limits.connections); try again.", retry_after=1.0)
            self.refuse(error, self.server.new_request_id())

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._read(data)

    def eof_received(self) -> bool:
        """See `asyncio.Protocol`. A half-close: an answer that is under way is still sent (True keeps writing open)."""
        self.half_closed = True
        exchange = self._exchange
        if self._closing or (exchange is None and not self._buffer):
            return False
        if self._reading_body or self._is_partial():
            self._cut_short()
        elif exchange is not None:
            exchange.client_ended()
        return True

    def _cut_short(self) -> None:
        self._fault(BadRequestError("The request ended before it was whole."))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (asyncio's signature)
        """See `asyncio.Protocol`."""
        self.server.forget(self)
        self._discard_all()
        if self._exchange is not None:
            self._exchange.gone()

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._is_full = True
        if self._exchange is not None:
            self._exchange.client_paused(paused=True)

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._is_full = False
        if self._exchange is not None:
            self._exchange.client_paused(paused=False)
        elif not self._closing and self._read == self._read_head:
            self._next(self.server.monotonic())

    # --- the head ------------------------------------------------------------------------------------------------

    def _read_head(self, data: bytes) -> None:
        if self._buffer:
            # Most of a head that comes in crumbs was looked at before: only what is new is, until there is an end.
            buffer = self._buffer = transport.appended(self._buffer, data)
            if buffer[0] != _CR and buffer.find(b"\r\n\r\n", max(0, self._scanned - 3)) < 0:
                self._read_partial_head(buffer)
                return
            data = self._take_buffer()
        if data[0] == _CR:
            data = self._skip_empty_line(data)
        end = data.find(b"\r\n\r\n")
        if end < 0 or end + 4 > self.server.header_bytes:
            self._read_partial_head(data)
            return
        self._scanned = 0
        self._skipped = False
        end += 4
        try:
            self._accept(self.server.table.request(data[:end]), data[end:])
        except Problem as error:
            self._reject(error)

    def _skip_empty_line(self, data: bytes) -> bytes:
        """One empty line before a request is let pass (RFC 9112, 2.2), and no more."""
        if self._skipped or not b"\r\n".startswith(data[:2]):
            return data
        self._skipped = len(data) > 1
        return data[2:] if self._skipped else data

    def _take_buffer(self) -> bytes:
        data = bytes(self._buffer)
        self._buffer = b""
        return data

    def _read_partial_head(self, data: bytes | bytearray) -> None:
        if len(data) > self.server.header_bytes:
            limit = f"{self.server.header_bytes} bytes (limits.header_bytes)"
            if data.find(b"\r\n", 0, self.server.header_bytes) < 0:
                self._fault(UriTooLongError(f"The request line is over {limit}."))
            else:
                self._fault(HeadersTooLargeError(f"The request's head is over {limit}."))
            return
        fault = h1.early_fault(data, self._scanned) if data != b"\r" or self._skipped else None
        if fault is not None:
            self._fault(BadRequestError(fault))
            return
        if data and not self._scanned:
            self.deadline = self.server.monotonic() + self.server.head_timeout
        self._scanned = len(data)
        self._buffer = data

    def _accept(self, request: Request, rest: bytes) -> None:
        server = self.server
        if request.refusal is not None:
            self._turn_away(request, *request.refusal, rest)
            return
        fields = request.fields
        length = fields.length
        self.keep_alive = fields.keep_alive and not (server.draining and len(rest) <= length)
        exchange = self._exchange = Exchange(self, request, server.monotonic())
        if fields.chunked:
            self._taken = 0
            self._decoder = ChunkedDecoder()
            self._reading_body = True
            self._read = self._read_chunked
            exchange.start(b"", more=True)
        elif length > len(rest):
            self._left = length
            self._reading_body = True
            self._read = self._read_length
            exchange.start(b"", more=True)
        else:
            # Nothing of it is to come: head and body go on as one.
            self._read = self._read_ahead
            exchange.start(rest[:length], more=False)
            rest = rest[length:]
        if rest:
            self._read(rest)

    def _turn_away(self, request: Request, reason: str, error: Problem, rest: bytes) -> None:
        """A well-formed request that may not come in or go on; where that is safe, the connection serves the next."""
        if reason:
            self.server.stats.guard_rejections[reason] += 1
        line, fields = request.line, request.fields
        request_id = self.server.new_request_id() if fields.needs_id else semantics.request_id(request.head)
        self.server.count_refusal(error, request_id, line)
        bodyless = not (fields.length or fields.chunked)
        is_last = not fields.keep_alive or (self.server.draining and not rest)
        self.keep_alive = bodyless and line.minor == 1 and not is_last and not isinstance(error, _INTRUSIONS)
        self.refuse(error, request_id, close=not self.keep_alive, head_only=line.method.is_head)
        if self.keep_alive:
            self._buffer = rest
            self._next(self.server.monotonic())

    # --- the body ------------------------------------------------------------------------------------------------

    def _read_length(self, data: bytes) -> None:
        left = self._left - len(data)
        self._left = left
        if left > 0:
            self._hand_on([data], done=False)
            return
        rest = data[left:] if left else b""
        self._body_is_read()
        self._hand_on([data[:left] if left else data], done=True)
        if rest:
            self._read(rest)

    def _read_chunked(self, data: bytes) -> None:
        decoder = self._decoder
        assert decoder is not None
        try:
            pieces, rest = decoder.feed(data)
        except ChunkedError as error:
            self._fault(BadRequestError(f"The request's body is not valid. {error}"))
            return
        self._taken += sum(map(len, pieces))
        exchange = self._exchange
        limit = exchange.route.settings.max_body if exchange is not None else None
        if exchange is not None and limit is not None and self._taken > limit:
            self._fault(exchange.route.too_large())
            return
        if decoder.done:
            self._body_is_read()
        if pieces or decoder.done:
            self._hand_on(list(pieces), done=decoder.done)
        if rest:
            self._read(bytes(rest))

    def _hand_on(self, pieces: list[bytes | memoryview], *, done: bool) -> None:
        exchange = self._exchange
        if exchange is not None:
            exchange.body(pieces, done=done)
            if exchange.holds_back():
                self.update_reading()

    def _body_is_read(self) -> None:
        self._reading_body = False
        self._decoder = None
        self._read = self._read_ahead

    def _read_ahead(self, data: bytes) -> None:
        """Pipelined bytes: kept until the answer before them is sent, and no more of them than a head may have."""
        self._buffer = transport.appended(self._buffer, data)
        self.update_reading()

    def _discard_all(self) -> None:
        """From here on nothing that the client sends means anything."""
        self._closing = True
        self._buffer = b""
        self._read = self._discard

    def _discard(self, data: bytes) -> None:
        pass

    def _read_tunnel(self, data: bytes) -> None:
        if self._exchange is not None:
            self._exchange.tunnel_upstream(data)

    def update_reading(self) -> None:
        """Read on or stop, as the upstream's and our own buffers have it."""
        exchange = self._exchange
        full = exchange is not None and (
            self.upstream_is_full or exchange.holds_back() or len(self._buffer) > self.server.header_bytes
        )
        (transport.pause if full else transport.resume)(self.transport)

    # --- the exchange's side -------------------------------------------------------------------------------------

    def send(self, pieces: list[bytes | memoryview]) -> None:
        """Write to the client; a client that is gone is told of by `connection_lost`, not here."""
        if pieces and not self.transport.is_closing():
            self.transport.write(b"".join(pieces) if len(pieces) > 1 else pieces[0])

    def tunnel(self) -> None:
        """From here on the client's bytes are the upstream's."""
        self._read = self._read_tunnel
        if self._buffer:
            self._read_tunnel(self._take_buffer())

    def exchange_done(self, now: float) -> None:
        """The answer is sent, or never will be; go on with the next request."""
        self._exchange = None
        self.upstream_is_full = False
        if self._closing or self.transport.is_closing():
            return
        if not self.keep_alive or (self.half_closed and not self._buffer):
            self._close_lingering()
            return
        self._next(now)

    def _next(self, now: float) -> None:
        self._read = self._read_head
        self.deadline = now + self.server.keep_alive_seconds
        if self._is_full:
            # A client that does not read its answers asks for no more of them.
            transport.pause(self.transport)
        elif self._buffer:
            # Not from here: a thousand pipelined requests would be a thousand frames deep.
            asyncio.get_running_loop().call_soon(self._read_buffered)
        elif not self.transport.is_reading():
            transport.resume(self.transport)

    def _read_buffered(self) -> None:
        if self._buffer and self._exchange is None and not self._closing and not self.transport.is_closing():
            data = self._take_buffer()
            self.update_reading()
            self._read_head(data)
            if self.half_closed:
                self._judge_rest()

    def _judge_rest(self) -> None:
        """The client has sent all that it will; what that leaves of a request is none."""
        if self._reading_body or self._is_partial():
            self._cut_short()
        elif self.is_idle() and not self._buffer and not self._closing:
            self._close_lingering()

    def _reject(self, error: Problem) -> None:
        """What came is no request."""
        request_id = self.server.new_request_id()
        self.server.count_refusal(error, request_id)
        self.refuse(error, request_id)

    def refuse(self, error: Problem, request_id: str, *, close: bool = True, head_only: bool = False) -> None:
        """Answer with `error`; the connection goes on only where it is known that the next request follows."""
        now = self.server.clock.wall()
        response = problem.response(error, request_id=request_id, now=now, close=close, head_only=head_only)
        transport.write(self.transport, response)
        if close:
            self.keep_alive = False
            self._close_lingering()

    def fail(self, error: Problem, line: ResolvedLine) -> None:
        """The exchange's answer is `error`."""
        assert self._exchange is not None
        close = not self.keep_alive or self._reading_body or not line.minor
        self.refuse(error, self._exchange.request_id(), close=close, head_only=line.method.is_head)

    def _fault(self, error: Problem) -> None:
        """What the client sends is no request."""
        exchange = self._exchange
        if exchange is not None:
            self.keep_alive = False
            exchange.fail(error)
        else:
            self._reject(error)

    def abort(self) -> None:
        """End so that nothing which was sent can look whole."""
        self._discard_all()
        transport.reset(self.transport)

    def _close_lingering(self) -> None:
        """Say that nothing more comes, and let the client finish sending: else it gets a reset and no answer."""
        self._discard_all()
        self._unsent = self.transport.get_write_buffer_size()
        self.deadline = self.server.monotonic() + LINGER_SECONDS
        if not self.half_closed and transport.write_eof(self.transport):
            transport.resume(self.transport)
        elif not self.transport.is_closing():
            self.transport.close()  # what was written is still sent

    # --- time ----------------------------------------------------------------------------------------------------

    def expired(self) -> None:
        """The deadline is over."""
        self.deadline = _NEVER
        if self._exchange is not None:
            self._exchange.expired()
        elif self._is_partial():
            self._fault(RequestTimeoutError("The request's head did not arrive in time (limits.head_timeout)."))
        elif self._closing:
            self._linger_on()
        elif self._has_unread():
            self.deadline = self.server.monotonic() + self.server.keep_alive_seconds
        else:
            self._close_lingering()

    def _linger_on(self) -> None:
        """A client that still takes something of its last answer has more time; one that does not has had enough."""
        before, self._unsent = self._unsent, self.transport.get_write_buffer_size()
        if 0 < self._unsent < before:
            self.deadline = self.server.monotonic() + LINGER_SECONDS
        else:
            self.transport.abort()

    def body_timed_out(self) -> None:
        """The client stopped in the middle of its body."""
        self._fault(RequestTimeoutError("The request's body stopped coming."))

    def _is_partial(self) -> bool:
        """Whether the buffer holds the beginning of a head; not: whole requests that wait for their turn."""
        return self._exchange is None and self._scanned > 0

    def cut_off(self) -> None:
        """The process ends and this request has not."""
        self.keep_alive = False
        if self._exchange is not None:
            self._exchange.cut_off()
        if not self.transport.is_closing():
            self.transport.close()

    def is_idle(self) -> bool:
        """Whether no request is under way."""
        return self._exchange is None

    def is_busy(self) -> bool:
        """Whether a request is under way or has begun to come, or its answer is not all sent."""
        return (
            self._exchange is not None
            or bool(self._buffer)
            or self.transport.get_write_buffer_size() > 0
            or self._has_unread()
        )

    def _has_unread(self) -> bool:
        """Whether the client has sent something that this process has not read yet."""
        if self._closing or self.transport.is_closing():
            return False
        return transport.is_readable(self.transport.get_extra_info("socket"))

    def drain(self, now: float) -> None:
        """The answer that is under way is the last one here; without a request, the connection is closed soon."""
        if self._exchange is not None:
            self.keep_alive = self.keep_alive and bool(self._buffer)
        elif not self._is_partial():
            self.deadline = min(self.deadline, now + self.server.keep_alive_seconds)
