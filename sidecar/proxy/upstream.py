"""One connection to an upstream: answers are taken apart as strictly as requests are (RFC 9112, 6 and 9)."""

from __future__ import annotations

import asyncio
from typing import Protocol, cast

from sidecar.errors import Problem, UpstreamProtocolError
from sidecar.proxy import transport
from sidecar.proxy.chunked import ChunkedDecoder, ChunkedError
from sidecar.proxy.routing import CompiledRoute, Response
from sidecar.proxy.semantics import CHUNKED, EMPTY, LENGTH

_MAX_INFORMATIONAL = 32
_SWITCHING, _OK = 101, 200


class Listener(Protocol):
    """The exchange, as its upstream connection sees it."""

    def informational(self, answer: Response) -> None:
        """A 1xx answer other than 101."""
        ...

    def switched(self, answer: Response, data: bytes) -> None:
        """101, as asked; `data` came right behind it."""
        ...

    def answered(self, answer: Response, pieces: list[bytes | memoryview], *, done: bool) -> None:
        """The final head, and what of its body came with it; a chunked body is taken apart."""
        ...

    def received(self, pieces: list[bytes | memoryview], *, done: bool) -> None:
        """More of the body."""
        ...

    def broken(self, error: Problem) -> None:
        """The answer is invalid, or ended early; the connection is of no use any more."""
        ...

    def upstream_lost(self) -> None:
        """The connection ended before a byte of the answer."""
        ...

    def upstream_paused(self, *, paused: bool) -> None:
        """The upstream takes no more for now, or does again."""
        ...

    def tunnelled(self, data: bytes) -> None:
        """Bytes of a tunnel."""
        ...

    def tunnel_ended(self) -> None:
        """The upstream sends nothing more through the tunnel."""
        ...


class UpstreamConnection(asyncio.Protocol):
    """See the module. At most one exchange at a time; the pool owns it in between."""

    __slots__ = (
        "_answering",
        "_buffer",
        "_decoder",
        "_eof",
        "_head_only",
        "_informational",
        "_left",
        "_limit",
        "_lost",
        "_on_lost",
        "_read",
        "_route",
        "idle_until",
        "listener",
        "opened_at",
        "paused",
        "transport",
        "upgrade",
    )

    transport: asyncio.Transport

    def __init__(self, route: CompiledRoute, head_limit: int, opened_at: float) -> None:
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
        self._left = 0
        self._decoder: ChunkedDecoder | None = None
        self._eof = False
        self._lost = False
        self._read = self._read_head

    # --- the exchange's side -------------------------------------------------------------------------------------

    def begin(self, listener: Listener, request: list[bytes], *, head_only: bool, upgrade: bool) -> None:
        """Send a request; the pool gives out only what is usable."""
        self.listener = listener
        self.upgrade = upgrade
        self._head_only = head_only
        self._answering = False
        self._informational = 0
        self._read = self._read_head
        self.transport.write(b"".join(request))

    def end(self) -> None:
        """The exchange is over; whatever comes now is unasked."""
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
        """See `asyncio.Protocol`."""
        self.transport = cast("asyncio.Transport", transport_)  # uvloop's are no subclass of it
        self.transport.set_write_buffer_limits(high=transport.WRITE_HIGH_WATER)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        if self.listener is None:
            # Nobody asked: an answer to nothing must not become the next request's (response splitting).
            self._buffer = b"!"
            self._route.pool.lost(self)
            self.close()
            return
        try:
            self._read(data)
        except Problem as error:
            self._broken(error)
        except ChunkedError as error:
            self._broken(UpstreamProtocolError(f"The upstream's body is not valid. {error}"))

    def eof_received(self) -> None:
        """See `asyncio.Protocol`. Over TLS this is a close_notify, and never a bare FIN."""
        self._eof = True
        listener = self.listener
        if listener is None:
            self._route.pool.lost(self)
        elif self._read == self._read_until_end:
            listener.received([], done=True)
        elif self._read == self._read_tunnel:
            listener.tunnel_ended()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._lost = True
        listener = self.listener
        if listener is None:
            self._route.pool.lost(self)
        elif self._read == self._read_tunnel and exc is None:
            listener.tunnel_ended()
        elif not self._answering and not self._buffer:
            listener.upstream_lost()
        else:
            self._broken(UpstreamProtocolError("The upstream closed the connection in the middle of its answer."))

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`."""
        if self.listener is not None:
            self.listener.upstream_paused(paused=True)

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        if self.listener is not None:
            self.listener.upstream_paused(paused=False)

    # --- reading -------------------------------------------------------------------------------------------------

    def _broken(self, error: Problem) -> None:
        listener = self.listener
        if listener is not None:
            listener.broken(error)

    def _read_head(self, data: bytes) -> None:
        if self._buffer:
            # Only what is new is looked at, until there is an end (or too much).
            seen = len(self._buffer)
            buffer = self._buffer = transport.appended(self._buffer, data)
            if buffer.find(b"\r\n\r\n", max(0, seen - 3)) < 0 and len(buffer) <= self._limit:
                return
            data = bytes(buffer)
            self._buffer = b""
        end = data.find(b"\r\n\r\n")
        if end < 0 or end + 4 > self._limit:
            if len(data) > self._limit:
                raise UpstreamProtocolError("The head of the upstream's answer is too large.")
            self._buffer = data
            return
        end += 4
        answer = self._route.response(data[:end])
        self._answering = True
        if answer.status < _OK:
            self._read_informational(answer, data[end:])
        else:
            self._read_answer(answer, data[end:])

    def _read_informational(self, answer: Response, rest: bytes) -> None:
        listener = self.listener
        assert listener is not None
        if answer.status == _SWITCHING:
            if not self.upgrade or answer.fields.upgrade != b"websocket":
                raise UpstreamProtocolError("The upstream switched protocols unasked.")
            self._read = self._read_tunnel
            listener.switched(answer, rest)
            return
        self._informational += 1
        if self._informational > _MAX_INFORMATIONAL:
            raise UpstreamProtocolError("The upstream sends 1xx answers without end.")
        listener.informational(answer)
        if rest and self.listener is listener:
            self._read_head(rest)

    def _read_answer(self, answer: Response, rest: bytes) -> None:
        listener = self.listener
        assert listener is not None
        ends = EMPTY if self._head_only else answer.fields.ends
        if ends == LENGTH:
            left = answer.fields.length - len(rest)
            if left < 0:
                self._no_more(b"!")
            self._left = left
            self._read = self._read_length
            listener.answered(answer, [rest] if rest else [], done=not left)
        elif ends == EMPTY:
            self._no_more(rest)
            listener.answered(answer, [], done=True)
        elif ends == CHUNKED:
            self._decoder = ChunkedDecoder()
            self._read = self._read_chunked
            pieces, done = self._decode(rest)
            listener.answered(answer, pieces, done=done)
        else:
            self._read = self._read_until_end
            listener.answered(answer, [rest] if rest else [], done=False)

    def _read_length(self, data: bytes) -> None:
        left = self._left - len(data)
        if left < 0:
            self._no_more(b"!")
        self._left = left
        if self.listener is not None:
            self.listener.received([data], done=not left)

    def _read_chunked(self, data: bytes) -> None:
        pieces, done = self._decode(data)
        if self.listener is not None and (pieces or done):
            self.listener.received(pieces, done=done)

    def _decode(self, data: bytes) -> tuple[list[bytes | memoryview], bool]:
        decoder = self._decoder
        assert decoder is not None
        pieces, rest = decoder.feed(data)
        if decoder.done:
            self._no_more(rest)
        return list(pieces), decoder.done

    def _read_until_end(self, data: bytes) -> None:
        if self.listener is not None:
            self.listener.received([data], done=False)

    def _read_tunnel(self, data: bytes) -> None:
        if self.listener is not None:
            self.listener.tunnelled(data)

    def _no_more(self, rest: bytes | memoryview) -> None:
        if rest:
            raise UpstreamProtocolError("The upstream sent more bytes than its answer has.")
