"""`allow` and `public`: which methods and paths a rule lets pass."""

from __future__ import annotations

import pytest

from sidecar.config.settings import Rule
from sidecar.proxy.policy import RuleSet


def passes(rule: str, method: bytes, path: bytes) -> bool:
    """Whether `METHOD PATTERN`, or `PATTERN` alone, lets a request pass."""
    method_name, _, pattern = rule.rpartition(" ")
    return RuleSet([Rule(method_name or None, pattern)]).matches(method, path)


@pytest.mark.parametrize(
    ("rule", "method", "path"),
    [
        ("GET /api/readyz", b"GET", b"/api/readyz"),
        ("GET /api/readyz", b"HEAD", b"/api/readyz"),
        ("/api/readyz", b"DELETE", b"/api/readyz"),
        ("HEAD /a", b"HEAD", b"/a"),
        ("PURGE /a", b"PURGE", b"/a"),
        ("GET /", b"GET", b"/"),
        ("GET /", b"GET", b""),
        ("GET /**", b"GET", b""),
        ("GET /**", b"GET", b"/"),
        ("GET /**", b"GET", b"/a/b/c"),
        ("GET /a/**", b"GET", b"/a"),
        ("GET /a/**", b"GET", b"/a/"),
        ("GET /a/**", b"GET", b"/a/b"),
        ("GET /a/**", b"GET", b"/a//b/"),
        ("GET /a/*", b"GET", b"/a/b"),
        ("GET /a/*/c", b"GET", b"/a/b/c"),
        ("GET /a/**/c", b"GET", b"/a/c"),
        ("GET /a/**/c", b"GET", b"/a/x/y/c"),
        ("GET /a/b*", b"GET", b"/a/b"),
        ("GET /a/b*", b"GET", b"/a/bcd"),
        ("GET /a/*.xml", b"GET", b"/a/model.xml"),
        ("GET /a/", b"GET", b"/a/"),
        ("GET /a.b", b"GET", b"/a.b"),
        ("GET /a/*", b"GET", b"/a/b;c=d"),
        ("GET /a/*", b"GET", b"/a/%62"),
    ],
)
def test_let_pass(rule: str, method: bytes, path: bytes) -> None:
    """`*` is one segment, `**` any number, GET includes HEAD, no method means all."""
    assert passes(rule, method, path)


@pytest.mark.parametrize(
    ("rule", "method", "path"),
    [
        ("GET /api/readyz", b"POST", b"/api/readyz"),
        ("GET /api/readyz", b"get", b"/api/readyz"),
        ("HEAD /a", b"GET", b"/a"),
        ("GET /api/readyz", b"GET", b"/api/readyz/"),
        ("GET /api/readyz", b"GET", b"/api/readyz2"),
        ("GET /api/readyz", b"GET", b"/API/readyz"),
        ("GET /api/readyz", b"GET", b"/x/api/readyz"),
        ("GET /", b"GET", b"/a"),
        ("GET /a/*", b"GET", b"/a"),
        ("GET /a/*", b"GET", b"/a/"),
        ("GET /a/*", b"GET", b"/a/b/"),
        ("GET /a/*", b"GET", b"/a/b/c"),
        ("GET /a/*/c", b"GET", b"/a//c"),
        ("GET /a/**", b"GET", b"/ab"),
        ("GET /a/", b"GET", b"/a"),
        ("GET /a.b", b"GET", b"/axb"),
        ("GET /a/(b)", b"GET", b"/a/b"),
        # Every way in which the path can be read has to match.
        ("GET /a/*", b"GET", b"/a/b%2fc"),
        ("GET /a/*", b"GET", b"/a/b%252fc"),
        ("GET /a/*", b"GET", b"/a/;b"),
        ("GET /a/b*", b"GET", b"/a/b%2fdelete"),
        ("GET /a/b", b"GET", b"/a/%62"),
        ("GET /a/b", b"GET", b"/a/b;c"),
    ],
)
def test_stopped(rule: str, method: bytes, path: bytes) -> None:
    """What is not matched whole does not pass: `allow` fails closed."""
    assert not passes(rule, method, path)


def test_any_rule_suffices_and_none_lets_nothing_pass() -> None:
    """Rules add up; an empty list is the strictest policy."""
    rules = RuleSet([Rule("GET", "/a"), Rule("POST", "/b")])
    assert rules.matches(b"GET", b"/a")
    assert rules.matches(b"POST", b"/b")
    assert not rules.matches(b"POST", b"/a")
    assert not RuleSet([]).matches(b"GET", b"/a")
