"""Who may come in: local names, no web page of another origin, and the header that was asked for."""

from __future__ import annotations

import pytest

from sidecar.config.settings import RequiredHeader
from sidecar.proxy.guard import Guard


@pytest.mark.parametrize(
    "host",
    [b"localhost", b"127.0.0.1", b"127.1.2.3", b"[::1]", b"[::ffff:127.0.0.1]", b"[0:0:0:0:0:0:0:1]"],
)
def test_local_names(host: bytes) -> None:
    """Names and addresses that can mean nothing but this machine."""
    assert Guard().knows(host)


@pytest.mark.parametrize(
    "host",
    [
        b"",
        b"example.com",
        b"localhost.evil.com",
        b"localhostx",
        b"xlocalhost",
        b"127.0.0.1.evil.com",
        b"128.0.0.1",
        b"0.0.0.0",
        b"[::]",
        b"[::2]",
        b"10.0.0.1",
        b"169.254.169.254",
        b"2130706433",
        b"0x7f000001",
        b"0177.0.0.1",
        b"127.1",
        b"[::ffff:10.0.0.1]",
        b"loc\xe4lhost",
    ],
)
def test_foreign_names(host: bytes) -> None:
    """Any other name is how DNS rebinding looks, addresses in a spelling that only some parsers know included."""
    assert not Guard().knows(host)


def test_listed_names_and_unix_sockets() -> None:
    """`guard.hosts` adds names in any case; on a Unix socket any name will do."""
    assert Guard(["Sidecar.Internal"]).knows(b"sidecar.internal")
    assert not Guard(["sidecar.internal"]).knows(b"x.sidecar.internal")
    assert Guard(any_host=True).knows(b"anything")


@pytest.mark.parametrize(
    ("host", "known"),
    [
        (b"sidecar.team.svc.cluster.local", True),
        (b"a.svc.cluster.local", True),
        (b"svc.cluster.local", False),
        (b".svc.cluster.local", False),
        (b"a..svc.cluster.local", False),
        (b"xsvc.cluster.local", False),
        (b"a.svc.cluster.local.evil.com", False),
        (b"a.svc.cluster.localx", False),
        (b"evil.com/.svc.cluster.local", False),
        (b"user@a.svc.cluster.local", False),
        (b"a b.svc.cluster.local", False),
        (b"*.svc.cluster.local", False),
        (b"[::1].svc.cluster.local", False),
        (b"", False),
    ],
)
def test_wildcards(host: bytes, known: bool) -> None:
    """`*.` is one label or more before exactly that domain, and never the domain itself or something that looks so."""
    assert Guard(["*.SVC.cluster.local", "other"]).knows(host) is known


REQUIRED = Guard(["sidecar"], RequiredHeader("X-Sidecar"))
VALUED = Guard([], RequiredHeader("X-Sidecar", "yes"))
SITE, POLICY, HOST = ("cross_site", 403), ("forbidden_by_policy", 403), ("unknown_host", 421)


@pytest.mark.parametrize(
    ("guard", "authority", "values", "reason", "error"),
    [
        (Guard(), b"localhost:8600", {}, None, None),
        (Guard(), b"localhost:8600", {b"origin": b"http://localhost:8600"}, None, None),
        (Guard(), b"LocalHost:8600", {b"origin": b"HTTP://localhost:8600"}, None, None),
        (Guard(), b"localhost", {b"origin": b"http://localhost"}, None, None),
        (Guard(), b"localhost", {b"sec-fetch-site": b"same-origin"}, None, None),
        (Guard(), b"localhost", {b"sec-fetch-site": b"None"}, None, None),
        (Guard(), b"evil.com", {}, "host", HOST),
        (Guard(), b"evil.com:8600", {b"origin": b"http://evil.com:8600"}, "host", HOST),
        (Guard(), b"localhost:8600", {b"origin": b"https://localhost:8600"}, "origin", SITE),
        (Guard(), b"localhost:8600", {b"origin": b"http://localhost:8601"}, "origin", SITE),
        (Guard(), b"localhost:8600", {b"origin": b"http://localhost"}, "origin", SITE),
        (Guard(), b"localhost:8600", {b"origin": b"http://localhost:8600/"}, "origin", SITE),
        (Guard(), b"localhost:8600", {b"origin": b"http://127.0.0.1:8600"}, "origin", SITE),
        (Guard(), b"localhost:8600", {b"origin": b"http://evil.com"}, "origin", SITE),
        (Guard(), b"localhost:8600", {b"origin": b"null"}, "origin", SITE),
        (Guard(), b"localhost:8600", {b"origin": b""}, "origin", SITE),
        (Guard(), b"localhost", {b"origin": b"http://localhost, http://localhost"}, "origin", SITE),
        (Guard(), b"localhost", {b"sec-fetch-site": b"cross-site"}, "fetch_metadata", SITE),
        (Guard(), b"localhost", {b"sec-fetch-site": b"same-site"}, "fetch_metadata", SITE),
        (Guard(), b"localhost", {b"sec-fetch-site": b""}, "fetch_metadata", SITE),
        (Guard(), b"localhost", {b"sec-fetch-site": b"none, none"}, "fetch_metadata", SITE),
        (REQUIRED, b"sidecar", {b"x-sidecar": b""}, None, None),
        (REQUIRED, b"sidecar", {b"x-sidecar": b"anything"}, None, None),
        (REQUIRED, b"sidecar", {}, "require_header", POLICY),
        (VALUED, b"localhost", {b"x-sidecar": b"yes"}, None, None),
        (VALUED, b"localhost", {b"x-sidecar": b"Yes"}, "require_header", POLICY),
        (VALUED, b"localhost", {b"x-sidecar": b"yes, yes"}, "require_header", POLICY),
        # The first reason counts: who is no local name learns nothing about the rest.
        (REQUIRED, b"evil.com", {b"origin": b"http://evil.com"}, "host", HOST),
        (REQUIRED, b"sidecar", {b"origin": b"null", b"sec-fetch-site": b"cross-site"}, "origin", SITE),
        (REQUIRED, b"sidecar", {b"sec-fetch-site": b"cross-site"}, "fetch_metadata", SITE),
    ],
)
def test_refusal(
    guard: Guard,
    authority: bytes,
    values: dict[bytes, bytes],
    reason: str | None,
    error: tuple[str, int] | None,
) -> None:
    """Host, then Origin, then Fetch-Metadata, then the required header; each with a metric's reason and its error."""
    host = authority.partition(b":")[0].lower()
    refusal = guard.refusal(host, authority, values)
    if reason is None:
        assert refusal is None
    else:
        assert refusal is not None
        assert (refusal[0], (refusal[1].code, refusal[1].status)) == (reason, error)


def test_refusal_does_not_tell_the_required_value() -> None:
    """The detail names the header, which the configuration's owner knows, and never its value."""
    refusal = VALUED.refusal(b"localhost", b"localhost", {b"x-sidecar": b"no"})
    assert refusal is not None
    assert "X-Sidecar" in refusal[1].detail
    assert "yes" not in refusal[1].detail
