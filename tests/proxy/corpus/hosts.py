"""Host: exactly one, and a local name (RFC 9112, 3.2; DNS rebinding)."""

from tests.proxy.corpus.case import BAD, CRLF, Forwarded, Refused, category, either, forwarded, refused

LINE = b"GET /operate/a HTTP/1.1\r\n"


def local(name: str, value: bytes, why: str = "a local name, any port"):
    """Served."""
    return forwarded(f"local-{name}", LINE + b"Host: " + value + CRLF * 2, why)


def foreign(name: str, value: bytes, why: str, *status: int):
    """Not served."""
    return refused(f"foreign-{name}", LINE + b"Host: " + value + CRLF * 2, why, *status or (421,), closes=None)


CASES = category(
    "hosts",
    local("name", b"localhost"),
    local("name-port", b"localhost:8600"),
    local("name-other-port", b"localhost:1"),
    local("name-upper", b"LOCALHOST"),
    local("name-mixed", b"LocalHost:80"),
    local("v4", b"127.0.0.1"),
    local("v4-port", b"127.0.0.1:8600"),
    local("v6", b"[::1]"),
    local("v6-port", b"[::1]:8600"),
    forwarded("local-spaces", LINE + b"Host: \t localhost \t\r\n\r\n", "OWS is no part of the value"),
    forwarded("local-no-space", LINE + b"Host:localhost\r\n\r\n", "OWS is optional"),
    forwarded("local-name-case", LINE + b"hOsT: localhost\r\n\r\n", "field names: any case"),
    forwarded("local-last", LINE + b"A: b\r\nHost: localhost\r\n\r\n", "anywhere in the head"),
    either(
        "local-trailing-dot",
        LINE + b"Host: localhost.\r\n\r\n",
        "the same name in DNS, or another string",
        Forwarded(),
        Refused((400, 421), None),
    ),
    either(
        "local-empty-port",
        LINE + b"Host: localhost:\r\n\r\n",
        "3986 3.2.3: a port may be empty",
        Forwarded(),
        Refused((400, 421), None),
    ),
    either(
        "local-127.1.2.3",
        LINE + b"Host: 127.1.2.3\r\n\r\n",
        "5735: all of 127/8 is loopback",
        Forwarded(),
        Refused((421,), None),
    ),
    foreign("name", b"evil.example", "DNS rebinding"),
    foreign("name-port", b"evil.example:8600", "DNS rebinding"),
    foreign("suffix", b"localhost.evil.example", "the whole name counts"),
    foreign("prefix", b"evil-localhost", "the whole name counts"),
    either(
        "local-subdomain",
        LINE + b"Host: app.localhost\r\n\r\n",
        "6761 6.3: loopback by definition, or not listed",
        Forwarded(),
        Refused((421,), None),
    ),
    foreign("ip-like-name", b"127.0.0.1.evil.example", "the whole name counts"),
    foreign("nip", b"127.0.0.1.nip.io", "the whole name counts"),
    foreign("public-ip", b"192.0.2.1", "not local"),
    foreign("private-ip", b"10.0.0.1:8600", "not listed"),
    foreign("link-local", b"169.254.169.254", "not local"),
    foreign("decimal-ip", b"2130706433", "one spelling an address", 400, 421),
    foreign("hex-ip", b"0x7f000001", "one spelling an address", 400, 421),
    foreign("octal-ip", b"0177.0.0.1", "one spelling an address", 400, 421),
    foreign("short-ip", b"127.1", "one spelling an address", 400, 421),
    foreign("upstream", b"127.0.0.2.example", "not local"),
    foreign("v6-public", b"[2001:db8::1]", "not local", 400, 421),
    foreign("v6-no-brackets", b"::1", "3986 3.2.2", 400, 421),
    foreign("v6-open", b"[::1", "3986 3.2.2", 400, 421),
    foreign("v6-zone", b"[::1%25lo]", "3986 3.2.2", 400, 421),
    foreign("v6-junk", b"[::1]evil", "3986 3.2.2", 400, 421),
    foreign("empty", b"", "an empty Host names nobody", 400, 421),
    foreign("blank", b"   ", "an empty Host names nobody", 400, 421),
    foreign("port-only", b":8600", "an empty Host names nobody", 400, 421),
    foreign("list", b"localhost, evil.example", "Host is no list; HAProxy reads it item by item", 400, 421),
    foreign("list-evil-first", b"evil.example, localhost", "Host is no list", 400, 421),
    foreign("list-no-space", b"localhost,localhost", "Host is no list", 400, 421),
    foreign("space", b"localhost evil.example", "no host", 400, 421),
    foreign("tab", b"localhost\tevil.example", "no host", 400, 421),
    foreign("userinfo", b"localhost@evil.example", "Host has no userinfo", 400, 421),
    foreign("userinfo-local", b"evil.example@localhost", "Host has no userinfo", 400, 421),
    foreign("path", b"localhost/evil", "no host", 400, 421),
    foreign("url", b"http://localhost", "no host", 400, 421),
    foreign("query", b"localhost?x", "no host", 400, 421),
    foreign("fragment", b"localhost#x", "no host", 400, 421),
    foreign("backslash", b"localhost\\evil", "no host", 400, 421),
    foreign("port-word", b"localhost:http", "no port", 400, 421),
    foreign("port-negative", b"localhost:-1", "no port", 400, 421),
    foreign("port-two", b"localhost:80:80", "no port", 400, 421),
    foreign("port-space", b"localhost :80", "no host", 400, 421),
    foreign("percent", b"local%68ost", "nothing is decoded", 400, 421),
    foreign("quoted", b'"localhost"', "no host", 400, 421),
    foreign("latin", b"localh\xf6st", "no host", 400, 421),
    foreign("fullwidth", "\uff4cocalhost".encode(), "NFKC makes it local", 400, 421),
    foreign("nul", b"localhost\x00", "NUL", 400),
    foreign("semicolon", b"localhost;x", "no host", 400, 421),
    foreign("asterisk", b"*", "no host", 400, 421),
    refused("none", LINE + CRLF, "9112 3.2: 400"),
    refused("none-other-fields", LINE + b"A: b\r\nX-Forwarded-Host: localhost\r\n\r\n", "9112 3.2: 400"),
    refused("none-1.0", b"GET /operate/a HTTP/1.0\r\n\r\n", "no Host, whatever the version"),
    refused("two-same", LINE + b"Host: localhost\r\nHost: localhost\r\n\r\n", "9112 3.2: 400"),
    refused("two-differ", LINE + b"Host: localhost\r\nHost: evil.example\r\n\r\n", "9112 3.2: 400"),
    refused("two-differ-evil-first", LINE + b"Host: evil.example\r\nHost: localhost\r\n\r\n", "9112 3.2: 400"),
    refused("two-case", LINE + b"Host: localhost\r\nhost: localhost\r\n\r\n", "names: any case"),
    refused("two-apart", LINE + b"Host: localhost\r\nA: b\r\nHOST: localhost\r\n\r\n", "not adjacent"),
    refused("two-one-empty", LINE + b"Host:\r\nHost: localhost\r\n\r\n", "9112 3.2: 400"),
    refused("two-1.0", b"GET /operate/a HTTP/1.0\r\nHost: localhost\r\nHost: localhost\r\n\r\n", "1.0 as well"),
    refused("space-before-colon", LINE + b"Host : localhost\r\n\r\n", "9112 5.1"),
    refused("second-with-space", LINE + b"Host: localhost\r\nHost : evil.example\r\n\r\n", "9112 5.1"),
    refused("second-folded", LINE + b"Host: localhost\r\n Host: evil.example\r\n\r\n", "9112 5.2"),
    refused("folded", LINE + b"Host:\r\n localhost\r\n\r\n", "9112 5.2"),
    refused("second-after-lf", LINE + b"Host: localhost\nHost: evil.example\r\n\r\n", "9112 2.2"),
    either(
        "underscored-forwarded-host",
        LINE + b"Host: localhost\r\nX_Forwarded_Host: evil.example\r\n\r\n",
        "goes in its spelling with underscores too",
        Forwarded(absent=(b"X_Forwarded_Host",)),
    ),
    refused("bad-version-first", b"GET /operate/a HTTP/1.2\r\nHost: evil.example\r\n\r\n", "syntax before policy"),
    either(
        "foreign-with-body",
        b"POST /operate/a HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 5\r\n\r\nhello",
        "refused before the body, which is never a request",
        Refused((421,), None),
    ),
    either(
        "foreign-then-climb", b"GET /operate/.. HTTP/1.1\r\nHost: evil\r\n\r\n", "both", Refused((400, 421), None), BAD
    ),
)
