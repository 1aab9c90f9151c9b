"""One connection from a client: takes requests apart, one at a time, and makes an `Exchange` of each."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from typing import Final, cast

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
from sidecar.proxy.context import Client, Process
from sidecar.proxy.exchange import Exchange
from sidecar.proxy.framing import BodyReader, ChunkedError, ChunkedReader, LengthReader, Pieces
from sidecar.proxy.problem import Message
from sidecar.proxy.routing import Request, RoutingTable

LINGER_SECONDS = 2.0
"""How long a client that gets no more responses may go on sending, so that it reads the last one and no reset."""
_NEVER = float("inf")
_CR: Final = 0x0D
# What the client's next bytes are.
_HEAD: Final = 0
_BODY: Final = 1
_AHEAD: Final = 2
_TUNNEL: Final = 3
_NOTHING: Final = 4
_INTRUSIONS = (CrossSiteError, UnknownHostError)


class Server(Process):
    """What a client's connection needs of the process, besides what its exchanges do."""

    table: RoutingTable
    header_bytes: int
    """The longest head, in bytes."""
    head_timeout: float
    keep_alive_seconds: float
    draining: bool

    @abstractmethod
    def admit(self, connection: Downstream) -> bool:
        """Whether there is room for one more."""

    @abstractmethod
    def forget(self, connection: Downstream) -> None:
        """Take note that it is closed."""

    @abstractmethod
    def admitted(self, client: Downstream, request: Request) -> Exchange | Problem:
        """Return the exchange of a request that `request` refuses, where its client or its path makes it another."""

    @abstractmethod
    def new_request_id(self) -> str:
        """An id that no other request has."""

    @abstractmethod
    def request_refused(self, error: Problem, request_id: str, request: Request | None = None) -> None:
        """Count and log a request that is answered without an exchange, or what is none."""


class Downstream(Client):
    """A protocol of asyncio's (and no subclass of it, as `UpstreamConnection`): reads requests and writes responses."""

    __slots__ = (
        "_body",
        "_buffer",
        "_exchange",
        "_is_full",
        "_scanned",
        "_server",
        "_skipped",
        "_state",
        "_taken",
        "_unsent",
        "deadline",
        "half_closed",
        "keep_alive",
        "transport",
    )

    transport: asyncio.Transport

    def __init__(self, server: Server) -> None:
        self._server = server
        self.deadline = _NEVER
        self.keep_alive = True
        self.half_closed = False
        self._exchange: Exchange | None = None
        self._body: BodyReader | None = None
        self._taken = 0
        self._buffer: bytes | bytearray = b""
        self._scanned = 0
        self._skipped = False
        self._is_full = False
        self._unsent = 0
        self._state = _HEAD

    # --- asyncio's side ------------------------------------------------------------------------------------------

    def connection_made(self, transport_: asyncio.BaseTransport) -> None:
        """Take the transport, if there is room for one more."""
        self.transport = cast("asyncio.Transport", transport_)  # uvloop's are no subclass of it
        self.transport.set_write_buffer_limits(high=transport.WRITE_HIGH_WATER)
        self.deadline = self._server.monotonic() + self._server.keep_alive_seconds
        if not self._server.admit(self):
            error = OverloadedError("Too many connections (limits.connections); try again.", retry_after=1.0)
            self.refuse(error, self._server.new_request_id())

    def data_received(self, data: bytes) -> None:
        """Read it as what is expected: a head, a body, the bytes of a tunnel, or nothing that matters."""
        state = self._state
        if state == _HEAD:
            self._read_head(data)
        elif state == _BODY:
            self._read_body(data)
        elif state == _AHEAD:
            self._read_ahead(data)
        elif state == _TUNNEL and self._exchange is not None:
            self._exchange.send_through_tunnel(data)

    def eof_received(self) -> bool:
        """A half-close: the response that is under way is still sent (True keeps the transport open for that)."""
        self.half_closed = True
        exchange = self._exchange
        if self._state == _NOTHING or (exchange is None and not self._buffer):
            return False
        if self._body is not None or self._is_partial():
            self._cut_short()
        elif exchange is not None:
            exchange.client_ended()
        return True

    def _cut_short(self) -> None:
        self._fault(BadRequestError("The request ended before it was whole."))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (asyncio's signature)
        """End the request that is under way, and nothing else."""
        self._server.forget(self)
        self._discard_all()
        if self._exchange is not None:
            self._exchange.client_disconnected()

    def pause_writing(self) -> None:
        """Have the response paused."""
        self._is_full = True
        if self._exchange is not None:
            self._exchange.pause_response(paused=True)

    def resume_writing(self) -> None:
        """Have the response go on, or take the next request."""
        self._is_full = False
        if self._exchange is not None:
            self._exchange.pause_response(paused=False)
        elif self._state == _HEAD:
            self._next(self._server.monotonic())

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
        try:
            request = self._server.table.request(data)
        except Problem as error:
            self._reject(error)
            return
        if request is None or len(request.received) > self._server.header_bytes:
            self._read_partial_head(data)
            return
        self._scanned = 0
        self._skipped = False
        self._accept(request, data[len(request.received) :])

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
        if len(data) > self._server.header_bytes:
            limit = f"{self._server.header_bytes} bytes (limits.header_bytes)"
            if data.find(b"\r\n", 0, self._server.header_bytes) < 0:
                self._fault(UriTooLongError(f"The request line is over {limit}."))
            else:
                self._fault(HeadersTooLargeError(f"The request's head is over {limit}."))
            return
        fault = h1.early_fault(data, self._scanned) if data != b"\r" or self._skipped else None
        if fault is not None:
            self._fault(BadRequestError(fault))
            return
        if data and not self._scanned:
            self.deadline = self._server.monotonic() + self._server.head_timeout
        self._scanned = len(data)
        self._buffer = data

    def _accept(self, request: Request, rest: bytes) -> None:
        server = self._server
        if request.refusal is None:
            exchange = Exchange(self, server, request, server.monotonic())
        else:
            admitted = server.admitted(self, request)
            if isinstance(admitted, Problem):
                self._turn_away(request, admitted, rest)
                return
            exchange = admitted
        fields = request.fields
        length = fields.length
        self.keep_alive = fields.keep_alive and not (server.draining and len(rest) <= length)
        self._exchange = exchange
        if fields.chunked or length > len(rest):
            self._taken = 0
            self._body = ChunkedReader() if fields.chunked else LengthReader(length)
            self._state = _BODY
            exchange.start(b"", True)
        else:
            # Nothing of it is to come: head and body go on as one.
            self._state = _AHEAD
            exchange.start(rest[:length], False)
            rest = rest[length:]
        if rest:
            self.data_received(rest)

    def _turn_away(self, request: Request, error: Problem, rest: bytes) -> None:
        """Refuse a well-formed request; where that is safe, the connection serves the next one."""
        fields = request.fields
        request_id = self._server.new_request_id() if fields.needs_id else semantics.request_id(request.head)
        self._server.request_refused(error, request_id, request)
        bodyless = not (fields.length or fields.chunked)
        is_last = not fields.keep_alive or (self._server.draining and not rest)
        self.keep_alive = bodyless and request.minor == 1 and not is_last and not isinstance(error, _INTRUSIONS)
        self.refuse(error, request_id, close=not self.keep_alive, head_only=request.method.is_head)
        if self.keep_alive:
            self._buffer = rest
            self._next(self._server.monotonic())

    # --- the body ------------------------------------------------------------------------------------------------

    def _read_body(self, data: bytes) -> None:
        body, exchange = self._body, self._exchange
        assert body is not None
        if exchange is None:
            return
        try:
            pieces, rest = body.feed(data)
        except ChunkedError as error:
            self._fault(BadRequestError(f"The request's body is not valid. {error}"))
            return
        limit = exchange.route.settings.max_body
        if limit is not None:
            self._taken += sum(map(len, pieces))
            if self._taken > limit:
                self._fault(exchange.route.too_large())
                return
        if body.done:
            self._body = None
            self._state = _AHEAD
        if pieces or body.done:
            exchange.body(pieces, body.done)
            if exchange.holds_back():
                self.update_reading()
        if rest:
            self.data_received(rest)

    def _read_ahead(self, data: bytes) -> None:
        """Keep pipelined bytes until the response before them is sent; of more than a head may have, read none."""
        self._buffer = transport.appended(self._buffer, data)
        self.update_reading()

    def _discard_all(self) -> None:
        """Ignore all that the client sends from here on."""
        self._state = _NOTHING
        self._buffer = b""

    def update_reading(self) -> None:
        """Read on or stop, as the exchange and our own buffer have it."""
        exchange = self._exchange
        full = exchange is not None and (exchange.holds_back() or len(self._buffer) > self._server.header_bytes)
        (transport.pause if full else transport.resume)(self.transport)

    # --- the exchange's side -------------------------------------------------------------------------------------

    def send(self, pieces: Pieces) -> None:
        """Write to the client; `connection_lost`, and not this, tells that it is gone."""
        if pieces and not self.transport.is_closing():
            self.transport.write(b"".join(pieces) if len(pieces) > 1 else pieces[0])

    def unsent(self) -> int:
        """Bytes that wait until the client takes them."""
        return self.transport.get_write_buffer_size()

    def held(self) -> int:
        """Bytes that are kept for now: of requests to come, of the request under way, of a response that is held."""
        return len(self._buffer) + (self._exchange.held() if self._exchange is not None else 0)

    def start_tunnel(self) -> None:
        """From here on the client's bytes are the upstream's."""
        self._state = _TUNNEL
        if self._buffer:
            self.data_received(self._take_buffer())

    def exchange_done(self, now: float) -> None:
        """The response is sent, or never will be; go on with the next request."""
        self._exchange = None
        if self._state == _NOTHING:
            return
        if not self.keep_alive or (self.half_closed and not self._buffer):
            self._close_lingering()
            return
        self._next(now)

    def _next(self, now: float) -> None:
        self._state = _HEAD
        self.deadline = now + self._server.keep_alive_seconds
        if self._is_full:
            # A client that does not read its answers asks for no more of them.
            transport.pause(self.transport)
        elif self._buffer:
            # Not from here: a thousand pipelined requests would be a thousand frames deep.
            asyncio.get_running_loop().call_soon(self._read_buffered)
        elif not self.transport.is_reading():
            transport.resume(self.transport)

    def _read_buffered(self) -> None:
        if self._buffer and self._exchange is None and self._state == _HEAD and not self.transport.is_closing():
            data = self._take_buffer()
            self.update_reading()
            self._read_head(data)
            if self.half_closed:
                self._judge_rest()

    def _judge_rest(self) -> None:
        """Refuse the beginning of a request whose rest will not come, or close where there is none."""
        if self._body is not None or self._is_partial():
            self._cut_short()
        elif self.is_idle() and not self._buffer and self._state == _HEAD:
            self._close_lingering()

    def _reject(self, error: Problem) -> None:
        """Refuse what is no request."""
        request_id = self._server.new_request_id()
        self._server.request_refused(error, request_id)
        self.refuse(error, request_id)

    def refuse(self, error: Problem, request_id: str, *, close: bool = True, head_only: bool = False) -> None:
        """Respond with `error`; the connection stays open only where it is clear where the next request begins."""
        self._write(problem.message(error), request_id, close=close, head_only=head_only)

    def _write(self, message: Message, request_id: str, *, close: bool, head_only: bool) -> None:
        now = self._server.wall()
        response = problem.response(message, request_id=request_id, now=now, close=close, head_only=head_only)
        transport.write(self.transport, response)
        if close:
            self.keep_alive = False
            self._close_lingering()

    def respond(self, message: Message, request: Request, request_id: str) -> None:
        """Respond to the exchange's request with a message of the sidecar's own."""
        close = not self.keep_alive or self._body is not None or not request.minor
        self._write(message, request_id, close=close, head_only=request.method.is_head)

    def _fault(self, error: Problem) -> None:
        """End what the client's bytes make invalid: the exchange whose body they are, or the beginning of a request."""
        exchange = self._exchange
        if exchange is not None:
            self.keep_alive = False
            exchange.fail(error)
        else:
            self._reject(error)

    def abort(self) -> None:
        """End the connection so that nothing that was sent can look whole."""
        self._discard_all()
        transport.reset(self.transport)

    def _close_lingering(self) -> None:
        """Send a FIN, and let the client finish sending: else it would get a reset and no response."""
        self._discard_all()
        self._unsent = self.unsent()
        self.deadline = self._server.monotonic() + LINGER_SECONDS
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
        elif self._state == _NOTHING:
            self._linger_on()
        elif self._has_unread():
            self.deadline = self._server.monotonic() + self._server.keep_alive_seconds
        else:
            self._close_lingering()

    def _linger_on(self) -> None:
        """Wait on while the client takes something of its last response; else end the connection."""
        before, self._unsent = self._unsent, self.unsent()
        if 0 < self._unsent < before:
            self.deadline = self._server.monotonic() + LINGER_SECONDS
        else:
            self.transport.abort()

    def request_timed_out(self) -> None:
        """The client stopped in the middle of its body."""
        self._fault(RequestTimeoutError("The request's body stopped coming."))

    def _is_partial(self) -> bool:
        """Whether the buffer holds the beginning of a head, and not whole requests that wait for their turn."""
        return self._exchange is None and self._scanned > 0

    def cut_off(self) -> None:
        """End the request, because the process ends."""
        self.keep_alive = False
        if self._exchange is not None:
            self._exchange.cut_off()
        if not self.transport.is_closing():
            self.transport.close()

    def is_idle(self) -> bool:
        """Whether no request is under way."""
        return self._exchange is None

    def is_busy(self) -> bool:
        """Whether a request is under way or has begun to come, or its response is not all sent."""
        return self._exchange is not None or bool(self._buffer) or self.unsent() > 0 or self._has_unread()

    def _has_unread(self) -> bool:
        """Whether the client has sent something that this process has not read yet."""
        if self._state == _NOTHING or self.transport.is_closing():
            return False
        return transport.is_readable(self.transport.get_extra_info("socket"))

    def drain(self, now: float) -> None:
        """Make the response that is under way the last one; without one, close the connection soon."""
        if self._exchange is not None:
            self.keep_alive = self.keep_alive and bool(self._buffer)
        elif not self._is_partial():
            self.deadline = min(self.deadline, now + self._server.keep_alive_seconds)
