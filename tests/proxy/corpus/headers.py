"""Field syntax (RFC 9110, 5.5 and 5.6; RFC 9112, 5)."""

from tests.proxy.corpus.case import category, forwarded, get, refused


def name(label: str, line: bytes, why: str = "9110 5.6.2: a field name is a token"):
    """A field line whose name is none."""
    return refused(f"name-{label}", get(line), why)


def value(label: str, raw: bytes, why: str = "9110 5.5: control characters in a value"):
    """A field value that is none."""
    return refused(f"value-{label}", get(b"A: " + raw), why)


def kept(label: str, line: bytes, key: bytes, content: bytes, why: str):
    """A field that passes as it is."""
    return forwarded(label, get(line), why, present=((key, content),))


CASES = category(
    "headers",
    kept("plain", b"A: b", b"A", b"b", "an ordinary field"),
    kept("no-space", b"A:b", b"A", b"b", "9112 5: OWS is optional"),
    kept("spaces-around", b"A: \t b \t ", b"A", b"b", "9112 5.1: OWS is no part of the value"),
    kept("empty-value", b"A:", b"A", b"", "9110 5.5: a value may be empty"),
    kept("blank-value", b"A:   ", b"A", b"", "9110 5.5"),
    kept("colon-in-value", b"A: b:c", b"A", b"b:c", "only the first colon counts"),
    kept("colon-first-in-value", b"A::b", b"A", b":b", "only the first colon counts"),
    kept("inner-tab", b"A: b\tc", b"A", b"b\tc", "9110 5.5: HTAB inside"),
    kept("inner-spaces", b"A: b  c", b"A", b"b  c", "nothing is merged"),
    kept("obs-text", b"A: \xe9", b"A", b"\xe9", "9110 5.5: obs-text is opaque"),
    kept("utf-8", "A: ü".encode(), b"A", "ü".encode(), "9110 5.5: obs-text is opaque"),
    kept("token-name", b"!#$%&'*+-.^_`|~09azAZ: b", b"!#$%&'*+-.^_`|~09azAZ", b"b", "every tchar"),
    kept("underscore-name", b"my_header: b", b"my_header", b"b", "a token like any other"),
    kept("dot-name", b"a.b: c", b"a.b", b"c", "a token like any other"),
    kept("digit-name", b"1: b", b"1", b"b", "a token like any other"),
    kept("quotes", b'A: "b\\"c"', b"A", b'"b\\"c"', "no quoting on this level"),
    kept("comma-list", b"A: b, c,,d", b"A", b"b, c,,d", "lists are not rewritten"),
    kept("html", b"A: <script>", b"A", b"<script>", "opaque"),
    forwarded(
        "repeated",
        get(b"A: b", b"A: c"),
        "9110 5.3: order and lines are kept",
        present=((b"A", b"b"), (b"A", b"c")),
    ),
    forwarded("many", get(*[b"A%d: b" % i for i in range(90)]), "an ordinary number", present=((b"A89", b"b"),)),
    name("none", b": b"),
    name("none-no-value", b":"),
    name("no-colon", b"A"),
    name("no-colon-space", b"A b"),
    name("space-before-colon", b"A : b", "9112 5.1: 400, always"),
    name("tab-before-colon", b"A\t: b", "9112 5.1: 400, always"),
    name("many-spaces-before-colon", b"A   : b", "9112 5.1"),
    name("space-inside", b"A B: c"),
    name("tab-inside", b"A\tB: c"),
    name("vt", b"A\x0b: b"),
    name("ff", b"\x0cA: b"),
    name("nul", b"A\x00: b"),
    name("nul-first", b"\x00A: b"),
    name("backspace", b"A\x08: b"),
    name("del", b"A\x7f: b"),
    name("escape", b"\x1bA: b"),
    name("latin", b"\xe9: b"),
    name("utf-8", "ü: b".encode()),
    name("nbsp", b"A\xa0: b"),
    name("bom", b"\xef\xbb\xbfA: b"),
    name("nel", b"A\x85: b"),
    name("parentheses", b"A(B): c"),
    name("slash", b"A/B: c"),
    name("at", b"A@B: c"),
    name("comma", b"A,B: c"),
    name("semicolon", b"A;B: c"),
    name("less", b"A<B: c"),
    name("greater", b"A>B: c"),
    name("equals", b"A=B: c"),
    name("question", b"A?B: c"),
    name("left-bracket", b"A[B: c"),
    name("right-bracket", b"A]B: c"),
    name("backslash", b"A\\B: c"),
    name("left-brace", b"A{B: c"),
    name("right-brace", b"A}B: c"),
    name("quotes", b'"A": b'),
    name("crlf-in-brackets", b"(\r\n): b"),
    name("request-line-as-field", b"GET /console/x HTTP/1.1"),
    value("nul", b"b\x00c", "9110 5.5: NUL"),
    value("nul-only", b"\x00", "9110 5.5: NUL"),
    value("nul-last", b"b\x00", "9110 5.5: NUL; HAProxy lets it pass"),
    value("backspace", b"b\x08c"),
    value("bell", b"b\x07"),
    value("vt", b"b\x0bc"),
    value("ff", b"b\x0cc"),
    value("escape", b"\x1b[31m"),
    value("soh", b"\x01"),
    value("unit-separator", b"b\x1fc"),
    value("del", b"b\x7fc"),
    value("bare-cr", b"b\rc", "9112 2.2"),
    value("cr-last", b"b\r", "9112 2.2"),
    value("bare-lf", b"b\nc", "9112 2.2"),
    value("lf-injected-field", b"b\nAuthorization: Basic eDp5", "9112 2.2"),
    value("cr-injected-field", b"b\rAuthorization: Basic eDp5", "9112 2.2"),
    refused("fold-space", get(b"A: b", b" c"), "9112 5.2: obsolete folding"),
    refused("fold-tab", get(b"A: b", b"\tc"), "9112 5.2"),
    refused("fold-empty-value", get(b"A:", b" b"), "9112 5.2"),
    refused("fold-blank-line", get(b"A: b", b" ", b"C: d"), "9112 5.2"),
    refused("fold-looks-like-field", get(b"A: b", b" Host: evil"), "9112 5.2"),
    refused("fold-last", get(b"A: b")[:-2] + b" \r\n\r\n", "9112 5.2"),
    refused(
        "space-before-first",
        b"GET /operate/a HTTP/1.1\r\n Host: localhost\r\n\r\n",
        "9112 2.2: whitespace between the start line and the first field",
    ),
    refused(
        "space-line-before-first",
        b"GET /operate/a HTTP/1.1\r\n \r\nHost: localhost\r\n\r\n",
        "9112 2.2",
    ),
    refused("tab-before-first", b"GET /operate/a HTTP/1.1\r\n\tA: b\r\nHost: localhost\r\n\r\n", "9112 2.2"),
)
