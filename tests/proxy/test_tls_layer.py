"""The TLS layer alone, against OpenSSL's server side in memory: what it delivers, and what each end means."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import cast

import pytest

from sidecar.proxy.tls import TlsLayer
from tests.proxy.certificates import client_context, server_context
from tests.proxy.client import random_cuts, single_bytes, whole
from tests.proxy.lab import until

DATA = bytes(range(256)) * 400


class Wire(asyncio.Transport):
    """A plain transport in memory: what is written stays in `sent`."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = bytearray()
        self.closing = False
        self.aborted = False
        self.reading = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.closing, "written behind the end"
        self.sent += data

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = self.aborted = True

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def get_write_buffer_size(self) -> int:
        return len(self.sent)


@dataclass
class App(asyncio.Protocol):
    """The protocol above."""

    data: bytearray = field(default_factory=bytearray)
    events: list[str] = field(default_factory=list)
    pauses_after: int | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.events.append("made")

    def data_received(self, data: bytes) -> None:
        assert data, "no data is no event"
        assert self.transport.is_reading(), "delivered while paused"
        self.data += data
        if self.pauses_after is not None and len(self.data) >= self.pauses_after:
            self.transport.pause_reading()

    def eof_received(self) -> None:
        self.events.append("eof")

    def connection_lost(self, exc: Exception | None) -> None:
        self.events.append("lost" if exc is None else f"lost: {type(exc).__name__}")


class Pair:
    """Our layer and a server, wired by hand."""

    def __init__(
        self, context: ssl.SSLContext | None = None, *, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    ) -> None:
        self.app = App()
        self.wire = Wire()
        server = server_context(version=version)
        self._to_server, self._from_server = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.server = server.wrap_bio(self._to_server, self._from_server, server_side=True)
        self.layer = TlsLayer(self.app, context or client_context(), "localhost")
        self.layer.connection_made(self.wire)

    def to_server(self) -> None:
        """Pass on what we wrote."""
        self._to_server.write(bytes(self.wire.sent))
        self.wire.sent.clear()

    def from_server(self) -> bytes:
        """What the server wrote."""
        return self._from_server.read()

    def received(self, pieces: Iterable[bytes]) -> None:
        """As the plain transport would tell it."""
        for piece in pieces:
            if not self.wire.closing:
                self.layer.data_received(piece)

    def shake_hands(self, cut: Callable[[bytes], list[bytes]] = whole) -> None:
        """Until both are content, or one is not."""
        for _ in range(10):
            self.to_server()
            with contextlib.suppress(ssl.SSLError):
                self.server.do_handshake()
            self.received(cut(self.from_server()))
            if self.layer.established.done() and not self.wire.sent:
                return

    def server_reads(self) -> bytes:
        """All that arrived there."""
        self.to_server()
        data = b""
        with contextlib.suppress(ssl.SSLWantReadError):
            while piece := self.server.read(1 << 20):
                data += piece
        return data

    def server_writes(self, data: bytes, *, close_notify: bool = False) -> bytes:
        """The records of it."""
        for start in range(0, len(data), 16_000):
            self.server.write(data[start : start + 16_000])
        if close_notify:
            with contextlib.suppress(ssl.SSLError):
                self.server.unwrap()
        return self.from_server()


def established(**more: object) -> Pair:
    pair = Pair(**more)  # type: ignore[arg-type]
    pair.shake_hands()
    assert pair.layer.established.done()
    assert pair.app.events == ["made"]
    return pair


CUTS = [whole, single_bytes, lambda raw: random_cuts(raw, "seed")]
CUT_NAMES = ["whole", "bytes", "cuts"]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("cut", CUTS, ids=CUT_NAMES)
async def test_handshake(cut: Callable[[bytes], list[bytes]], version: ssl.TLSVersion) -> None:
    """However the wire cuts it, in both versions; the application hears of the connection once it is verified."""
    pair = Pair(version=version)
    pair.shake_hands(cut)
    await pair.layer.established
    assert pair.app.events == ["made"]
    assert pair.server.version() == pair.layer.tls.version()


@pytest.mark.parametrize("cut", CUTS, ids=CUT_NAMES)
async def test_data_arrives(cut: Callable[[bytes], list[bytes]]) -> None:
    """Whole records, several at once, single bytes of one: the same bytes in the same order."""
    pair = established()
    pair.received(cut(pair.server_writes(DATA)))
    assert bytes(pair.app.data) == DATA


@pytest.mark.parametrize("size", [0, 1, 16_384, 16_385, 1 << 20, 4 << 20])
async def test_data_goes_out(size: int) -> None:
    """Of any size in one write."""
    pair = established()
    data = (DATA * (size // len(DATA) + 1))[:size]
    pair.app.transport.write(data)
    assert pair.server_reads() == data


async def test_several_buffers_go_out_in_order() -> None:
    """`writelines` is one write of all."""
    pair = established()
    pair.app.transport.writelines([b"one ", memoryview(b"two "), bytearray(b"three")])
    assert pair.server_reads() == b"one two three"


async def test_the_first_records_behind_the_handshake() -> None:
    """An answer in the same packet as the handshake's end is not lost."""
    pair = Pair(version=ssl.TLSVersion.TLSv1_3)
    pair.to_server()
    with contextlib.suppress(ssl.SSLWantReadError):
        pair.server.do_handshake()
    pair.received([pair.from_server()])
    pair.to_server()
    pair.server.do_handshake()
    pair.received([pair.server_writes(DATA)])
    assert bytes(pair.app.data) == DATA


async def test_who_pauses_gets_nothing_more() -> None:
    """Not even what is here already; it comes when reading goes on, and the plain transport stands still meanwhile."""
    pair = established()
    pair.app.pauses_after = 30_000
    data = DATA * 8
    pair.received([pair.server_writes(data)])
    taken = len(pair.app.data)
    assert 30_000 <= taken <= 30_000 + (300 << 10)
    assert not pair.wire.reading
    pair.app.pauses_after = None
    pair.app.transport.resume_reading()
    await until(lambda: bytes(pair.app.data) == data)
    assert pair.wire.reading


async def test_pausing_again_and_again() -> None:
    """At every record: nothing is lost, doubled or out of order."""
    pair = established()
    pair.app.pauses_after = 0
    pair.received([pair.server_writes(DATA, close_notify=True)])
    while bytes(pair.app.data) != DATA:
        before = len(pair.app.data)
        pair.app.transport.resume_reading()
        await until(lambda before=before: len(pair.app.data) > before)
    pair.app.transport.resume_reading()
    await until(lambda: pair.app.events == ["made", "eof"])


async def test_pausing_right_behind_resuming() -> None:
    """The last word counts."""
    pair = established()
    pair.app.transport.pause_reading()
    pair.received([pair.server_writes(DATA)])
    pair.app.transport.resume_reading()
    pair.app.transport.pause_reading()
    for _ in range(5):
        await asyncio.sleep(0)
    assert pair.app.data == b""
    assert not pair.wire.reading


async def test_close_notify_is_an_end() -> None:
    """Told once, behind all data."""
    pair = established()
    pair.received([pair.server_writes(DATA, close_notify=True)])
    assert bytes(pair.app.data) == DATA
    assert pair.app.events == ["made", "eof"]
    assert pair.wire.closing
    pair.layer.connection_lost(None)
    assert pair.app.events == ["made", "eof", "lost"]


async def test_a_fin_is_no_end() -> None:
    """Only the loss of the connection is told."""
    pair = established()
    pair.received([pair.server_writes(DATA)])
    assert not pair.layer.eof_received()
    pair.layer.connection_lost(None)
    assert pair.app.events == ["made", "lost"]


async def test_data_behind_close_notify_is_not_delivered() -> None:
    """RFC 8446, 6.1: nothing follows it."""
    pair = established()
    raw = pair.server_writes(b"data", close_notify=True)
    pair.received([raw + b"\x17\x03\x03\x00\x05hello"])
    assert bytes(pair.app.data) == b"data"
    assert pair.app.events == ["made", "eof"]


@pytest.mark.parametrize("cut", CUTS, ids=CUT_NAMES)
async def test_a_tampered_record(cut: Callable[[bytes], list[bytes]]) -> None:
    """The connection ends with an error, told once, and nothing of the record is delivered."""
    pair = established()
    good, bad = pair.server_writes(b"good"), bytearray(pair.server_writes(b"bad"))
    bad[-1] ^= 1
    pair.received(cut(good + bytes(bad)))
    assert bytes(pair.app.data) == b"good"
    assert pair.wire.aborted
    assert pair.app.events == ["made", "lost: SSLError"]
    pair.layer.connection_lost(None)
    assert len(pair.app.events) == 2


async def test_plain_text_in_the_middle() -> None:
    """The same for what is no record at all."""
    pair = established()
    pair.received([b"HTTP/1.1 200 OK\r\n\r\n"])
    assert pair.app.data == b""
    assert pair.wire.aborted
    assert pair.app.events == ["made", "lost: SSLError"]


async def test_closing_says_goodbye() -> None:
    """The server can tell that nothing was cut off."""
    pair = established()
    pair.app.transport.write(b"last")
    pair.app.transport.close()
    assert pair.wire.closing
    assert pair.server_reads() == b"last"
    assert pair.server.read(1) == b"", "a close_notify; a FIN alone would leave it waiting"


async def test_what_comes_behind_the_end_is_no_error() -> None:
    """Closed, aborted or lost: writing, pausing and closing again do nothing."""
    for end in ("close", "abort"):
        pair = established()
        getattr(pair.app.transport, end)()
        sent = bytes(pair.wire.sent)
        for call in ("pause_reading", "resume_reading", "close", "abort"):
            getattr(pair.app.transport, call)()
        assert pair.app.transport.is_closing()
        assert bytes(pair.wire.sent) == sent
        pair.layer.connection_lost(None)
        await asyncio.sleep(0)
        assert pair.app.events == ["made", "lost"]


@pytest.mark.parametrize("raw", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x15\x03\x03\x00\x02\x02\x28", b"\x00" * 100])
async def test_a_handshake_that_fails(raw: bytes) -> None:
    """The reason is the future's, and the application never hears of the connection."""
    pair = Pair()
    pair.received([raw])
    with pytest.raises(ssl.SSLError):
        await pair.layer.established
    pair.layer.connection_lost(None)
    assert pair.app.events == []


async def test_an_untrusted_certificate() -> None:
    """Refused, and the server is told why by an alert."""
    pair = Pair(ssl.create_default_context())
    pair.shake_hands()
    with pytest.raises(ssl.SSLCertVerificationError):
        await pair.layer.established
    assert pair.wire.closing
    assert pair.app.events == []


@pytest.mark.parametrize("error", [None, ConnectionResetError("reset")])
async def test_a_connection_that_ends_in_the_handshake(error: Exception | None) -> None:
    """An OSError in any case, which is what the caller expects."""
    pair = Pair()
    pair.layer.connection_lost(error)
    with pytest.raises(ConnectionResetError):
        await pair.layer.established
    assert pair.app.events == []


async def test_back_pressure_passes_through() -> None:
    """The plain transport's full buffer is the application's."""
    pair = established()
    heard: list[str] = []
    pair.app.pause_writing = lambda: heard.append("pause")  # type: ignore[method-assign]
    pair.app.resume_writing = lambda: heard.append("resume")  # type: ignore[method-assign]
    pair.layer.pause_writing()
    pair.layer.resume_writing()
    assert heard == ["pause", "resume"]
    assert pair.app.transport.get_write_buffer_size() == len(pair.wire.sent)


async def test_few_large_pieces() -> None:
    """What came at once is handed on in few pieces, not record by record: each costs a system call further on."""
    pair = established()
    pieces: list[int] = []
    receive = pair.app.data_received
    pair.app.data_received = lambda data: (pieces.append(len(data)), receive(data))[1]  # type: ignore[method-assign]
    pair.received([pair.server_writes(DATA * 2)])
    assert sum(pieces) == 2 * len(DATA)
    assert len(pieces) <= 2


async def test_a_write_that_fails_is_not_told_within_the_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """The application hears of the loss when it is not in the middle of something, as from any transport."""
    pair = established()

    class Broken:
        def write(self, data: object) -> int:
            raise ssl.SSLError("broken")

        def __getattr__(self, name: str) -> object:
            return getattr(tls, name)

    tls = pair.layer.tls
    pair.layer.tls = Broken()  # type: ignore[assignment]
    pair.app.transport.write(b"data")
    assert pair.app.events == ["made"]
    assert pair.wire.closing
    await until(lambda: pair.app.events == ["made", "lost: SSLError"])
