"""TLS to upstreams and from clients, over a plain transport and OpenSSL's memory buffers.

The event loops' own TLS loses the end of an answer whose sender is gone while reading is paused (uvloop: bytes;
asyncio: an exception in a callback), and each tells a close_notify from a bare FIN in its own way. Here both loops do
the same: what was received is delivered, however late it is read; `eof_received` means close_notify (RFC 8446, 6.1),
and after a FIN without one `connection_lost` comes alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from cryptography import x509

_READ_BYTES = 256 << 10
_RECORD_BYTES = 16 << 10
"""A record's content (RFC 8446, 5.1), which is all that one read of OpenSSL gives: more room is for nothing."""

MAX_RESUMPTION_SECONDS = 300.0
"""In a resumed handshake the server shows no certificate; after this time it has to show it again."""


@dataclass(eq=False)
class Verified:
    """A connection to a server whose certificate was verified, and when: in this handshake, or the one it resumed."""

    tls: ssl.SSLObject
    at: float
    """Seconds of the boot clock: time in which the machine slept counts."""


def resumable(verified: Verified | None, context: ssl.SSLContext, now: float) -> Verified | None:
    """`verified`, if its session may be resumed (RFC 8446, 2.2): that costs a third of a whole handshake.

    The server proves who it is by knowing the session's secret. A session is not resumed under another context, which
    may trust other authorities. `now` is in seconds of the boot clock.
    """
    if verified is None or verified.tls.context is not context or now - verified.at > MAX_RESUMPTION_SECONDS:
        return None
    return verified


def attributes(name: x509.Name) -> frozenset[str]:
    """Return a name's attributes, each as in RFC 4514: `CN=reports`."""
    return frozenset(attribute.rfc4514_string() for attribute in name)


class TlsLayer:
    """TLS on a connection: the plain transport's protocol, and the transport of the application's protocol above it.

    It is no subclass of asyncio's classes for these, as `UpstreamConnection`.
    """

    raw: asyncio.Transport

    def __init__(
        self,
        app: asyncio.Protocol,
        context: ssl.SSLContext,
        server_hostname: str | None,
        verified: Verified | None = None,
    ) -> None:
        """Be the client of `server_hostname`, or a server where that is None.

        `verified` is an earlier connection whose session is to be resumed, where `resumable` allows it.
        """
        self._app = app
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self.tls = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_hostname is None, server_hostname=server_hostname
        )
        if verified is not None:
            # Asked for now: a server sends its tickets behind the handshake, with its first answer. A connection that
            # has nothing to offer is none to fail over.
            with contextlib.suppress(ssl.SSLError, TypeError, ValueError):
                self.tls.session = verified.tls.session
        self.established: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the peer is known to be who it should be; else its exception says why not."""
        self.resumed = False
        """Whether the handshake resumed `verified`'s session, and the server showed no certificate."""
        self._paused = False
        self._open = False
        self._connected = False
        self._subject: frozenset[str] | None = None

    # --- the plain transport's side ------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the handshake."""
        self.raw = cast("asyncio.Transport", transport)
        self._connected = True
        if self.established.cancelled():  # nobody waits for it any more
            self.raw.abort()
            return
        self._shake_hands()

    def data_received(self, data: bytes) -> None:
        """Decrypt and deliver, or go on with the handshake."""
        self._incoming.write(data)
        if self._open:
            self._deliver()
        else:
            self._shake_hands()

    def eof_received(self) -> None:
        """Ignore a FIN, which says nothing about TLS; the loss of the connection follows."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the application, or whoever waits for the handshake."""
        self._connected = False
        if self._open:
            self._open = False
            self._app.connection_lost(exc)
        elif not self.established.done():
            self.established.set_exception(exc or ConnectionResetError("closed in the TLS handshake"))

    def pause_writing(self) -> None:
        """Tell the application that the peer takes no more for now."""
        if self._open:
            self._app.pause_writing()

    def resume_writing(self) -> None:
        """Tell the application that the peer takes more again."""
        if self._open:
            self._app.resume_writing()

    # --- the application's side ----------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt and send."""
        if not data:
            return
        try:
            self.tls.write(data)
        except ssl.SSLError as error:
            # Not from within the application's own write: a transport tells of its end later.
            self.raw.abort()
            asyncio.get_running_loop().call_soon(self._fail, error)
        else:
            self._flush()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Encrypt and send several pieces as one."""
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        """Only towards clients: a half-closed TLS connection is more than most servers bear."""
        return self.tls.server_side

    def write_eof(self) -> None:
        """Send a close_notify; what the client still sends is read."""
        with contextlib.suppress(ssl.SSLError):
            self.tls.unwrap()
        self._flush()

    def close(self) -> None:
        """Send a close_notify and what was written before, and end; the peer's own close_notify is not waited for."""
        with contextlib.suppress(ssl.SSLError):
            self.tls.unwrap()
        self._flush()
        self.raw.close()

    def abort(self) -> None:
        """End at once. Nobody may wait for `established` any more."""
        self.established.cancel()
        if self._connected:  # asyncio's transports raise where they were closed with something to send, and are gone
            self.raw.abort()

    def is_closing(self) -> bool:
        """Whether the connection is closed, or about to be."""
        return self.raw.is_closing()

    def pause_reading(self) -> None:
        """Deliver nothing more for now; what was received stays encrypted where it is."""
        self._paused = True
        if not self.raw.is_closing():
            self.raw.pause_reading()

    def resume_reading(self) -> None:
        """Deliver again: first what is here."""
        self._paused = False
        asyncio.get_running_loop().call_soon(self._resume)

    def is_reading(self) -> bool:
        """Whether what is received is delivered."""
        return not self._paused

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the plain transport's, in bytes."""
        self.raw.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        """Bytes that wait to be sent, encrypted."""
        return self.raw.get_write_buffer_size()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Information about the connection; what is not TLS is asked of the plain transport."""
        return self.tls if name == "ssl_object" else self.raw.get_extra_info(name, default)

    def peer_subject(self) -> frozenset[str]:
        """The attributes of the subject of the certificate that the peer has shown; empty without one."""
        if self._subject is None:
            from cryptography import x509  # noqa: PLC0415 (costs who asks for no certificate)

            shown = self.tls.getpeercert(binary_form=True)
            self._subject = attributes(x509.load_der_x509_certificate(shown).subject) if shown else frozenset()
        return self._subject

    def _resume(self) -> None:
        if self._paused or not self._open:
            return
        self._deliver()
        if self.is_reading() and not self.raw.is_closing():
            self.raw.resume_reading()

    # --- TLS -----------------------------------------------------------------------------------------------------

    def _shake_hands(self) -> None:
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
        except ssl.SSLError as error:
            self._flush()  # the alert
            if not self.established.done():
                self.established.set_exception(error)
            self.raw.close()
        else:
            self.resumed = bool(self.tls.session_reused)
            self._flush()
            self._open = True
            self._app.connection_made(cast("asyncio.Transport", self))
            if not self.established.done():
                self.established.set_result(None)
            self._deliver()

    def _deliver(self) -> None:
        """Decrypt and hand on, until nothing is left or the application pauses."""
        while self._open and not self._paused and (self._incoming.pending or self.tls.pending()):
            data, end = self._decrypt()
            if data:
                self._app.data_received(data)
            if end is not None:
                self._end(end)
                break
            if not data:
                break
        self._flush()  # TLS has things of its own to say: a key update's answer, an alert

    def _decrypt(self) -> tuple[bytes, ssl.SSLError | None]:
        """As much as one read of a plain connection would bring, and why no more will come.

        Records are small, and what is handed over is written at once: so many are handed over together.
        """
        pieces: list[bytes] = []
        size = 0
        end: ssl.SSLError | None = None
        try:
            while size < _READ_BYTES and (self._incoming.pending or self.tls.pending()):
                piece = self.tls.read(_RECORD_BYTES)
                if not piece:
                    raise ssl.SSLZeroReturnError
                pieces.append(piece)
                size += len(piece)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            end = error
        return pieces[0] if len(pieces) == 1 else b"".join(pieces), end

    def _end(self, end: ssl.SSLError) -> None:
        """The peer sent a close_notify, or something that is not TLS; nothing that follows is delivered."""
        if not isinstance(end, ssl.SSLZeroReturnError):
            self._fail(end)
        elif self._open and not self._app.eof_received():  # a client that waits for its answer gets it
            self.raw.close()
            self._paused = True

    def _flush(self) -> None:
        if self._outgoing.pending and not self.raw.is_closing():
            self.raw.write(self._outgoing.read())

    def _fail(self, error: Exception) -> None:
        if self._open:
            self._open = False
            self.raw.abort()
            self._app.connection_lost(error)
