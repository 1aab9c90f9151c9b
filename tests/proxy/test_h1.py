"""The grammar of lines, by tables: what is HTTP/1.1 to everybody, and what is refused."""

from __future__ import annotations

import pytest

from sidecar.errors import BadRequestError, UnsupportedError, UpstreamProtocolError
from sidecar.proxy import h1

# --- the request line ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"GET / HTTP/1.1", (b"GET", b"/", 1)),
        (b"GET / HTTP/1.0", (b"GET", b"/", 0)),
        (b"OPTIONS * HTTP/1.1", (b"OPTIONS", b"*", 1)),
        (b"get / HTTP/1.1", (b"get", b"/", 1)),
        (b"M-SEARCH /a?b=c HTTP/1.1", (b"M-SEARCH", b"/a?b=c", 1)),
        (b"!#$%&'*+-.^_`|~ / HTTP/1.1", (b"!#$%&'*+-.^_`|~", b"/", 1)),
        (b"GET http://localhost/a HTTP/1.1", (b"GET", b"http://localhost/a", 1)),
        (b"GET /%2e HTTP/1.1", (b"GET", b"/%2e", 1)),
    ],
)
def test_request_line(line: bytes, expected: tuple[bytes, bytes, int]) -> None:
    """Method, target and minor version, byte for byte; what the target means is judged elsewhere."""
    assert h1.request_line(line)[:3] == expected


@pytest.mark.parametrize(
    ("line", "word"),
    [
        (b"", "three parts"),
        (b"GET /", "three parts"),
        (b"GET  / HTTP/1.1", "three parts"),
        (b"GET /  HTTP/1.1", "three parts"),
        (b"GET / HTTP/1.1 ", "three parts"),
        (b" GET / HTTP/1.1", "three parts"),
        (b"GET /a b HTTP/1.1", "three parts"),
        (b"GET\t/\tHTTP/1.1", "three parts"),
        (b"GET / HTTP/2.0", "version"),
        (b"PRI * HTTP/2.0", "REST"),
        (b"PRI * HTTP/2.1", "version"),
        (b"GET / HTTP/1.2", "version"),
        (b"GET / HTTP/1.10", "version"),
        (b"GET / HTTP/01.1", "version"),
        (b"GET / HTTP/0.9", "version"),
        (b"GET / http/1.1", "version"),
        (b"GET / HTTP/1,1", "version"),
        (b"GET / RTSP/1.0", "version"),
        (b"GET / HTTP/1.\xb9", "version"),
        (b"G(T / HTTP/1.1", "character"),
        (b"G\x00T / HTTP/1.1", "character"),
        (b"GET /\x00 HTTP/1.1", "character"),
        (b"GET /\x7f HTTP/1.1", "character"),
        (b"GET /\xc3\xa4 HTTP/1.1", "character"),
        (b"GET /\t HTTP/1.1", "character"),
        (b"GET / HTTP/1.1\n", "bare"),
        (b"GET /\rX HTTP/1.1", "bare"),
    ],
)
def test_request_line_refused(line: bytes, word: str) -> None:
    """Anything but exactly three parts of the right characters is a bad request, and the detail says which."""
    with pytest.raises(BadRequestError) as caught:
        h1.request_line(line)
    assert word in caught.value.detail


@pytest.mark.parametrize("method", [b"CONNECT", b"TRACE"])
def test_request_line_unsupported(method: bytes) -> None:
    """CONNECT and TRACE are never served."""
    with pytest.raises(UnsupportedError):
        h1.request_line(method + b" / HTTP/1.1")


# --- the status line --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"HTTP/1.1 200 OK", (1, 200, b"OK")),
        (b"HTTP/1.0 404 Not Found", (0, 404, b"Not Found")),
        (b"HTTP/1.1 200 ", (1, 200, b"")),
        (b"HTTP/1.1 200", (1, 200, b"")),
        (b"HTTP/1.1 100 Continue", (1, 100, b"Continue")),
        (b"HTTP/1.1 599 \xe4", (1, 599, b"\xe4")),
    ],
)
def test_status_line(line: bytes, expected: tuple[int, int, bytes]) -> None:
    """Minor version, code and reason; the reason may be missing with its space (RFC 9112, 4, is lenient there)."""
    assert h1.status_line(line) == expected


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"HTTP/1.1",
        b"HTTP/1.1 20 OK",
        b"HTTP/1.1 2000 OK",
        b"HTTP/1.1 000 OK",
        b"HTTP/1.1 600 OK",
        b"HTTP/1.1 999 OK",
        b"HTTP/1.1  200 OK",
        b"HTTP/1.1\t200 OK",
        b"HTTP/2 200",
        b"HTTP/1.2 200 OK",
        b"http/1.1 200 OK",
        b"ICY 200 OK",
        b"HTTP/1.1 200OK",
        b"HTTP/1.1 -20 OK",
        b"HTTP/1.1 \xb200 OK",
        b"HTTP/1.1 200 O\rK",
        b"HTTP/1.1 200 OK\n",
        b"HTTP/1.1 200 \x00",
        b" HTTP/1.1 200 OK",
    ],
)
def test_status_line_refused(line: bytes) -> None:
    """An answer that begins in any other way is the upstream's fault."""
    with pytest.raises(UpstreamProtocolError):
        h1.status_line(line)


# --- heads that can never become one ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "partial",
    [b"", b"G", b"GET / HT", b"GET / HTTP/1.1\r", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n\r", b"!"],
)
def test_incomplete_head_still_can(partial: bytes) -> None:
    """What may still become a head is waited for."""
    assert h1.early_fault(partial) is None


@pytest.mark.parametrize(
    ("partial", "start", "word"),
    [
        (b"GET / HTTP/1.1\n", 0, "bare"),
        (b"GET / HTTP/1.1\n", 14, "bare"),
        (b"GET / HTTP/1.1\r\nHost: a\n", 17, "bare"),
        (b"GET / HTTP/1.1\rX", 0, "bare"),
        (b"GET / HTTP/1.1\rX", 15, "bare"),
        (b"\x16\x03\x01\x02\x00", 0, "TLS"),
        (b" GET", 0, "method"),
        (b"{", 0, "method"),
    ],
)
def test_incomplete_head_never_can(partial: bytes, start: int, word: str) -> None:
    """Who speaks TLS here, or ends lines with LF alone, hears at once; across the cut between two reads too."""
    assert word in (h1.early_fault(partial, start) or "")


@pytest.mark.parametrize("cut", range(1, 24))
def test_a_good_line_ending_is_good_at_any_cut(cut: int) -> None:
    """CR and LF in two reads are one line ending."""
    head = b"GET / HTTP/1.1\r\nHost: a\r\n"
    assert h1.early_fault(head, cut) is None
    assert h1.early_fault(head[:cut]) is None
