"""Request targets: what is safe to forward, which route it belongs to, and where an answer's Location points."""

from __future__ import annotations

import time

import pytest

from sidecar.errors import BadRequestError
from sidecar.proxy.target import canonical, host_name, localize, match_prefix, parse

# --- forms -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"/", (b"/", b"", None)),
        (b"/a/b?c=d", (b"/a/b", b"?c=d", None)),
        (b"/a?", (b"/a", b"?", None)),
        (b"/a?b?c", (b"/a", b"?b?c", None)),
        (b"*", (b"*", b"", None)),
        (b"http://localhost/a?b", (b"/a", b"?b", b"localhost")),
        (b"HTTP://LOCALHOST:8600/a", (b"/a", b"", b"LOCALHOST:8600")),
        (b"http://localhost", (b"/", b"", b"localhost")),
        (b"http://localhost?a", (b"/", b"?a", b"localhost")),
        (b"http://[::1]:80/", (b"/", b"", b"[::1]:80")),
        (b"http://localhost//a", (b"//a", b"", b"localhost")),
    ],
)
def test_forms(target: bytes, expected: tuple[bytes, bytes, bytes | None]) -> None:
    """Origin-form, absolute-form and asterisk-form (RFC 9112, 3.2) come apart; nothing is decoded or merged."""
    assert parse(target) == expected


@pytest.mark.parametrize(
    "target",
    [
        b"a",
        b"a/b",
        b"?a",
        b"localhost:80",
        b"https://localhost/",
        b"ftp://localhost/",
        b"http:/localhost/",
        b"http:///a",
        b"http://",
        b"http://user@localhost/",
        b"http://user:password@localhost/",
        b"http://localhost:x/",
        b"http://local%68ost/",
        b"http://localhost\\@evil/",
        b"/a#b",
        b"/a?b#c",
        b"http://localhost/#",
        b"**",
        b"*/",
    ],
)
def test_other_forms_are_refused(target: bytes) -> None:
    """Another form, another scheme, userinfo and fragments are bad requests."""
    with pytest.raises(BadRequestError):
        parse(target)


# --- paths -----------------------------------------------------------------------------------------------------------

SAFE = [
    b"/",
    b"//",
    b"/a",
    b"/a/",
    b"/a//b",
    b"/.a",
    b"/a.",
    b"/...",
    b"/a/.../b",
    b"/a..b/c",
    b"/..a",
    b"/a;b=c",
    b"/a;b/c;d",
    b"/a%20b",
    b"/%41",
    b"/a%2fb",
    b"/a%2Fb",
    b"/a%3bb",
    b"/%25",
    b"/100%25",
    b"/50%25off",
    b"/%252",
    b"/%c3%a4",
    b"/%e2%82%ac",
    b"/%f0%9f%98%80",
    b"/a:b@c,d!$&'()*+=~_-",
    b"/v2/user-tasks/search",
]


@pytest.mark.parametrize("path", SAFE)
def test_safe_paths_pass(path: bytes) -> None:
    """A path that everybody reads as staying in its place passes byte for byte."""
    assert parse(path)[0] == path
    assert parse(path + b"?x=../..")[0] == path


UNSAFE = [
    b"/..",
    b"/.",
    b"/../",
    b"/./",
    b"/a/..",
    b"/a/../b",
    b"/a/./b",
    b"/a/.",
    b"/a//../b",
    # Escaped, once and more.
    b"/%2e%2e",
    b"/%2E%2E/a",
    b"/.%2e/a",
    b"/%2e./a",
    b"/a/%2e",
    b"/%252e%252e/a",
    b"/%25252e%25252e/a",
    b"/%25%32%65%25%32%65/a",
    b"/.%252e/a",
    # The slash escaped.
    b"/..%2fa",
    b"/a%2f..%2fb",
    b"/..%252fa",
    b"/a%2f%2e%2e%2fb",
    b"/..%2Fconsole",
    # Parameters, as Java servers cut them.
    b"/..;",
    b"/..;/a",
    b"/..;x=y/a",
    b"/.;/a",
    b"/a/..;a;b/c",
    b"/..%3b/a",
    b"/..%3bx/a",
    b"/..%253b/a",
    b"/%2e%2e%3b/a",
    b"/;/../a",
    # A dot segment that only shows when parameters end at a decoded slash.
    b"/a;b%2f..%2fc",
    b"/a;b%2f../c",
    b"/a;%2f%2e%2e",
    # Backslashes and controls.
    b"/..\\a",
    b"/a\\b",
    b"/..%5ca",
    b"/a%5cb",
    b"/a%255cb",
    b"/%00",
    b"/a%00/../b",
    b"/%0a",
    b"/%0d%0a",
    b"/%09",
    b"/%7f",
    b"/%250a",
    # Malformed and overlong escapes.
    b"/%",
    b"/%2",
    b"/%zz",
    b"/a%g1",
    b"/%u002e",
    b"/%c0%ae%c0%ae/a",
    b"/%c0%af",
    b"/%c1%9c",
    b"/%e0%80%ae/a",
    b"/%e0%80%af",
    b"/%f0%80%80%ae",
    b"/%f5%80%80%80",
    b"/%ff",
    b"/%fe",
    b"/%25c0%25ae/a",
]


@pytest.mark.parametrize("path", UNSAFE)
def test_unsafe_paths_are_refused(path: bytes) -> None:
    """Whatever any upstream could read as leaving its place, decoded as often as it takes, is a bad request."""
    with pytest.raises(BadRequestError):
        parse(path)
    with pytest.raises(BadRequestError):
        parse(b"http://localhost" + path)


@pytest.mark.parametrize("path", UNSAFE)
def test_unsafe_paths_are_refused_behind_a_prefix(path: bytes) -> None:
    """The same behind a route's prefix, which is how a request would cross from one route to another."""
    with pytest.raises(BadRequestError):
        parse(b"/operate" + path + b"/console")


def test_deep_escapes_are_refused() -> None:
    """A percent sign that is escaped without end is nothing that anybody means; it must not cost a round for each."""
    start = time.process_time()
    with pytest.raises(BadRequestError):
        parse(b"/%" + b"25" * 30_000 + b"41")
    with pytest.raises(BadRequestError):
        parse(b"/%" + b"25" * 30_000 + b"2e%2e/")
    assert time.process_time() - start < 0.5


def test_checking_is_linear() -> None:
    """The longest paths cost little."""
    start = time.process_time()
    for path in (b"/" + b"a;" * 30_000, b"/" + b"a/" * 30_000 + b"%20", b"/" + b"%41" * 20_000, b"/" + b".a" * 30_000):
        parse(path)
    assert time.process_time() - start < 0.5


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"/a/b", b"/a/b"),
        (b"/a;x/b;y", b"/a/b"),
        (b"/a%2fb", b"/a/b"),
        (b"/a%252fb", b"/a/b"),
        (b"/a%3bx/b", b"/a/b"),
        (b"/%61", b"/a"),
    ],
)
def test_canonical(path: bytes, expected: bytes) -> None:
    """The path as the most eager upstream reads it."""
    assert canonical(path) == expected


# --- prefixes --------------------------------------------------------------------------------------------------------

PREFIXES = [(b"/operate/v1", "v1"), (b"/operate", "operate"), (b"/op", "op"), (b"", "root")]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"/operate", (b"", "operate")),
        (b"/operate/", (b"/", "operate")),
        (b"/operate/a", (b"/a", "operate")),
        (b"/operate//a", (b"//a", "operate")),
        (b"/operate/v1", (b"", "v1")),
        (b"/operate/v1/a", (b"/a", "v1")),
        (b"/operate/v12", (b"/v12", "operate")),
        (b"/op/a", (b"/a", "op")),
        (b"/opera", (b"/opera", "root")),
        (b"/OPERATE/a", (b"/OPERATE/a", "root")),
        (b"/%6fperate", (b"/%6fperate", "root")),
        (b"/operate%2fa", (b"/operate%2fa", "root")),
        (b"/operate;x/a", (b"/operate;x/a", "root")),
        (b"//operate/a", (b"//operate/a", "root")),
        (b"/", (b"/", "root")),
    ],
)
def test_prefix(path: bytes, expected: tuple[bytes, str]) -> None:
    """The longest prefix wins, on a segment's boundary, byte for byte."""
    assert match_prefix(path, PREFIXES) == expected


def test_no_prefix() -> None:
    """Without a route for the root, a path may belong to none."""
    assert match_prefix(b"/other", PREFIXES[:-1]) is None
    assert match_prefix(b"*", PREFIXES[:-1]) is None
    assert match_prefix(b"/operated", PREFIXES[1:2]) is None


# --- Location --------------------------------------------------------------------------------------------------------

ORIGINS = frozenset({b"https://up.example", b"https://up.example:443"})


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        (b"https://up.example/base/a?b#c", b"/app/a?b#c"),
        (b"https://up.example:443/base/a", b"/app/a"),
        (b"HTTPS://UP.example/base/a", b"/app/a"),
        (b"https://up.example/base", b"/app"),
        (b"https://up.example/base?x", b"/app?x"),
        (b"https://up.example/base/", b"/app/"),
        (b"/base/a", b"/app/a"),
        (b"/base", b"/app"),
        (b"/base#x", b"/app#x"),
        # Not inside the base, or not this upstream: as it is.
        (b"https://up.example/", b"https://up.example/"),
        (b"https://up.example", b"https://up.example"),
        (b"https://up.example/basement", b"https://up.example/basement"),
        (b"https://up.example/other/base/a", b"https://up.example/other/base/a"),
        (b"https://up.example:8443/base/a", b"https://up.example:8443/base/a"),
        (b"http://up.example/base/a", b"http://up.example/base/a"),
        (b"https://up.example.evil/base/a", b"https://up.example.evil/base/a"),
        (b"https://user@up.example/base/a", b"https://user@up.example/base/a"),
        (b"https://up.example@evil/base/a", b"https://up.example@evil/base/a"),
        (b"https://evil/https://up.example/base/a", b"https://evil/https://up.example/base/a"),
        (b"//up.example/base/a", b"//up.example/base/a"),
        (b"/other", b"/other"),
        (b"a/b", b"a/b"),
        (b"../a", b"../a"),
        (b"?x", b"?x"),
        (b"", b""),
        # A path that could be read as leaving the base is not translated.
        (b"/base/../other", b"/base/../other"),
        (b"/base/%2e%2e/other", b"/base/%2e%2e/other"),
        (b"/base/..;/other", b"/base/..;/other"),
        (b"/base/%", b"/base/%"),
    ],
)
def test_location(location: bytes, expected: bytes) -> None:
    """A Location inside the upstream's base becomes a local one; any other passes as it came."""
    assert localize(location, origins=ORIGINS, base_path=b"/base", prefix=b"/app") == expected


@pytest.mark.parametrize(
    ("location", "base", "prefix", "expected"),
    [
        (b"https://up.example/a", b"", b"/app", b"/app/a"),
        (b"https://up.example", b"", b"/app", b"/app/"),
        (b"/a", b"", b"/app", b"/app/a"),
        (b"/", b"", b"/app", b"/app/"),
        (b"/base", b"/base", b"", b"/"),
        (b"/base/a", b"/base", b"", b"/a"),
        (b"/base//evil/a", b"/base", b"", b"/base//evil/a"),
        (b"https://up.example//evil", b"", b"", b"https://up.example//evil"),
    ],
)
def test_location_at_the_roots(location: bytes, base: bytes, prefix: bytes, expected: bytes) -> None:
    """Root base and root prefix; a local Location is never one that a client reads as another host's."""
    assert localize(location, origins=ORIGINS, base_path=base, prefix=prefix) == expected


@pytest.mark.parametrize(
    ("authority", "host"),
    [
        (b"localhost", b"localhost"),
        (b"LocalHost:80", b"localhost"),
        (b"a_b.example:1", b"a_b.example"),
        (b"[::FFFF:127.0.0.1]:1", b"[::ffff:127.0.0.1]"),
        (b"", None),
        (b":80", None),
        (b"a@b", None),
        (b"a%41", None),
        (b"[]", None),
        (b"[::1]x", None),
        (b"a\n", None),
    ],
)
def test_host_name(authority: bytes, host: bytes | None) -> None:
    """The host without its port in lower case, and nothing that could be more than a host."""
    assert host_name(authority) == host
