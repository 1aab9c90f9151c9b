"""`allow` and `public`: which methods and paths a rule lets pass."""

from __future__ import annotations

import sys
import time
from types import FrameType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.settings import Rule
from sidecar.proxy import policy
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
        ("GET /a*a", b"GET", b"/aa"),
        ("GET /a*b*a", b"GET", b"/abba"),
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
        # What stands before a star and what stands after it do not share a character.
        ("GET /a*a", b"GET", b"/a"),
        ("GET /ab*ba", b"GET", b"/aba"),
        ("GET /a*b*a", b"GET", b"/aba/"),
        ("GET /a*bb*a", b"GET", b"/aba"),
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


# --- the rules themselves, said slowly -------------------------------------------------------------------------------


def is_glob(pattern: bytes, segment: bytes) -> bool:
    """Whether stars that are any characters, none included, make `segment` of `pattern`, by trying everything."""
    if pattern[:1] == b"*":
        return any(is_glob(pattern[1:], segment[i:]) for i in range(len(segment) + 1))
    return pattern[:1] == segment[:1] and (not pattern or is_glob(pattern[1:], segment[1:]))


def fits(pattern: bytes, segment: bytes) -> bool:
    """Whether a path's segment is what a rule's segment says."""
    return segment != b"" if pattern == b"*" else is_glob(pattern, segment)


def reads(patterns: list[bytes], segments: list[bytes]) -> bool:
    """Whether a path's segments are what a rule's segments say, by trying everything."""
    if not patterns:
        return not segments
    if patterns[0] == b"**":
        return any(reads(patterns[1:], segments[i:]) for i in range(len(segments) + 1))
    return bool(segments) and fits(patterns[0], segments[0]) and reads(patterns[1:], segments[1:])


SEGMENTS = st.one_of(st.sampled_from(["**", "*"]), st.from_regex(r"\*?[ab]{1,2}(\*[ab]{1,2}){0,2}\*?", fullmatch=True))
PATTERNS = st.builds(
    lambda segments, end: "/" + "/".join(segments) + end,
    st.lists(SEGMENTS, min_size=1, max_size=5),
    st.sampled_from(["", "/"]),
)
PATHS = st.lists(st.text("ab", max_size=5), min_size=1, max_size=6).map(lambda segments: "/" + "/".join(segments))


@given(st.lists(PATTERNS, max_size=4), PATHS)
def test_every_rule_means_what_it_says(patterns: list[str], path: str) -> None:
    """Any stars in any places: a set of rules says the same as trying every way of reading each of them."""
    expected = [reads(p.encode()[1:].split(b"/"), path.encode()[1:].split(b"/")) for p in patterns]
    assert RuleSet([Rule("GET", p) for p in patterns]).matches(b"GET", path.encode()) is any(expected)


@given(st.lists(st.tuples(st.sampled_from([None, "GET", "HEAD", "POST"]), PATTERNS), max_size=4), PATHS)
def test_rules_do_not_mix(rules: list[tuple[str | None, str]], path: str) -> None:
    """A set lets pass what one of its rules lets pass alone; no half of one goes on in another."""
    made = [Rule(method, pattern) for method, pattern in rules]
    for method in (b"GET", b"HEAD", b"POST", b"PUT"):
        alone = [RuleSet([rule]).matches(method, path.encode()) for rule in made]
        assert RuleSet(made).matches(method, path.encode()) is any(alone)


# --- what they cost --------------------------------------------------------------------------------------------------

HEAD_LIMIT = 64 << 10
HOSTILE = [
    ("/reports/*-*-*", b"/reports/", b"-", b"/"),
    ("/" + "*a" * 500 + "*b", b"/", b"a", b""),
    ("/*" + "a" * 500 + "b*", b"/", b"a", b""),
    ("/*" + "a" * 500 + "b", b"/", b"a", b""),
    ("/**/" + "a/" * 500 + "b/**", b"", b"/a", b""),
    ("/" + "**/a/" * 200 + "b", b"", b"/a", b""),
    ("/**/" + "*a*/" * 200 + "**/b", b"", b"/aaaaaaaa", b""),
    ("/**/" + "".join(f"*{'a' * n}*/" for n in range(1, 40)) + "b", b"", b"/" + b"a" * 40, b""),
    ("/**/**/*/**/*/**/*/x", b"", b"/", b""),
]


def steps(rules: RuleSet, path: bytes) -> int:
    """How many lines of `policy.py` run for one question."""
    count = 0

    def trace(frame: FrameType, event: str, _: object) -> object:
        nonlocal count
        if frame.f_code.co_filename != policy.__file__:
            return None
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        assert not rules.matches(b"GET", path)
    finally:
        sys.settrace(before)
    return count


@pytest.mark.skipif(not policy.__file__.endswith(".py"), reason="compiled code has no lines to count")
@pytest.mark.parametrize(("pattern", "begin", "middle", "end"), HOSTILE)
def test_steps_are_linear_in_the_path(pattern: str, begin: bytes, middle: bytes, end: bytes) -> None:
    """As much more of the path is as many steps more, whatever the rule: nothing is tried a second time."""
    rules = RuleSet([Rule("GET", pattern)])
    first, second, third = (steps(rules, begin + middle * n + end) for n in (200, 400, 600))
    assert third - second <= second - first


@pytest.mark.parametrize(("pattern", "begin", "middle", "end"), HOSTILE)
def test_no_rule_holds_up_the_loop(pattern: str, begin: bytes, middle: bytes, end: bytes) -> None:
    """The longest path that a head can have costs milliseconds; `/reports/*-*-*` took hours."""
    rules = RuleSet([Rule("GET", pattern)])
    path = begin + middle * (HEAD_LIMIT // len(middle)) + end
    start = time.process_time()
    assert not rules.matches(b"GET", path)
    assert time.process_time() - start < 0.5


def test_a_thousand_rules_cost_a_path_hardly_more_than_one() -> None:
    """All rules are asked at once."""
    rules = RuleSet([Rule("GET", f"/**/a{n}/*-*/**/b") for n in range(1000)])
    start = time.process_time()
    assert not rules.matches(b"GET", b"/a1/-" * (HEAD_LIMIT // 5))
    assert time.process_time() - start < 0.5
