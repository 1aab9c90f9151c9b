"""docs/logs.md has each event that the source can log, and no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/logs.md").read_text()
LEVELS = {"debug", "info", "warning", "error", "critical", "exception"}
# Names that come from elsewhere: the access log's two, which its callers give, and libraries' own words.
GIVEN = {"event": {"request", "request refused"}, "level": set[str](), "message": set[str]()}


def calls() -> Iterator[tuple[str, ast.Call]]:
    """Each call of a logger in the source, with its method."""
    for file in (ROOT / "sidecar").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                is_logger = re.fullmatch(r"_?log|structlog\.get_logger\(.*\)", ast.unparse(node.func.value))
                if is_logger and node.func.attr in LEVELS | {"log"}:
                    yield node.func.attr, node


def names(argument: ast.expr) -> set[str]:
    match argument:
        case ast.Constant(value=str(name)):
            return {name}
        case ast.IfExp(body=one, orelse=other):
            return names(one) | names(other)
        case ast.Name(id=variable):
            return GIVEN[variable]
    raise AssertionError(f"an event's name is no literal: {ast.unparse(argument)}")


def rows() -> dict[str, tuple[str, str]]:
    found = re.findall(r"^\| `([^`]+)` \| (\w+) \| ([^|]*)\|", PAGE, re.MULTILINE)
    return {event: (level, fields) for event, level, fields in found}


def test_the_page_has_every_event_and_no_other() -> None:
    """An event's name is a promise: who renames one renames it here, and sees that others rely on it."""
    assert rows().keys() == set().union(*(names(call.args[0]) for _, call in calls()))


def test_the_page_has_each_events_level_and_fields() -> None:
    """What a rule on the log can filter by."""
    told = rows()
    for method, call in calls():
        for event in names(call.args[0]):
            level, fields = told[event]
            assert level == {"exception": "error"}.get(method, method), event
            given = {"exc_info": "exception"}
            wanted = {given.get(each.arg, each.arg) for each in call.keywords if each.arg is not None}
            if "the same" not in fields:
                assert sorted(name for name in wanted if f"`{name}`" not in fields) == [], event
