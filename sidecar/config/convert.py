"""From parsed YAML to the model, leaf by leaf, so that every mistake is found and none hides another.

msgspec's own conversion ends at the first mistake and may quote what it found; here each leaf is read on its own, and
what cannot be read is replaced by its default, so that the rest is checked too.
"""

from __future__ import annotations

import functools
import re
import types
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, Literal, TypeVar, Union, get_args, get_origin

import msgspec

from sidecar.config.leaves import Leaf
from sidecar.config.report import ENVIRONMENT, BadValueError, Path, Report, quote

StructType = TypeVar("StructType", bound=msgspec.Struct)
Expand = Callable[[str], str]

_INVALID: Final = object()
_WORD = re.compile(r"[A-Za-z_-]{1,40}")
"""What is shown of an unknown key: in `{client_id: x, s3cr3t}` the secret is a key."""
_UNIONS = (Union, types.UnionType)


def convert(raw: object, model: type[StructType], report: Report, expand: Expand) -> StructType:
    """Read `raw` (mappings, lists, strings and None) as `model`; mistakes go to `report`.

    What comes back is complete; where there was a mistake, it holds defaults and placeholders.
    """
    value = _Converter(report, expand).struct({} if raw is None else raw, model, ())
    if value is _INVALID:
        value = _Converter(Report(""), expand).struct({}, model, ())
    return typing.cast("StructType", value)


def unwrap(annotation: Any) -> tuple[Any, tuple[object, ...]]:
    """An annotation without `Annotated`, and all its metadata."""
    metadata: tuple[object, ...] = ()
    while get_origin(annotation) is Annotated:
        annotation, metadata = annotation.__origin__, annotation.__metadata__ + metadata
    return annotation, metadata


def alternatives(annotation: Any) -> tuple[Any, ...]:
    """A union's members but None and unset, or the annotation itself."""
    if get_origin(annotation) not in _UNIONS:
        return (annotation,)
    return tuple(
        member for member in get_args(annotation) if member is not type(None) and member is not msgspec.UnsetType
    )


def leaf_of(metadata: tuple[object, ...]) -> Leaf | None:
    """The Leaf among an annotation's metadata."""
    return next((item for item in metadata if isinstance(item, Leaf)), None)


def tag_of(struct: Any) -> str:
    """The value of `type` that chooses this struct."""
    return str(struct.__struct_config__.tag)


@functools.cache
def fields_of(struct: type[msgspec.Struct]) -> tuple[msgspec.structs.FieldInfo, ...]:
    """A struct's fields: name, type with its metadata, default, whether it is required."""
    return msgspec.structs.fields(struct)


class _Converter:
    def __init__(self, report: Report, expand: Expand) -> None:
        self._report = report
        self._expand = expand

    def value(self, raw: object, annotation: Any, path: Path) -> object:
        annotation, metadata = unwrap(annotation)
        if leaf := leaf_of(metadata):
            return self._leaf(raw, leaf, path)
        members = alternatives(annotation)
        if len(members) > 1:
            return self._tagged(raw, members, path)
        if members[0] is not annotation:
            return self.value(raw, members[0], path)
        origin = get_origin(annotation)
        if origin is dict:
            return self._mapping(raw, get_args(annotation), path)
        if origin is list:
            return self._list(raw, get_args(annotation)[0], path)
        if origin is Literal:
            return self._choice(raw, get_args(annotation), path)
        return self.struct(raw, annotation, path)

    def struct(self, raw: object, struct: type[msgspec.Struct], path: Path, *, tagged: bool = False) -> object:
        if (given := self._keys(raw, path)) is None:
            return _INVALID
        known = [*(["type"] if tagged else []), *(field.name for field in fields_of(struct))]
        for key in given:
            if key not in known:
                self._unknown(key, known, path)
        values: dict[str, object] = {}
        for field in fields_of(struct):
            value = self._field(given, field, path)
            if value is not _INVALID:
                values[field.name] = value
        return struct(**values)

    def _field(self, given: Mapping[str, object], field: msgspec.structs.FieldInfo, path: Path) -> object:
        here, hint = (*path, field.name), field.type
        raw = given.get(field.name)
        if field.required:
            if field.name not in given or raw is None:
                self._report.mistake(here, "is missing", f"add {field.name}")
                return _placeholder(hint)
            value = self.value(raw, hint, here)
            return _placeholder(hint) if value is _INVALID else value
        if field.name not in given:
            return _INVALID
        if raw is None:
            return None if _takes_null(hint) else _INVALID
        return self.value(raw, hint, here)

    def _leaf(self, raw: object, leaf: Leaf, path: Path) -> object:
        if not isinstance(raw, str):
            self._wrong_kind(raw, "a single value", path)
            return _INVALID
        try:
            return leaf.parse(self._expand(raw))
        except BadValueError as error:
            self._mistake(path, raw if leaf.is_quotable else "", error.message, error.cure)
            return _INVALID

    def _choice(self, raw: object, choices: tuple[str, ...], path: Path) -> object:
        value = self._leaf(raw, _TEXT, path)
        if value is _INVALID or value in choices:
            return value
        self._mistake(path, str(raw), "is not one of its values", f"write one of: {', '.join(choices)}")
        return _INVALID

    def _mistake(self, path: Path, raw: str, message: str, cure: str) -> None:
        """Quote what the user wrote, unless it came from the environment, where secrets are."""
        quoted = "" if "${" in raw or self._report.source == ENVIRONMENT else quote(raw)
        self._report.mistake(path, f"{quoted} {message}".lstrip(), cure)

    def _tagged(self, raw: object, structs: tuple[Any, ...], path: Path) -> object:
        """A union: `type` says which; only where the first has no required key may it be left out."""
        if (given := self._keys(raw, path)) is None:
            return _INVALID
        by_tag = {tag_of(struct): struct for struct in structs}
        if given.get("type") is None:
            if "file" not in by_tag:
                self._report.mistake((*path, "type"), "is missing", f"add one of: {', '.join(by_tag)}")
                return _INVALID
            return self.struct(given, structs[0], path, tagged=True)
        tag = self._choice(given["type"], tuple(by_tag), (*path, "type"))
        if tag is _INVALID:
            return _INVALID
        return self.struct(given, by_tag[str(tag)], path, tagged=True)

    def _mapping(self, raw: object, types_of: tuple[Any, Any], path: Path) -> object:
        if (given := self._keys(raw, path)) is None:
            return _INVALID
        key_type, value_type = types_of
        result: dict[object, object] = {}
        for name, item in given.items():
            here = (*path, name)
            key = self.value(name, key_type, here)
            value = self.value({} if item is None else item, value_type, here)
            if key is _INVALID or value is _INVALID:
                continue
            if key in result:
                self._report.mistake(here, "is there twice in different spellings", "remove one of them")
            result[key] = value
        return result

    def _list(self, raw: object, item_type: Any, path: Path) -> object:
        if not isinstance(raw, list):
            self._wrong_kind(raw, "a list", path)
            return _INVALID
        values = [self.value(item, item_type, (*path, index)) for index, item in enumerate(raw)]
        return [value for value in values if value is not _INVALID]

    def _keys(self, raw: object, path: Path) -> dict[str, object] | None:
        if not isinstance(raw, dict):
            self._wrong_kind(raw, "a mapping of keys to values", path)
            return None
        for key in raw:
            if not isinstance(key, str):
                self._report.mistake(path, "has a key that is no word", "write each key as a word and a colon")
        return {key: value for key, value in raw.items() if isinstance(key, str)}

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


_TEXT = Leaf(lambda text: text)


def _takes_null(annotation: Any) -> bool:
    annotation, _ = unwrap(annotation)
    return get_origin(annotation) in _UNIONS and type(None) in get_args(annotation)


def _placeholder(annotation: Any) -> object:
    annotation, metadata = unwrap(annotation)
    if leaf := leaf_of(metadata):
        return leaf.placeholder
    if get_origin(annotation) is dict:
        return {}
    return _Converter(Report(""), str).struct({}, annotation, ())
