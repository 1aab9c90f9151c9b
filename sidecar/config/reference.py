"""The tables of `docs/configuration.md` in Markdown: all keys, from the model, and all environment variables.

`python -m sidecar.config.reference docs/configuration.md` writes them anew; a test tells when that is due.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import msgspec

from sidecar.config.convert import alternatives, fields_of, leaf_of, tag_of, unwrap
from sidecar.config.describe import duration, size
from sidecar.config.environment import CLUSTER, TABLE, relaxed
from sidecar.config.model import Configuration
from sidecar.config.schema import doc_of

BEGIN = "<!-- begin {name}: made by python -m sidecar.config.reference -->"
END = "<!-- end {name} -->"


def reference() -> str:
    """A table for the whole, and one for each section, in the model's order."""
    return "\n\n".join(_section(path, struct) for path, struct in sections(Configuration, ""))


def sections(struct: type[msgspec.Struct], path: str) -> Iterator[tuple[str, type[msgspec.Struct]]]:
    """A mapping and all that stand in it, each with its path in the file."""
    yield path, struct
    for field in fields_of(struct):
        name, annotation = field.name, unwrap(field.type)[0]
        below = f"{path}.{name}" if path else name
        for member in alternatives(annotation):
            item, metadata = unwrap(member)
            if leaf_of(metadata):
                continue
            if get_origin(item) is dict:
                item, below = get_args(item)[1], f"{path}.{name}.*" if path else f"{name}.*"
            for part in alternatives(item):
                if isinstance(part, type) and issubclass(part, msgspec.Struct):
                    yield from sections(part, below)


def _section(path: str, struct: type[msgspec.Struct]) -> str:
    tag = struct.__struct_config__.tag
    title = f"`{path}`" if path else "The file"
    lines = [f"### {title}" + (f", `type: {tag}`" if tag else ""), "", " ".join((struct.__doc__ or "").split()), ""]
    fields = fields_of(struct)
    if fields:
        lines += ["| key | value | default | |", "| --- | --- | --- | --- |"]
        lines += [_row(field) for field in fields]
    return "\n".join(lines).rstrip()


def _row(field: msgspec.structs.FieldInfo) -> str:
    kind = kind_of(field.type)
    default = "**required**" if field.required else _default(field.default, kind)
    return f"| `{field.name}` | {kind} | {default} | {doc_of(field.type)} |"


def kind_of(annotation: Any) -> str:
    """What a key's value is, in a word or two."""
    annotation, metadata = unwrap(annotation)
    if leaf := leaf_of(metadata):
        return leaf.kind
    members = alternatives(annotation)
    if len(members) > 1 and all(isinstance(member, type) for member in members):
        return "by `type`: " + ", ".join(f"`{tag_of(member)}`" for member in members)
    if members[0] is not annotation:
        return kind_of(members[0])
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(annotation))
    if get_origin(annotation) is list:
        return f"list: {kind_of(get_args(annotation)[0])}"
    if get_origin(annotation) is dict:
        return "mapping"
    return "section"


def _default(value: object, kind: str) -> str:
    if value in (None, msgspec.NODEFAULT, msgspec.UNSET) or isinstance(value, msgspec.Struct):
        return ""
    if kind == "duration" and isinstance(value, float):
        return f"`{duration(value)}`"
    if kind == "size" and isinstance(value, int):
        return f"`{size(value)}`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def environment() -> str:
    """What each of Camunda's variables becomes."""
    lines = ["| key | Java, JavaScript, Python, C# | Spring Boot | |", "| --- | --- | --- | --- |"]
    for row in TABLE:
        key = f"`{'.'.join(row.path)}`" if row.path else "none"
        kind = f"`type: {row.type}`" if row.type and row.path[1] == CLUSTER else ""
        spring = [relaxed(each)[0] for each in row.spring.split()]
        lines.append(f"| {key} | {_code(row.plain.split())} | {_code(spring)} | {kind or row.note} |")
    return "\n".join(lines)


def _code(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def replace_tables(text: str) -> str:
    """A document with the tables between their marks made anew."""
    for name, table in {"variables": environment(), "keys": reference()}.items():
        begin, end = BEGIN.format(name=name), END.format(name=name)
        before, rest = text.split(begin)
        text = f"{before}{begin}\n\n{table}\n\n{end}{rest.split(end)[1]}"
    return text


if __name__ == "__main__":
    document = Path(sys.argv[1])
    document.write_text(replace_tables(document.read_text(encoding="utf-8")), encoding="utf-8")
