"""The chunked coding: one list of bodies, three ways to cut them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

import pytest

from sidecar.proxy.framing import (
    BodyReader,
    ChunkedError,
    ChunkedReader,
    LengthReader,
    Pieces,
    UntilCloseReader,
    encode,
)

GOOD = [
    (b"0\r\n\r\n", b""),
    (b"000\r\n\r\n", b""),
    (b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
    (b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", b"hello world"),
    (b"a\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
    (b"A\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
    (b"000000000000005\r\nhello\r\n0\r\n\r\n", b"hello"),
    (b"2\r\n\r\n\r\n0\r\n\r\n", b"\r\n"),
    (b"7\r\n0\r\n\r\n00\r\n0\r\n\r\n", b"0\r\n\r\n00"),
    (b"1;a\r\nx\r\n0;b\r\n\r\n", b"x"),
    (b"1;a=b;c=d\r\nx\r\n0\r\n\r\n", b"x"),
    (b"1 ; a = b\r\nx\r\n0\r\n\r\n", b"x"),
    (b'1;a="quoted; \\" 5"\r\nx\r\n0\r\n\r\n', b"x"),
    (b"1\r\nx\r\n0\r\nTrailer: 1\r\n\r\n", b"x"),
    (b"1\r\nx\r\n0\r\nAuthorization: x\r\nEmpty:\r\n\r\n", b"x"),
    (b"100\r\n" + b"z" * 256 + b"\r\n0\r\n\r\n", b"z" * 256),
]

BAD = [
    (b"\r\n", "size line"),
    (b"g\r\n", "size line"),
    (b"-1\r\n", "size line"),
    (b"+1\r\n", "size line"),
    (b"0x1\r\n", "size line"),
    (b" 1\r\n", "size line"),
    (b"1 \r\nx\r\n", "size line"),
    (b"1_0\r\n", "size line"),
    (b"\xb2\r\n", "size line"),
    (b"1;\r\n", "size line"),
    (b"1;;a\r\n", "size line"),
    (b"1;a=\r\n", "size line"),
    (b'1;a="open\r\n', "size line"),
    (b"1;a=\x00\r\n", "size line"),
    (b"1,a\r\n", "size line"),
    (b"1000000000000000\r\n", "size line"),
    (b"ffffffffffffffff\r\n", "size line"),
    (b"1\nx\r\n0\r\n\r\n", "size line"),
    (b"1\rx\r\n", "size line"),
    (b"1;a\nb\r\nx\r\n", "size line"),
    (b"1;" + b"a" * 300, "size line"),
    (b"1\r\nxy\r\n", "CRLF"),
    (b"1\r\nx\n0\r\n\r\n", "CRLF"),
    (b"1\r\nx\r0\r\n\r\n", "CRLF"),
    (b"1\r\nx0\r\n\r\n", "CRLF"),
    (b"0\r\nA : 1\r\n\r\n", "trailer line"),
    (b"0\r\n A: 1\r\n\r\n", "trailer line"),
    (b"0\r\nA: 1\r\n 2\r\n\r\n", "trailer line"),
    (b"0\r\nno colon\r\n\r\n", "trailer line"),
    (b"0\r\n: 1\r\n\r\n", "trailer line"),
    (b"0\r\nA: \x00\r\n\r\n", "trailer line"),
    (b"0\r\n\n", "trailer line"),
    (b"0\r\nA: 1\n\r\n", "trailer line"),
    (b"0\r\nA: 1\r\r\n\r\n", "trailer line"),
    (b"0\r\n" + b"A: 1\r\n" * 4000, "too long"),
]


def whole(raw: bytes) -> list[bytes]:
    return [raw]


def single_bytes(raw: bytes) -> list[bytes]:
    return [raw[i : i + 1] for i in range(len(raw))]


def random_cuts(raw: bytes) -> list[bytes]:
    rng = random.Random(raw)
    places = sorted(rng.sample(range(1, len(raw)), min(len(raw) - 1, rng.randint(1, 8))))
    return [raw[start:end] for start, end in zip([0, *places], [*places, len(raw)], strict=True)]


CUTS = [whole, single_bytes, random_cuts]
Cut = Callable[[bytes], list[bytes]]


def play(decoder: BodyReader, pieces: Iterable[bytes]) -> tuple[bytes, bytes]:
    """The data, and what follows the end."""
    data, after = b"", b""
    for piece in pieces:
        if decoder.done:
            after += piece
            continue
        found, rest = decoder.feed(piece)
        data += b"".join(found)
        after += rest
    return data, after


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize(("raw", "data"), GOOD)
def test_data_comes_out(raw: bytes, data: bytes, cut: Cut) -> None:
    """Every byte of data and nothing else, however the wire cuts it; extensions and trailers are dropped."""
    decoder = ChunkedReader()
    assert play(decoder, cut(raw)) == (data, b"")
    assert decoder.done


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize(("raw", "data"), GOOD)
def test_what_follows_is_not_touched(raw: bytes, data: bytes, cut: Cut) -> None:
    """What follows the end, a pipelined request, comes back byte for byte."""
    decoder = ChunkedReader()
    assert play(decoder, cut(raw + b"GET / HTTP/1.1\r\n\r\n")) == (data, b"GET / HTTP/1.1\r\n\r\n")


@pytest.mark.parametrize(("raw", "data"), GOOD)
def test_no_end_before_the_end(raw: bytes, data: bytes) -> None:
    """A body that stops anywhere before its last byte is never done."""
    for length in range(len(raw)):
        decoder = ChunkedReader()
        assert data.startswith(play(decoder, [raw[:length]])[0])
        assert not decoder.done


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize(("raw", "word"), BAD)
def test_ambiguous_bytes_are_refused(raw: bytes, word: str, cut: Cut) -> None:
    """What two parsers could read in two ways is refused, however the wire cuts it; the text says what is wrong."""
    with pytest.raises(ChunkedError) as caught:
        play(ChunkedReader(), cut(raw + b"\r\n" * 4))
    assert word in str(caught.value)


def test_bare_line_feed_is_refused_at_once() -> None:
    """A sender of bare LFs hears of it, and does not wait for a time limit."""
    for raw in (b"5\n", b"0\r\nA: 1\n"):
        with pytest.raises(ChunkedError):
            ChunkedReader().feed(raw)


def test_trailers_are_bounded() -> None:
    """All of them together, with the empty line behind them, have a limit."""
    line = b"A: " + b"x" * (1024 - 3 - 4) + b"\r\n"
    assert play(ChunkedReader(trailer_limit=1024), [b"0\r\n", line, b"\r\n"]) == (b"", b"")
    with pytest.raises(ChunkedError):
        play(ChunkedReader(trailer_limit=1000), [b"0\r\n", line, b"\r\n"])


@pytest.mark.parametrize("line", [b"A: x\r\n", b"\rA: x\r\n"])
def test_dripping_trailers_are_bounded(line: bytes) -> None:
    """Byte by byte they have the same limit."""
    with pytest.raises(ChunkedError):
        play(ChunkedReader(), single_bytes(b"0\r\n" + line * 4000))


def test_data_is_not_copied() -> None:
    """A large chunk comes back as a slice of what was fed."""
    raw = b"100000\r\n" + b"x" * (1 << 20)
    pieces, _ = ChunkedReader().feed(raw)
    assert [piece.obj is raw for piece in pieces] == [True]


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ([], b""),
        ([b""], b""),
        ([b"hello"], b"5\r\nhello\r\n"),
        ([b"hello", b"", memoryview(b" world")], b"b\r\nhello world\r\n"),
        ([b"x" * 4096], b"1000\r\n" + b"x" * 4096 + b"\r\n"),
    ],
)
def test_encode(pieces: Pieces, expected: bytes) -> None:
    """All pieces as one chunk; no data is no chunk, for that would end the body, which the last chunk alone does."""
    assert b"".join(encode(pieces, done=False)) == expected
    assert b"".join(encode(pieces, done=True)) == expected + b"0\r\n\r\n"


def test_encode_then_decode() -> None:
    """What is coded here is read here, and is the plainest spelling there is."""
    data = [bytes([n]) * n for n in range(1, 50)]
    raw = b"".join(b"".join(encode([piece], done=piece is data[-1])) for piece in data)
    decoder = ChunkedReader()
    assert play(decoder, random_cuts(raw)) == (b"".join(data), b"")
    assert decoder.done


# --- the other framings ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("length", [2, 5, 4096])
def test_a_body_of_a_known_length(length: int, cut: Cut) -> None:
    """So many bytes, however they are cut, and not one of what follows."""
    raw = random.Random(length).randbytes(length)
    reader = LengthReader(length)
    assert play(reader, cut(raw + b"GET / HTTP/1.1\r\n\r\n")) == (raw, b"GET / HTTP/1.1\r\n\r\n")
    assert reader.done
    reader = LengthReader(length + 1)
    assert play(reader, cut(raw)) == (raw, b"")
    assert not reader.done


def test_a_body_that_ends_with_its_connection() -> None:
    """Everything belongs to it, and no byte is its last."""
    reader = UntilCloseReader()
    assert play(reader, [b"hello", b"", b"0\r\n\r\n"]) == (b"hello0\r\n\r\n", b"")
    assert not reader.done
