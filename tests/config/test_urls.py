from pathlib import Path

import pytest

from sidecar.config.report import BadValueError
from sidecar.config.settings import TcpAddress, UnixAddress, Upstream
from sidecar.config.urls import endpoint, is_ambiguous, is_loopback, parse_base, parse_endpoint, parse_listen

BASES = [
    ("https://h", Upstream("https", "h", 443, "")),
    ("https://h/", Upstream("https", "h", 443, "")),
    ("http://H.Example:80/a/b/", Upstream("http", "h.example", 80, "/a/b")),
    ("http://[::1]:8080/x", Upstream("http", "::1", 8080, "/x")),
    ("https://h/a%20b", Upstream("https", "h", 443, "/a%20b")),
    ("HTTPS://h/A", Upstream("https", "h", 443, "/A")),
    ("http://my_service:8080", Upstream("http", "my_service", 8080, "")),
]


@pytest.mark.parametrize(("text", "upstream"), BASES)
def test_a_base_url_is_taken_apart(text, upstream):
    """Scheme, host, port and path; a slash at the end means nothing."""
    assert parse_base(text) == upstream


BAD = [
    *("", "h", "h:80", "/x", "//h", "ftp://h", "https:/h", "https://", "https://:443", "https://h:", "https://h:0"),
    *("https://h:99999", "https://h:x", "https://u@h", "https://u:p@h", "https://h?x", "https://h#", "https://h/?"),
    *("https://h/..", "https://h/a/./b", "https://h//a", "https://h/%2e%2e/", "https://h/a%2f..%2f", "https://h/..;a/"),
    *("https://h/%252e%252e/x", "https://h/a%5cb", "https://h/a\\b", "https://h/%zz", "https://h/ü", "https://h/a b"),
    *("https://h\n", "https://h/\ta", " https://h", "https://[::1", "https://[v1.x]", "https://[fe80::1%25eth0]"),
    *("https://-h", "https://a..b", "https://h,i", "https://h/{x}", "https://1.2.3.4.5:8:9"),
]


@pytest.mark.parametrize("text", BAD)
def test_what_could_be_read_in_two_ways_is_no_base_url(text):
    """What the data plane appends a path to has to have one meaning."""
    with pytest.raises(BadValueError):
        parse_base(text)


@pytest.mark.parametrize("path", ["/a", "/a/b;c=1", "/a.b/..c", "/...", "/%41", "", "/a%20b"])
def test_plain_paths_are_not_ambiguous(path):
    """Dots inside a name are a name."""
    assert not is_ambiguous(path)


def test_a_token_endpoint_may_have_a_query():
    """RFC 6749, 3.2 lets a token endpoint have a query; a fragment it must not have."""
    assert parse_endpoint("https://h/token?p=b2c") == "https://h/token?p=b2c"
    with pytest.raises(BadValueError):
        parse_endpoint("https://h/token#x")
    with pytest.raises(BadValueError):
        parse_endpoint("https://h/login?p=1", query=False)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://Login.Example:443/oauth/token?x=1", "https://login.example"),
        ("http://keycloak:18080/auth", "http://keycloak:18080"),
        ("http://[::1]:80/", "http://[::1]"),
    ],
)
def test_the_origin_is_what_a_budget_belongs_to(url, expected):
    """Spellings of one service have one origin."""
    assert endpoint(url).origin == expected


LISTEN = [
    ("127.0.0.1:8600", TcpAddress("127.0.0.1", 8600)),
    ("[::1]:8600", TcpAddress("::1", 8600)),
    ("LOCALHOST:0", TcpAddress("localhost", 0)),
    ("unix:/run/x.sock", UnixAddress(Path("/run/x.sock"))),
    ("unix:///run/x.sock", UnixAddress(Path("/run/x.sock"))),
]


@pytest.mark.parametrize(("text", "address"), LISTEN)
def test_addresses_to_listen_on(text, address):
    """A host and a port, or a Unix socket."""
    assert parse_listen(text) == address


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        *(("localhost", True), ("a.localhost", True), ("127.8.9.1", True), ("::1", True), ("::ffff:127.0.0.1", True)),
        *(
            ("::1%lo", True),
            ("127.255.255.254", True),
            ("::ffff:10.0.0.1", False),
            ("fe80::1%eth0", False),
            ("", False),
        ),
        *(("localhost.example", False), ("10.0.0.1", False), ("0.0.0.0", False), ("127.0.0.1.example", False)),
    ],
)
def test_loopback(host, expected):
    """Only what can be nothing but this machine is loopback."""
    assert is_loopback(host) is expected
