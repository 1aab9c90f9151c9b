"""`allow` and `public`: rules over the method and the path after the prefix. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from sidecar.config.settings import Rule
from sidecar.proxy.target import canonical


class RuleSet:
    """Some rules, compiled; a path matches when one of them matches every way in which it can be read."""

    __slots__ = ("_rules",)

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._rules = [(_methods(rule.method), re.compile(_pattern(rule.pattern))) for rule in rules]

    def matches(self, method: bytes, path: bytes) -> bool:
        """Whether a rule lets `method` and `path` pass.

        The raw path has to match, and so has the path as an eager upstream reads it: `/task/1%2fvariables` is one
        segment here and two in some servers, and `*` promises one.
        """
        path = path or b"/"
        for methods, pattern in self._rules:
            if (methods is None or method in methods) and pattern.fullmatch(path):
                read = canonical(path)
                if read == path or pattern.fullmatch(read):
                    return True
        return False


def _methods(method: str | None) -> frozenset[bytes] | None:
    if method is None:
        return None
    return frozenset({b"GET", b"HEAD"}) if method == "GET" else frozenset({method.encode()})


def _pattern(pattern: str) -> bytes:
    """`*` is one segment or a part of one, never empty as a whole; `**` is any number of segments, none included."""
    expression = b""
    for segment in pattern.encode().strip(b"/").split(b"/"):
        if segment == b"**":
            expression += rb"(?:/[^/]*)*"
        else:
            parts = segment.split(b"*")
            expression += b"/" + (b"[^/]+" if segment == b"*" else b"[^/]*".join(map(re.escape, parts)))
    return expression + (b"/" if pattern.endswith("/") and pattern != "/" else b"")
