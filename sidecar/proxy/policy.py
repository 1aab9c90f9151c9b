"""`allow` and `public`: rules over the method and the path after the prefix. Everything here is pure.

All rules of a set are one automaton over the path's segments, run on all its states at once: a bit of an integer is the
state "this rule's segments up to here are read". Nothing is tried twice, so the time is linear in the path for every
rule that can be written.
"""

from __future__ import annotations

from collections.abc import Iterable

from sidecar.config.settings import Rule
from sidecar.proxy.target import canonical


class RuleSet:
    """Some rules, compiled. A path matches where one of them matches every way in which the path can be read."""

    __slots__ = ("_all_methods", "_any", "_globs", "_literals", "_methods", "_repeated", "_start", "_undecided")

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._start = 0
        """The states before the first segment."""
        self._repeated = 0
        """The states that every segment leaves in force, because `**` follows."""
        self._any = 0
        """The states that `*` leads to, which is any segment but the empty one."""
        self._literals: dict[bytes, int] = {}
        """The states that a segment without a star leads to."""
        self._globs: dict[int, tuple[list[bytes], int]] = {}
        """By state: the texts between the stars of the segment that leads to it, and all states that it leads to."""
        self._methods: dict[bytes, int] = {}
        """The last states of the rules for one method."""
        self._all_methods = 0
        globs: dict[bytes, int] = {}
        state = 1
        for rule in rules:
            self._start |= state
            for segment in rule.pattern.encode()[1:].split(b"/"):
                if segment == b"**":
                    self._repeated |= state
                    continue
                state <<= 1
                if segment == b"*":
                    self._any |= state
                else:
                    known = globs if b"*" in segment else self._literals
                    known[segment] = known.get(segment, 0) | state
            self._end(rule.method, state)
            state <<= 1
        self._undecided = sum(globs.values())
        for segment, states in globs.items():
            texts = segment.split(b"*")
            self._globs.update((1 << bit, (texts, states)) for bit in range(states.bit_length()) if states >> bit & 1)

    def _end(self, method: str | None, state: int) -> None:
        """Note that a rule for `method` has matched when `state` is reached."""
        if method is None:
            self._all_methods |= state
            return
        for name in (b"GET", b"HEAD") if method == "GET" else (method.encode(),):
            self._methods[name] = self._methods.get(name, 0) | state

    def matches(self, method: bytes, path: bytes) -> bool:
        """Tell whether a rule lets `method` and `path` pass.

        The raw path has to match, and so does the path as an eager upstream reads it: `/task/1%2fvariables` is one
        segment here and two in some servers, and `*` promises one.
        """
        matched = self._methods.get(method, 0) | self._all_methods
        if matched:
            matched &= self._read(path or b"/")
        if matched:
            reading = canonical(path)
            if reading != path:
                matched &= self._read(reading or b"/")
        return matched != 0

    def _read(self, path: bytes) -> int:
        """Return the states after the last segment."""
        states = self._start
        for segment in path[1:].split(b"/"):
            next_states = states << 1
            reached = self._literals.get(segment, 0)
            if segment:
                reached |= self._any
            undecided = next_states & self._undecided
            while undecided:
                texts, same = self._globs[undecided & -undecided]
                undecided &= ~same
                if _fits(texts, segment):
                    reached |= same
            states = next_states & reached | states & self._repeated
            if not states:
                break
        return states


def _fits(texts: list[bytes], segment: bytes) -> bool:
    """Tell whether `segment` has these texts in this order, the first at its beginning, the last at its end."""
    first, last = texts[0], texts[-1]
    at, end = len(first), len(segment) - len(last)
    if at > end or not (segment.startswith(first) and segment.endswith(last)):
        return False
    for text in texts[1:-1]:
        at = segment.find(text, at, end)
        if at < 0:
            return False
        at += len(text)
    return True
