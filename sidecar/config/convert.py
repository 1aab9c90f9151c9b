"""The step from parsed YAML to the model, value by value, so that every mistake is found and none hides another.

msgspec's own conversion ends at the first mistake and may quote what it found; here each value is read on its own, and
what cannot be read is replaced by its default, so that the rest is checked too.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Callable, Mapping
from pathlib import Path as FilePath
from typing import Any, Final, TypeVar

import msgspec

from sidecar.config.files import Files
from sidecar.config.report import ENVIRONMENT, BadValueError, Path, Report, quote
from sidecar.config.scalars import FILE, Scalar
from sidecar.config.shape import Key, Shape, keys_of, tag_of
from sidecar.secret import Secret, SecretSource

StructType = TypeVar("StructType", bound=msgspec.Struct)
Expand = Callable[[str], str]

_INVALID: Final = object()
_WORD = re.compile(r"[A-Za-z_-]{1,40}")
"""What is shown of an unknown key: in `{client_id: x, s3cr3t}` the secret is a key."""
_TEXT = Scalar(str)


def convert(
    raw: object, model: type[StructType], report: Report, expand: Expand, files: Files | None = None
) -> StructType:
    """Read `raw` (mappings, lists, strings and None) as `model`; mistakes go to `report`.

    What comes back is complete; where there was a mistake, it holds defaults and placeholders. Without `files`, none is
    looked for or read.
    """
    value = _Converter(report, expand, files).struct({} if raw is None else raw, model, ())
    return typing.cast("StructType", _placeholder(Shape(structs=(model,)), ()) if value is _INVALID else value)


class _Converter:
    def __init__(self, report: Report, expand: Expand, files: Files | None) -> None:
        self._report = report
        self._expand = expand
        self._files = files

    def value(self, raw: object, shape: Shape, path: Path) -> object:
        if shape.scalar is not None:
            return self._scalar(raw, shape.scalar, path)
        if shape.choices:
            return self._choice(raw, shape.choices, path)
        if shape.item is not None:
            return self._list(raw, shape.item, path)
        if shape.value is not None and shape.name is not None:
            return self._mapping(raw, shape.name, shape.value, path)
        return self._tagged(raw, shape.structs, path)

    # --- mappings with fixed keys --------------------------------------------------------------------------------

    def struct(self, raw: object, struct: type[msgspec.Struct], path: Path) -> object:
        if (given := self._keys(raw, path)) is None:
            return _INVALID
        known = [*(["type"] if tag_of(struct) else []), *(key.name for key in keys_of(struct))]
        for name in given:
            if name not in known:
                self._unknown(name, known, path)
        values: dict[str, object] = {}
        for key in keys_of(struct):
            if not key.twin_of and (value := self._field(given, key, path)) is not _INVALID:
                values[key.name] = value
        return _made(struct, values, path)

    def _field(self, given: Mapping[str, object], key: Key, path: Path) -> object:
        here, scalar = (*path, key.name), key.shape.scalar
        is_secret = scalar is not None and scalar.is_secret
        names = [key.name, f"{key.name}_file"] if is_secret else [key.name]
        if all(given.get(name) is None for name in names):
            if key.is_required:
                self._report.mistake(here, "is missing", f"add {' or '.join(names)}")
                return _placeholder(key.shape, here)
            return None if key.name in given and key.shape.is_nullable else _INVALID
        if scalar is not None and is_secret:
            value: object = self._secret(given, scalar, here)
        else:
            value = self.value(given[key.name], key.shape, here)
        return _placeholder(key.shape, here) if value is _INVALID and key.is_required else value

    def _secret(self, given: Mapping[str, object], scalar: Scalar, path: Path) -> object:
        """Read a secret that is written as a value, or stands in the file that its twin names."""
        twin = (*path[:-1], f"{path[-1]}_file")
        value, file = (given.get(str(each[-1])) for each in (path, twin))
        if value is not None and file is not None:
            self._report.mistake(twin, f"is given besides {path[-1]}", "keep one of the two")
            return _INVALID
        found = self._text(value, scalar, path) if file is None else self._text(file, FILE, twin)
        if found is _INVALID:
            return _INVALID
        source = SecretSource(file=found) if isinstance(found, FilePath) else SecretSource(typing.cast("Secret", found))
        return source if self._files is None else self._files.secret(source, scalar, path, twin)

    def _tagged(self, raw: object, structs: tuple[Any, ...], path: Path) -> object:
        """Read one of several structs. `type` says which. It may be missing where the first has no required key."""
        if len(structs) == 1:
            return self.struct(raw, structs[0], path)
        if (given := self._keys(raw, path)) is None:
            return _INVALID
        by_tag = {str(tag_of(struct)): struct for struct in structs}
        if given.get("type") is None:
            if any(key.is_required for key in keys_of(structs[0])):
                self._report.mistake((*path, "type"), "is missing", f"add one of: {', '.join(by_tag)}")
                return _INVALID
            return self.struct(given, structs[0], path)
        tag = self._choice(given["type"], tuple(by_tag), (*path, "type"))
        return _INVALID if tag is _INVALID else self.struct(given, by_tag[str(tag)], path)

    def _keys(self, raw: object, path: Path) -> dict[str, object] | None:
        if not isinstance(raw, dict):
            self._wrong_kind(raw, "a mapping of keys to values", path)
            return None
        for key in raw:
            if not isinstance(key, str):
                self._report.mistake(path, "has a key that is no word", "write each key as a word and a colon")
        return {key: value for key, value in raw.items() if isinstance(key, str)}

    # --- other values --------------------------------------------------------------------------------------------

    def _scalar(self, raw: object, scalar: Scalar, path: Path) -> object:
        value = self._text(raw, scalar, path)
        if self._files is None or not isinstance(value, FilePath):
            return value
        return self._files.readable(value, path) if scalar.role == "file" else self._files.locate(value, path)

    def _text(self, raw: object, scalar: Scalar, path: Path) -> object:
        if not isinstance(raw, str):
            self._wrong_kind(raw, "a single value", path)
            return _INVALID
        try:
            return scalar.parse(self._expand(raw))
        except BadValueError as error:
            self._mistake(path, raw if scalar.is_quotable else "", error.message, error.cure)
            return _INVALID

    def _choice(self, raw: object, choices: tuple[str, ...], path: Path) -> object:
        value = self._text(raw, _TEXT, path)
        if value is _INVALID or value in choices:
            return value
        self._mistake(path, str(raw), "is not one of its values", f"write one of: {', '.join(choices)}")
        return _INVALID

    def _mapping(self, raw: object, name_kind: Scalar, shape: Shape, path: Path) -> object:
        if (given := self._keys(raw, path)) is None:
            return _INVALID
        result: dict[object, object] = {}
        for name, item in given.items():
            here = (*path, name)
            key = self._text(name, name_kind, here)
            value = self.value({} if item is None else item, shape, here)
            if key is _INVALID or value is _INVALID:
                continue
            if key in result:
                self._report.mistake(here, "is there twice in different spellings", "remove one of them")
            result[key] = value
        return result

    def _list(self, raw: object, shape: Shape, path: Path) -> object:
        if not isinstance(raw, list):
            self._wrong_kind(raw, "a list", path)
            return _INVALID
        values = [self.value(item, shape, (*path, index)) for index, item in enumerate(raw)]
        return tuple(value for value in values if value is not _INVALID)

    # --- mistakes ------------------------------------------------------------------------------------------------

    def _mistake(self, path: Path, raw: str, message: str, cure: str) -> None:
        """Add a mistake that quotes what the user wrote, unless it came from the environment, where secrets are."""
        quoted = "" if "${" in raw or self._report.source == ENVIRONMENT else quote(raw)
        self._report.mistake(path, f"{quoted} {message}".lstrip(), cure)

    def _unknown(self, key: str, known: list[str], path: Path) -> None:
        import difflib  # noqa: PLC0415 (only a mistake needs it)

        if not _WORD.fullmatch(key):
            self._report.mistake(path, "has a key that is not known", f"the keys here are: {', '.join(known)}")
            return
        close = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
        cure = f"did you mean {close[0]}?" if close else f"the keys here are: {', '.join(known)}"
        self._report.mistake((*path, key), "is not a known key", cure)

    def _wrong_kind(self, raw: object, wanted: str, path: Path) -> None:
        kinds = {dict: "a mapping", list: "a list", str: "a single value", type(None): "nothing"}
        self._report.mistake(path, f"is {kinds.get(type(raw), 'something else')}, not {wanted}")


def _made(struct: type[msgspec.Struct], values: dict[str, object], path: Path) -> msgspec.Struct:
    """Return the struct. A credential gets the name of the key that it stands under."""
    return struct(**({"name": str(path[-1])} if struct.__struct_fields__[:1] == ("name",) else {}), **values)


def _placeholder(shape: Shape, path: Path) -> object:
    if shape.scalar is not None:
        return shape.scalar.placeholder
    if shape.value is not None:
        return {}
    required = {
        key.name: _placeholder(key.shape, (*path, key.name)) for key in keys_of(shape.structs[0]) if key.is_required
    }
    return _made(shape.structs[0], required, path)
