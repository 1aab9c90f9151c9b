"""Chunked bodies: sizes, extensions, line endings, trailers (RFC 9112, 7.1)."""

from tests.proxy.corpus.case import BAD, Forwarded, Refused, category, chunked, either, forwarded, get, refused, several

POST = b"POST"
END = b"0\r\n\r\n"


def good(name: str, body: bytes, whole: bytes, why: str = "9112 7.1"):
    """Forwarded with this body."""
    return forwarded(name, chunked(body), why, method=POST, body=whole)


def bad(name: str, body: bytes, why: str = "9112 7.1: no chunk", *status: int):
    """Refused; the head may have reached the origin, a complete request must not."""
    return refused(f"bad-{name}", chunked(body), why, *status, partial=True)


def trailer(name: str, line: bytes, key: bytes, why: str):
    """A trailer is dropped, whatever it says."""
    return forwarded(
        f"trailer-{name}",
        chunked(b"5\r\nhello\r\n0\r\n" + line + b"\r\n\r\n"),
        why,
        method=POST,
        body=b"hello",
        absent=(key,),
    )


def unclear(name: str, body: bytes, whole: bytes, why: str):
    """Refused, or read in the one possible way."""
    return either(name, chunked(body), why, BAD, Forwarded(method=POST, body=whole), partial=True)


CASES = category(
    "chunks",
    good("empty", END, b"", "the last chunk alone"),
    good("one", b"5\r\nhello\r\n" + END, b"hello"),
    good("two", b"5\r\nhello\r\n6\r\n world\r\n" + END, b"hello world"),
    good("single-bytes", b"".join(b"1\r\n%c\r\n" % c for c in b"hello") + END, b"hello"),
    good("hex-lower", b"a\r\n0123456789\r\n" + END, b"0123456789", "HEXDIG: any case"),
    good("hex-upper", b"A\r\n0123456789\r\n" + END, b"0123456789", "HEXDIG: any case"),
    good("hex-two", b"1a\r\nabcdefghijklmnopqrstuvwxyz\r\n" + END, b"abcdefghijklmnopqrstuvwxyz"),
    good("leading-zero", b"05\r\nhello\r\n" + END, b"hello", "1*HEXDIG"),
    good("leading-zeros", b"000005\r\nhello\r\n" + END, b"hello", "1*HEXDIG"),
    good("last-zeros", b"5\r\nhello\r\n000\r\n\r\n", b"hello", "1*'0'"),
    good("crlf-data", b"4\r\n\r\n\r\n\r\n" + END, b"\r\n\r\n", "data is opaque"),
    good("zero-in-data", b"5\r\n0\r\n\r\n\r\n" + END, b"0\r\n\r\n", "data is opaque"),
    good("nul-data", b"3\r\n\x00\x00\x00\r\n" + END, b"\x00\x00\x00", "data is opaque"),
    good("big", b"4000\r\n" + b"x" * 0x4000 + b"\r\n" + END, b"x" * 0x4000, "16 KiB in one"),
    good("extension", b"5;a=b\r\nhello\r\n" + END, b"hello", "9112 7.1.1: ignored"),
    good("extension-no-value", b"5;a\r\nhello\r\n" + END, b"hello", "9112 7.1.1: ignored"),
    good("extension-quoted", b'5;a="b c"\r\nhello\r\n' + END, b"hello", "9112 7.1.1: ignored"),
    good("extension-quoted-semicolon", b'5;a=";"\r\nhello\r\n' + END, b"hello", "9112 7.1.1: ignored"),
    good("extension-quoted-pair", b'5;a="\\""\r\nhello\r\n' + END, b"hello", "9112 7.1.1: ignored"),
    good("extension-two", b"5;a=b;c=d\r\nhello\r\n" + END, b"hello", "9112 7.1.1: ignored"),
    good("extension-last", b"5\r\nhello\r\n0;a=b\r\n\r\n", b"hello", "9112 7.1.1: ignored"),
    unclear(
        "extension-bws", b"5 ;a=b\r\nhello\r\n" + END, b"hello", "9112 7.1.1: BWS must be parsed, must not be sent"
    ),
    unclear("extension-bws-all", b"5 ; a = b\r\nhello\r\n" + END, b"hello", "9112 7.1.1: BWS"),
    unclear("extension-no-name", b"5;\r\nhello\r\n" + END, b"hello", "grammar wants a name; the size is plain"),
    unclear("extension-no-name-value", b"5;=b\r\nhello\r\n" + END, b"hello", "grammar wants a name; the size is plain"),
    unclear("extension-junk", b"5;@/\r\nhello\r\n" + END, b"hello", "grammar wants a token; the size is plain"),
    unclear("extension-open-quote", b'5;a="b\r\nhello\r\n' + END, b"hello", "the line ends at CRLF whatever is quoted"),
    unclear("extension-looks-like-size", b"5;6\r\nhello\r\n" + END, b"hello", "the size is before the semicolon"),
    unclear("extension-obs-text", b"5;a=\xe9\r\nhello\r\n" + END, b"hello", "opaque"),
    unclear("size-trailing-space", b"5 \r\nhello\r\n" + END, b"hello", "some senders pad; the size is plain"),
    unclear("size-trailing-spaces", b"5     \r\nhello\r\n" + END, b"hello", "some senders pad; the size is plain"),
    unclear("size-trailing-tab", b"5\t\r\nhello\r\n" + END, b"hello", "the size is plain"),
    unclear("size-many-zeros", b"0" * 40 + b"5\r\nhello\r\n" + END, b"hello", "1*HEXDIG, or too long a line"),
    bad("size-none", b"\r\nhello\r\n" + END),
    bad("size-extension-only", b";a=b\r\nhello\r\n" + END),
    bad("size-plus", b"+5\r\nhello\r\n" + END, "int() takes it"),
    bad("size-minus", b"-5\r\nhello\r\n" + END, "int() takes it"),
    bad("size-0x", b"0x5\r\nhello\r\n" + END, "int() takes it"),
    bad("size-0X", b"0X5\r\nhello\r\n" + END, "int() takes it"),
    bad("size-underscore", b"0_5\r\nhello\r\n" + END, "int() takes it"),
    bad("size-leading-space", b" 5\r\nhello\r\n" + END, "int() takes it"),
    bad("size-leading-tab", b"\t5\r\nhello\r\n" + END, "int() takes it"),
    bad("size-letter", b"g\r\nhello\r\n" + END),
    bad("size-hex-then-letter", b"5g\r\nhello\r\n" + END),
    bad("size-hex-then-h", b"5h\r\nhello\r\n" + END),
    bad("size-comma", b"5,5\r\nhello\r\n" + END),
    bad("size-dot", b"5.0\r\nhello\r\n" + END),
    bad("size-quoted", b'"5"\r\nhello\r\n' + END),
    bad("size-two", b"5 5\r\nhello\r\n" + END),
    bad("size-superscript", b"\xb2\r\nhello\r\n" + END),
    bad("size-fullwidth", "\uff15".encode() + b"\r\nhello\r\n" + END),
    bad("size-nbsp", b"\xa05\r\nhello\r\n" + END),
    bad("size-vt", b"\x0b5\r\nhello\r\n" + END),
    bad("size-nul", b"5\x00\r\nhello\r\n" + END),
    bad("size-nul-first", b"\x005\r\nhello\r\n" + END),
    bad("size-overflow-64", b"10000000000000005\r\nhello\r\n" + END, "2^64 + 5", 400, 413),
    bad("size-overflow-32", b"fffffffffffffffffffff\r\nhello\r\n" + END, "no integer", 400, 413),
    bad("size-negative-64", b"ffffffffffffffff5\r\nhello\r\n" + END, "minus eleven to some", 400, 413),
    bad("size-line-too-long", b"5;" + b"a" * 100000 + b"\r\nhello\r\n" + END, "a bounded line", 400, 413, 431),
    bad("size-line-endless", b"0" * 200000, "a bounded line", 400, 413, 431),
    bad("extension-nul", b"5;a=\x00\r\nhello\r\n" + END, "a control character"),
    bad("extension-bare-lf", b"5;a\nhello\r\n" + END, "TERM.EXT: where does the line end?"),
    bad("extension-bare-lf-crlf", b"5;a\n\r\nhello\r\n" + END, "EXT.TERM: where does the line end?"),
    bad("extension-bare-cr", b"5;a\rb\r\nhello\r\n" + END, "where does the line end?"),
    bad("extension-bare-cr-crlf", b"5;a\r\r\nhello\r\n" + END, "where does the line end?"),
    bad("extension-quoted-lf", b'5;a="\n"\r\nhello\r\n' + END, "where does the line end?"),
    bad("extension-quoted-crlf", b'5;a="\r\nhello"\r\n' + END, "a quoted string does not hold a line ending"),
    bad(
        "extension-smuggle",
        b"5;\n;\r\nhello\r\n0\r\n\r\nGET /console/smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "bare LF in an extension: two readings of what follows",
    ),
    bad("size-bare-lf", b"5\nhello\r\n" + END, "9112 2.2"),
    bad("size-bare-cr", b"5\rhello\r\n" + END, "9112 2.2"),
    bad("size-lf-cr", b"5\n\rhello\r\n" + END, "9112 2.2"),
    bad("size-cr-crlf", b"5\r\r\nhello\r\n" + END, "9112 2.2"),
    bad("data-bare-lf", b"5\r\nhello\n" + END, "9112 2.2"),
    bad("data-bare-cr", b"5\r\nhello\r" + END, "9112 2.2"),
    bad("data-no-crlf", b"5\r\nhello" + END, "no CRLF after the data"),
    bad("data-xx", b"5\r\nhelloXX" + END, "two bytes, whatever they are"),
    bad("data-too-long", b"5\r\nhello!\r\n" + END, "more than announced"),
    bad("data-too-short", b"6\r\nhello\r\n" + END, "less than announced"),
    bad("data-lf-lf", b"5\r\nhello\n\n" + END, "9112 2.2"),
    bad("data-space-crlf", b"5\r\nhello \r\n" + END, "more than announced"),
    bad("last-bare-lf", b"5\r\nhello\r\n0\n\n", "9112 2.2"),
    bad("last-half-lf", b"5\r\nhello\r\n0\r\n\n", "9112 2.2"),
    bad("last-bare-lf-crlf", b"5\r\nhello\r\n0\n\r\n", "9112 2.2"),
    bad("last-bare-cr", b"5\r\nhello\r\n0\r\r\n\r\n", "9112 2.2"),
    bad("last-cr-cr", b"5\r\nhello\r\n0\r\n\r\r\n", "9112 2.2"),
    bad("last-minus", b"5\r\nhello\r\n-0\r\n\r\n", "int() takes it"),
    trailer("plain", b"X-Sum: 1", b"X-Sum", "trailers are dropped"),
    trailer("two", b"X-Sum: 1\r\nX-Two: 2", b"X-Two", "trailers are dropped"),
    trailer("authorization", b"Authorization: Bearer stolen", b"X-None", "6.5.1: HAProxy lets it pass"),
    trailer("method-override", b"X-HTTP-Method-Override: DELETE", b"X-HTTP-Method-Override", "dropped like any"),
    trailer("rewrite-url", b"X_Rewrite_URL: /admin", b"X_Rewrite_URL", "dropped like any"),
    trailer("cookie", b"Cookie: a=b", b"Cookie", "dropped like any"),
    trailer("content-length", b"Content-Length: 0", b"X-None", "9110 6.5.1: framing is no trailer's"),
    trailer("transfer-encoding", b"Transfer-Encoding: gzip", b"X-None", "9110 6.5.1"),
    trailer("host", b"Host: evil.example", b"X-None", "9110 6.5.1"),
    trailer("x-forwarded-for", b"X-Forwarded-For: 1.2.3.4", b"X-Forwarded-For", "dropped like any"),
    trailer("connection", b"Connection: close, X-Sum", b"X-None", "not looked at"),
    trailer("empty-value", b"X-Sum:", b"X-Sum", "dropped like any"),
    forwarded(
        "trailer-announced",
        chunked(b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n", b"Trailer: X-Sum", b"TE: trailers"),
        "and so is its announcement",
        method=POST,
        body=b"hello",
        absent=(b"X-Sum", b"Trailer", b"TE"),
    ),
    bad("trailer-no-colon", b"5\r\nhello\r\n0\r\nX-Sum\r\n\r\n", "9112 7.1.2: field lines"),
    bad("trailer-no-name", b"5\r\nhello\r\n0\r\n: 1\r\n\r\n", "9112 7.1.2: field lines"),
    bad("trailer-space-before-colon", b"5\r\nhello\r\n0\r\nX-Sum : 1\r\n\r\n", "9112 5.1"),
    bad("trailer-fold", b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n 2\r\n\r\n", "9112 5.2"),
    bad("trailer-fold-first", b"5\r\nhello\r\n0\r\n X-Sum: 1\r\n\r\n", "9112 5.2"),
    bad("trailer-bare-lf", b"5\r\nhello\r\n0\r\nX-Sum: 1\n\r\n", "9112 2.2"),
    bad("trailer-bare-cr", b"5\r\nhello\r\n0\r\nX-Sum: 1\r2\r\n\r\n", "9112 2.2"),
    bad("trailer-nul", b"5\r\nhello\r\n0\r\nX-Sum: \x00\r\n\r\n", "9110 5.5"),
    bad("trailer-bad-name", b"5\r\nhello\r\n0\r\nX(Sum: 1\r\n\r\n", "9110 5.6.2"),
    bad("trailer-is-a-request", b"5\r\nhello\r\n0\r\nGET /console/x HTTP/1.1\r\n\r\n", "9112 7.1.2: field lines"),
    bad("trailer-too-long", b"5\r\nhello\r\n0\r\nX: " + b"a" * 100000 + b"\r\n\r\n", "bounded", 400, 413, 431),
    bad("trailer-endless", b"5\r\nhello\r\n0\r\n" + b"X: a\r\n" * 30000, "bounded", 400, 413, 431),
    several(
        "then-request",
        chunked(b"5\r\nhello\r\n" + END) + get(target=b"/console/x"),
        "the next request begins right after the last CRLF",
        Forwarded(method=POST, body=b"hello"),
        Forwarded(b"/x", token=b"TOKEN-CONSOLE"),
    ),
    several(
        "trailer-then-request",
        chunked(b"0\r\nX-Sum: 1\r\n\r\n") + get(target=b"/console/x"),
        "the next request begins right after the trailers",
        Forwarded(method=POST),
        Forwarded(b"/x", token=b"TOKEN-CONSOLE"),
    ),
    several(
        "crlf-too-many-then-request",
        chunked(b"5\r\nhello\r\n" + END + b"\r\n") + get(target=b"/console/x"),
        "9112 2.2: one empty line before the next is ignored",
        Forwarded(method=POST, body=b"hello"),
        Forwarded(b"/x", token=b"TOKEN-CONSOLE"),
    ),
    several(
        "garbage-after",
        chunked(b"5\r\nhello\r\n" + END) + b"garbage\r\n\r\n",
        "the body was whole; what follows is no request",
        Forwarded(method=POST, body=b"hello", closes=None),
        Refused((400,)),
    ),
)
