"""The tables of `docs/configuration.md` in Markdown: all keys of the model, and all environment variables.

`python -m tests.reference docs/configuration.md` writes them anew; a test tells when that is due.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from sidecar.config.environment import CLUSTER, TABLE, relaxed
from sidecar.config.model import BY_PRODUCT, UNWRITTEN, Settings
from sidecar.config.restart import GRPC_NEEDS_RESTART, NEEDS_RESTART
from sidecar.config.shape import Key, Shape, keys_of, tag_of
from sidecar.config.values import NOWHERE

BEGIN = "<!-- begin {name}: made by python -m tests.reference -->"
END = "<!-- end {name} -->"


def reference() -> str:
    """Return a table for the whole file and one for each section, in the model's order."""
    return "\n\n".join(_section(path, struct) for path, struct in _sections(Settings, ""))


def _sections(struct: type[msgspec.Struct], path: str) -> Iterator[tuple[str, type[msgspec.Struct]]]:
    """Return a mapping and all mappings in it, each with its path in the file."""
    yield path, struct
    for key in keys_of(struct):
        below = f"{path}.{key.name}" if path else key.name
        shape, below = (key.shape, below) if key.shape.value is None else (key.shape.value, f"{below}.*")
        for part in shape.structs:
            yield from _sections(part, below)


def _section(path: str, struct: type[msgspec.Struct]) -> str:
    tag = tag_of(struct)
    title = f"`{path}`" if path else "The file"
    lines = [f"### {title}" + (f", `type: {tag}`" if tag else ""), "", " ".join((struct.__doc__ or "").split()), ""]
    if keys := keys_of(struct):
        lines += ["| key | value | default | |", "| --- | --- | --- | --- |"]
        lines += [f"| `{key.name}` | {_kind(key.shape)} | {_default(key)} | {key.doc} |" for key in keys]
    return "\n".join(lines).rstrip()


def _kind(shape: Shape) -> str:
    """Say in a word or two what a key's value is."""
    if shape.scalar is not None:
        return shape.scalar.kind
    if shape.choices:
        return _code(shape.choices)
    if shape.item is not None:
        return f"list: {_kind(shape.item)}"
    if shape.value is not None:
        return "mapping"
    return "section" if len(shape.structs) == 1 else "by `type`: " + _code(str(tag_of(each)) for each in shape.structs)


def _default(key: Key) -> str:
    if key.is_required:
        return "**required**"
    if key.default in (None, "", (), {}, UNWRITTEN, BY_PRODUCT, NOWHERE) or isinstance(key.default, msgspec.Struct):
        return ""
    shown = key.shape.scalar.show(key.default) if key.shape.scalar is not None else key.default
    return f"`{str(shown).lower() if isinstance(shown, bool) else shown}`"


def environment() -> str:
    """Return the table that says what each of Camunda's variables becomes."""
    lines = ["| key | Java, JavaScript, Python, C# | Spring Boot | |", "| --- | --- | --- | --- |"]
    for row in TABLE:
        key = f"`{row.key}`" if row.key else "none"
        kind = f"`type: {row.type}`" if row.type and row.path[1] == CLUSTER else ""
        plain = [each for each in row.listed.split() if each.isupper()]
        spring = [relaxed(each)[0] for each in row.listed.split() if each.islower()]
        lines.append(f"| {key} | {_code(plain)} | {_code(spring)} | {kind or row.note} |")
    return "\n".join(lines)


def _code(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def replace_tables(text: str) -> str:
    """Return the document with new tables between their marks."""
    restart = ", ".join(f"`{key}`" for key in (*NEEDS_RESTART, *(f"grpc.{key}" for key in GRPC_NEEDS_RESTART)))
    for name, table in {"variables": environment(), "restart": restart, "keys": reference()}.items():
        begin, end = BEGIN.format(name=name), END.format(name=name)
        before, rest = text.split(begin)
        text = f"{before}{begin}\n\n{table}\n\n{end}{rest.split(end)[1]}"
    return text


if __name__ == "__main__":
    document = Path(sys.argv[1])
    document.write_text(replace_tables(document.read_text(encoding="utf-8")), encoding="utf-8")
