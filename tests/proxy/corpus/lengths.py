"""Content-Length and Transfer-Encoding: conflicts, repetitions, spellings (RFC 9112, 6)."""

from tests.proxy.corpus.case import BAD, Forwarded, Refused, category, chunked, either, forwarded, get, post, refused

POST = b"POST"
CHUNKS = b"5\r\nhello\r\n0\r\n\r\n"
HELLO = Forwarded(method=POST, body=b"hello")
SMUGGLED = b"GET /console/smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"


def coding(name: str, line: bytes, why: str):
    """A transfer coding that is not exactly `chunked`."""
    return refused(f"te-{name}", post(line, body=CHUNKS), why)


def length(name: str, line: bytes, why: str = "9110 8.6: Content-Length is 1*DIGIT"):
    """A length that is no length."""
    return refused(f"cl-{name}", post(line, body=b"hello"), why)


CASES = category(
    "lengths",
    # what is right
    forwarded("cl-plain", post(b"Content-Length: 5", body=b"hello"), "9112 6.2", method=POST, body=b"hello"),
    forwarded("cl-zero", post(b"Content-Length: 0"), "9112 6.2: an empty body", method=POST),
    forwarded("cl-no-space", post(b"Content-Length:5", body=b"hello"), "9112 5: OWS", method=POST, body=b"hello"),
    forwarded("cl-spaces", post(b"Content-Length:  \t5 \t", body=b"hello"), "OWS", method=POST, body=b"hello"),
    forwarded("cl-lower", post(b"content-length: 5", body=b"hello"), "names: any case", method=POST, body=b"hello"),
    forwarded("cl-upper", post(b"CONTENT-LENGTH: 5", body=b"hello"), "names: any case", method=POST, body=b"hello"),
    forwarded("cl-on-get", get(b"Content-Length: 5") + b"hello", "9110 9.3.1: a GET may have a body", body=b"hello"),
    forwarded("cl-zero-on-get", get(b"Content-Length: 0"), "an empty body"),
    forwarded("no-length-post", post(), "9112 6.3: neither field, no body", method=POST),
    forwarded("te-plain", chunked(CHUNKS), "9112 7.1", method=POST, body=b"hello"),
    forwarded(
        "te-mixed-case", post(b"Transfer-Encoding: Chunked", body=CHUNKS), "any case", method=POST, body=b"hello"
    ),
    forwarded("te-upper", post(b"TRANSFER-ENCODING: CHUNKED", body=CHUNKS), "any case", method=POST, body=b"hello"),
    forwarded("te-spaces", post(b"Transfer-Encoding: \t chunked \t", body=CHUNKS), "OWS", method=POST, body=b"hello"),
    forwarded("te-no-space", post(b"Transfer-Encoding:chunked", body=CHUNKS), "OWS", method=POST, body=b"hello"),
    forwarded("te-on-get", get(b"Transfer-Encoding: chunked") + CHUNKS, "a GET may have a body", body=b"hello"),
    forwarded(
        "cl-body-is-a-request",
        post(b"Content-Length: %d" % len(SMUGGLED), body=SMUGGLED),
        "a body that looks like a request is a body",
        method=POST,
        body=SMUGGLED,
    ),
    forwarded(
        "te-body-is-a-request",
        chunked(b"%x\r\n%b\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED)),
        "a body that looks like a request is a body",
        method=POST,
        body=SMUGGLED,
    ),
    either(
        "cl-leading-zeros",
        post(b"Content-Length: 0005", body=b"hello"),
        "1*DIGIT allows zeros; octal readers do not exist, but strictness may",
        HELLO,
        BAD,
    ),
    either(
        "cl-two-zeros",
        post(b"Content-Length: 00"),
        "as above; the length is zero either way",
        Forwarded(method=POST),
        BAD,
    ),
    # both
    refused("cl-te", post(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=CHUNKS), "9112 6.1: smuggling"),
    refused("te-cl", post(b"Transfer-Encoding: chunked", b"Content-Length: 5", body=CHUNKS), "9112 6.1: smuggling"),
    refused("cl-zero-te", post(b"Content-Length: 0", b"Transfer-Encoding: chunked", body=CHUNKS), "9112 6.1"),
    refused(
        "cl-te-classic",
        post(b"Content-Length: 57", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n" + SMUGGLED),
        "9112 6.1: CL.TE",
    ),
    refused(
        "te-cl-classic",
        post(b"Transfer-Encoding: chunked", b"Content-Length: 4", body=b"39\r\n" + SMUGGLED + b"\r\n0\r\n\r\n"),
        "9112 6.1: TE.CL",
    ),
    refused("cl-te-right-length", post(b"Content-Length: 15", b"Transfer-Encoding: chunked", body=CHUNKS), "agreement"),
    refused("get-cl-te", get(b"Content-Length: 0", b"Transfer-Encoding: chunked") + b"0\r\n\r\n", "on a GET too"),
    refused(
        "cl-te-identity", post(b"Content-Length: 5", b"Transfer-Encoding: identity", body=b"hello"), "9112 7: gone"
    ),
    refused("cl-te-empty", post(b"Content-Length: 5", b"Transfer-Encoding:", body=b"hello"), "both are there"),
    refused("cl-te-junk", post(b"Content-Length: 5", b"Transfer-Encoding: x", body=b"hello"), "TE.TE"),
    # repeated lengths
    refused("cl-cl-same", post(b"Content-Length: 5", b"Content-Length: 5", body=b"hello"), "9112 6.3: repeated"),
    refused("cl-cl-differ", post(b"Content-Length: 5", b"Content-Length: 6", body=b"hello"), "9112 6.3"),
    refused("cl-cl-case", post(b"Content-Length: 5", b"content-length: 0", body=b"hello"), "names: any case"),
    refused("cl-cl-apart", post(b"Content-Length: 5", b"X: y", b"Content-Length: 5", body=b"hello"), "not adjacent"),
    refused("cl-cl-empty", post(b"Content-Length: 5", b"Content-Length:", body=b"hello"), "one empty"),
    refused("cl-cl-get", get(b"Content-Length: 0", b"Content-Length: 57") + SMUGGLED, "CL.0 with two"),
    length("list-same", b"Content-Length: 5, 5", "9112 6.3: a list is refused, equal or not"),
    length("list-differ", b"Content-Length: 5, 6"),
    length("list-no-space", b"Content-Length: 5,5"),
    length("list-trailing-comma", b"Content-Length: 5,"),
    length("list-leading-comma", b"Content-Length: ,5"),
    # malformed lengths
    length("plus", b"Content-Length: +5"),
    length("minus", b"Content-Length: -5"),
    length("minus-zero", b"Content-Length: -0"),
    length("hex", b"Content-Length: 0x5"),
    length("hex-letter", b"Content-Length: a"),
    length("exponent", b"Content-Length: 5e0"),
    length("decimal", b"Content-Length: 5.0"),
    length("underscore-in-number", b"Content-Length: 0_5"),
    length("inner-space", b"Content-Length: 5 0"),
    length("inner-tab", b"Content-Length: 5\t0"),
    length("semicolon", b"Content-Length: 5;"),
    length("quoted", b'Content-Length: "5"'),
    length("empty", b"Content-Length:"),
    length("blank", b"Content-Length:  "),
    length("word", b"Content-Length: five"),
    length("superscript", b"Content-Length: \xb2", "latin-1 ² passes isdigit()"),
    length("arabic", "Content-Length: \u0665".encode(), "an Arabic digit passes int()"),
    length("fullwidth", "Content-Length: \uff15".encode(), "a fullwidth digit passes int()"),
    length("nbsp", b"Content-Length: \xa05", "latin-1 no-break space passes strip()"),
    length("vt", b"Content-Length: \x0b5", "vertical tab is no OWS"),
    length("ff", b"Content-Length: 5\x0c", "form feed is no OWS"),
    length("nul", b"Content-Length: 5\x00", "NUL"),
    length("nel", b"Content-Length: 5\x85", "NEL is no OWS"),
    refused("cl-overflow-64", post(b"Content-Length: 18446744073709551621", body=b"hello"), "2^64 + 5", 400, 413),
    refused("cl-overflow-32", post(b"Content-Length: 99999999999999999999999", body=b"hello"), "no integer", 400, 413),
    refused("cl-many-digits", post(b"Content-Length: " + b"9" * 5000, body=b"hello"), "int()'s own limit", 400, 413),
    length("space-before-colon", b"Content-Length : 5", "9112 5.1"),
    length("tab-before-colon", b"Content-Length\t: 5", "9112 5.1"),
    length("folded", b"Content-Length:\r\n 5", "9112 5.2"),
    length("folded-tab", b"Content-Length:\r\n\t5", "9112 5.2"),
    length("bare-cr", b"Content-Length: 5\r", "9112 2.2"),
    length("bare-lf", b"X: y\nContent-Length: 5", "9112 2.2"),
    # transfer codings
    coding("identity", b"Transfer-Encoding: identity", "9112 7: no such coding any more"),
    coding("gzip", b"Transfer-Encoding: gzip", "any coding but chunked"),
    coding("gzip-chunked", b"Transfer-Encoding: gzip, chunked", "any coding but chunked"),
    coding("chunked-gzip", b"Transfer-Encoding: chunked, gzip", "9112 6.1: chunked not last"),
    coding("chunked-chunked", b"Transfer-Encoding: chunked, chunked", "9112 6.1: twice"),
    coding("chunked-identity", b"Transfer-Encoding: chunked, identity", "TE.TE"),
    coding("identity-chunked", b"Transfer-Encoding: identity, chunked", "TE.TE"),
    coding("x", b"Transfer-Encoding: x", "TE.TE"),
    coding("xchunked", b"Transfer-Encoding: xchunked", "TE.TE: a suffix match"),
    coding("chunkedx", b"Transfer-Encoding: chunkedx", "TE.TE: a prefix match"),
    coding("x-chunked", b"Transfer-Encoding: x chunked", "TE.TE: a word match"),
    coding("chunked-space-x", b"Transfer-Encoding: chunked x", "TE.TE"),
    coding("parameter", b"Transfer-Encoding: chunked;a=b", "chunked takes no parameters"),
    coding("semicolon", b"Transfer-Encoding: chunked;", "chunked takes no parameters"),
    coding("q", b"Transfer-Encoding: chunked;q=0", "chunked takes no weight"),
    coding("quoted", b'Transfer-Encoding: "chunked"', "TE.TE"),
    coding("single-quoted", b"Transfer-Encoding: 'chunked'", "TE.TE"),
    coding("empty", b"Transfer-Encoding:", "no coding at all"),
    coding("blank", b"Transfer-Encoding: \t", "no coding at all"),
    coding("comma", b"Transfer-Encoding: ,", "an empty list"),
    coding("leading-comma", b"Transfer-Encoding: ,chunked", "not exactly chunked"),
    coding("trailing-comma", b"Transfer-Encoding: chunked,", "not exactly chunked"),
    coding("vt", b"Transfer-Encoding: \x0bchunked", "vertical tab is no OWS"),
    coding("ff", b"Transfer-Encoding: chunked\x0c", "form feed is no OWS"),
    coding("nul", b"Transfer-Encoding: chunked\x00", "NUL"),
    coding("nul-before", b"Transfer-Encoding: \x00chunked", "NUL"),
    coding("backspace", b"Transfer-Encoding: chunked\x08", "control character"),
    coding("nbsp", b"Transfer-Encoding: \xa0chunked", "latin-1 no-break space passes strip()"),
    coding("nel", b"Transfer-Encoding: chunked\x85", "NEL is no OWS"),
    coding("kelvin", "Transfer-Encoding: chun\u212aed".encode(), "the Kelvin sign lowers to k"),
    coding("cow", b"Transfer-Encoding: cow", "TE.TE"),
    coding("two-lines", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "twice"),
    coding("two-lines-identity", b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked", "TE.TE"),
    coding("two-lines-cow", b"Transfer-Encoding: chunked\r\nTransfer-encoding: cow", "TE.TE"),
    coding("two-lines-empty", b"Transfer-Encoding: chunked\r\nTransfer-Encoding:", "TE.TE"),
    coding("space-before-colon", b"Transfer-Encoding : chunked", "9112 5.1"),
    coding("tab-before-colon", b"Transfer-Encoding\t: chunked", "9112 5.1"),
    coding("vt-before-colon", b"Transfer-Encoding\x0b: chunked", "no token"),
    coding("folded", b"Transfer-Encoding:\r\n chunked", "9112 5.2"),
    coding("folded-after", b"Transfer-Encoding: chunked\r\n , identity", "9112 5.2"),
    coding("leading-space", b" Transfer-Encoding: chunked", "9112 2.2: whitespace before the first field, or folding"),
    coding("hidden-by-fold", b"X: y\r\n Transfer-Encoding: chunked", "9112 5.2"),
    coding("hidden-by-lf", b"X: y\nTransfer-Encoding: chunked", "9112 2.2"),
    coding("hidden-by-cr", b"X: y\rTransfer-Encoding: chunked", "9112 2.2"),
    coding("no-colon", b"Transfer-Encoding chunked", "9112 5"),
    coding("cr-in-name", b"Transfer\r-Encoding: chunked", "9112 2.2"),
    coding("lf-in-name", b"Transfer-Encoding\n: chunked", "9112 2.2"),
    # look-alikes: not these fields, so the message has no body; one request either way
    either(
        "underscored-cl",
        get(b"Content_Length: 57"),
        "a CGI-like upstream reads the underscore as a dash: dropped, refused or passed, but never a length here",
        Forwarded(),
        BAD,
    ),
    either(
        "underscored-te",
        get(b"Transfer_Encoding: chunked"),
        "as above",
        Forwarded(),
        BAD,
    ),
    refused(
        "te-10", b"POST /operate/a HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS, "1.0"
    ),
    refused(
        "te-10-keep-alive",
        b"POST /operate/a HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n"
        + CHUNKS,
        "9112 6.1: chunked in HTTP/1.0 is treated as faulty framing",
    ),
    either(
        "cl-over-max-body",
        post(b"Content-Length: 1025", target=b"/optimize/api/public/x", body=b"x" * 1025),
        "the route's max_body: known from the head",
        Refused((413,), None),
    ),
    either(
        "te-over-max-body",
        post(
            b"Transfer-Encoding: chunked",
            target=b"/optimize/api/public/x",
            body=b"401\r\n" + b"x" * 1025 + b"\r\n0\r\n\r\n",
        ),
        "the route's max_body: counted as it comes",
        Refused((413,), None),
        partial=True,
    ),
    either(
        "te-over-max-body-in-small-chunks",
        post(b"Transfer-Encoding: chunked", target=b"/optimize/api/public/x", body=b"10\r\n0123456789abcdef\r\n" * 65),
        "the route's max_body: summed over the chunks",
        Refused((413,), None),
        partial=True,
    ),
    forwarded(
        "cl-at-max-body",
        post(b"Content-Length: 1024", target=b"/optimize/api/public/x", body=b"x" * 1024),
        "exactly the route's max_body",
        b"/opt/api/public/x",
        method=POST,
        body=b"x" * 1024,
        token=b"TOKEN-OPTIMIZE",
    ),
)
