"""One connection to an upstream: responses are taken apart as strictly as requests are (RFC 9112, 6 and 9)."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import Final, cast

from sidecar.errors import Problem, UpstreamProtocolError
from sidecar.proxy import transport
from sidecar.proxy.framing import BodyReader, ChunkedError, ChunkedReader, LengthReader, Pieces, UntilCloseReader
from sidecar.proxy.routing import CompiledRoute, Response
from sidecar.proxy.semantics import CHUNKED, EMPTY, LENGTH

_MAX_INFORMATIONAL: Final = 32
# What is expected of the upstream.
_HEAD: Final = 0
_BODY: Final = 1
_TUNNEL: Final = 2
_SWITCHING: Final = 101
_OK: Final = 200


class Listener(ABC):
    """The exchange, as its upstream connection sees it."""

    @abstractmethod
    def informational_received(self, response: Response) -> None:
        """A 1xx response other than 101 came."""

    @abstractmethod
    def protocol_switched(self, response: Response, data: bytes) -> None:
        """101 came, as asked for; `data` came right behind it."""

    @abstractmethod
    def response_received(self, response: Response, pieces: Pieces, done: bool) -> None:
        """The final head came, with so much of its body, which is taken out of its chunks."""

    @abstractmethod
    def body_received(self, pieces: Pieces, done: bool) -> None:
        """More of the body came."""

    @abstractmethod
    def response_broken(self, error: Problem) -> None:
        """The response is invalid, or ended early; the connection is of no use any more."""

    @abstractmethod
    def connection_lost(self) -> None:
        """The connection ended before a byte of the response."""

    @abstractmethod
    def pause_request(self, *, paused: bool) -> None:
        """The upstream takes no more for now, or does again."""

    @abstractmethod
    def tunnel_data_received(self, data: bytes) -> None:
        """Bytes of a tunnel came."""

    @abstractmethod
    def tunnel_eof_received(self) -> None:
        """The upstream sends nothing more through the tunnel."""


class UpstreamConnection:
    """A protocol of asyncio's. It serves one exchange at a time; in between it is the pool's.

    It is no subclass of `asyncio.Protocol`: compiled code gets at its attributes by name then.
    """

    __slots__ = (
        "_answering",
        "_body",
        "_buffer",
        "_eof",
        "_head_only",
        "_informational",
        "_limit",
        "_lost",
        "_route",
        "_state",
        "idle_until",
        "listener",
        "opened_at",
        "paused",
        "transport",
        "upgrade",
    )

    transport: asyncio.Transport

    def __init__(self, route: CompiledRoute, head_limit: int, opened_at: float) -> None:
        """`head_limit` is in bytes, `opened_at` in seconds of the monotonic clock."""
        self._route = route
        self._limit = head_limit
        self.opened_at = opened_at
        self.idle_until = opened_at
        self.listener: Listener | None = None
        self.upgrade = False
        self.paused = False
        self._head_only = False
        self._answering = False
        self._buffer: bytes | bytearray = b""
        self._informational = 0
        self._body: BodyReader | None = None
        self._eof = False
        self._lost = False
        self._state = _HEAD

    # --- the exchange's side -------------------------------------------------------------------------------------

    def begin(self, listener: Listener, request: list[bytes | bytearray], head_only: bool, upgrade: bool) -> None:
        """Send a request; `upgrade` says that it asks for a WebSocket."""
        self.listener = listener
        self.upgrade = upgrade
        self._head_only = head_only
        self._answering = False
        self._informational = 0
        self._state = _HEAD
        self.transport.write(b"".join(request))

    def end(self) -> None:
        """The exchange is over; whatever comes now was not asked for."""
        self.listener = None
        if self.paused:
            self.pause(paused=False)

    def pause(self, *, paused: bool) -> None:
        """Stop reading, or go on."""
        self.paused = paused
        (transport.pause if paused else transport.resume)(self.transport)

    def is_usable(self) -> bool:
        """Whether another request can be sent."""
        return not (self._lost or self._eof or self._buffer or self.transport.is_closing())

    def close(self) -> None:
        """End the connection, at once: nobody listens any more."""
        self.listener = None
        if not self._lost:
            self.transport.abort()

    # --- asyncio's side ------------------------------------------------------------------------------------------

    def connection_made(self, transport_: asyncio.BaseTransport) -> None:
        """Take the transport; the pool hands the connection out."""
        self.transport = cast("asyncio.Transport", transport_)  # uvloop's are no subclass of it
        self.transport.set_write_buffer_limits(high=transport.WRITE_HIGH_WATER)

    def data_received(self, data: bytes) -> None:
        """Read a response, or close a connection on which nobody asked for one."""
        if self.listener is None:
            # A response to nothing must not become the next request's (response splitting).
            self._buffer = b"!"
            self._route.pool.lost(self)
            self.close()
            return
        try:
            if self._state == _HEAD:
                self._read_head(data)
            elif self._state == _BODY:
                self._read_body(data)
            else:
                self.listener.tunnel_data_received(data)
        except Problem as error:
            self._break(error)
        except ChunkedError as error:
            self._break(UpstreamProtocolError(f"The upstream's body is not valid. {error}"))

    def eof_received(self) -> None:
        """End what ends with the connection. Over TLS this is a close_notify, and never a bare FIN."""
        self._eof = True
        listener = self.listener
        if listener is None:
            self._route.pool.lost(self)
        elif self._state == _BODY and isinstance(self._body, UntilCloseReader):
            listener.body_received([], done=True)
        elif self._state == _TUNNEL:
            listener.tunnel_eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever has the connection, and in which state its response was."""
        self._lost = True
        listener = self.listener
        if listener is None:
            self._route.pool.lost(self)
        elif self._state == _TUNNEL and exc is None:
            listener.tunnel_eof_received()
        elif not self._answering and not self._buffer:
            listener.connection_lost()
        else:
            self._break(UpstreamProtocolError("The upstream closed the connection in the middle of its answer."))

    def pause_writing(self) -> None:
        """Have the request paused."""
        if self.listener is not None:
            self.listener.pause_request(paused=True)

    def resume_writing(self) -> None:
        """Have the request go on."""
        if self.listener is not None:
            self.listener.pause_request(paused=False)

    # --- reading -------------------------------------------------------------------------------------------------

    def _break(self, error: Problem) -> None:
        listener = self.listener
        if listener is not None:
            listener.response_broken(error)

    def _read_head(self, data: bytes) -> None:
        if self._buffer:
            # Only what is new is looked at, until there is an end (or too much).
            seen = len(self._buffer)
            buffer = self._buffer = transport.appended(self._buffer, data)
            if buffer.find(b"\r\n\r\n", max(0, seen - 3)) < 0 and len(buffer) <= self._limit:
                return
            data = bytes(buffer)
            self._buffer = b""
        response = self._route.response(data)
        if response is None or response.size > self._limit:
            if len(data) > self._limit:
                raise UpstreamProtocolError("The head of the upstream's answer is too large.")
            self._buffer = data
            return
        self._answering = True
        if response.fields.status < _OK:
            self._read_informational(response, data[response.size :])
        else:
            self._read_response(response, data[response.size :])

    def _read_informational(self, response: Response, rest: bytes) -> None:
        listener = self.listener
        assert listener is not None
        if response.fields.status == _SWITCHING:
            if not self.upgrade or response.fields.upgrade != b"websocket":
                raise UpstreamProtocolError("The upstream switched protocols unasked.")
            self._state = _TUNNEL
            listener.protocol_switched(response, rest)
            return
        self._informational += 1
        if self._informational > _MAX_INFORMATIONAL:
            raise UpstreamProtocolError("The upstream sends 1xx answers without end.")
        listener.informational_received(response)
        if rest and self.listener is listener:
            self._read_head(rest)

    def _read_response(self, response: Response, rest: bytes) -> None:
        listener = self.listener
        assert listener is not None
        fields = response.fields
        ends = EMPTY if self._head_only else fields.ends
        if ends == EMPTY or (ends == LENGTH and fields.length == len(rest)):
            if ends == EMPTY:
                self._expect_none(rest)
            listener.response_received(response, [rest] if rest else [], True)
            return
        if ends == LENGTH:
            self._body = LengthReader(fields.length)
        else:
            self._body = ChunkedReader() if ends == CHUNKED else UntilCloseReader()
        self._state = _BODY
        pieces, done = self._feed(rest)
        listener.response_received(response, pieces, done)

    def _read_body(self, data: bytes) -> None:
        pieces, done = self._feed(data)
        if self.listener is not None and (pieces or done):
            self.listener.body_received(pieces, done)

    def _feed(self, data: bytes) -> tuple[Pieces, bool]:
        body = self._body
        assert body is not None
        pieces, rest = body.feed(data)
        self._expect_none(rest)
        return pieces, body.done

    def _expect_none(self, rest: bytes) -> None:
        if rest:
            raise UpstreamProtocolError("The upstream sent more bytes than its answer has.")
