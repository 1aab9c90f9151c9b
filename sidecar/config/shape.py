"""What may stand at each key of the model. Reading, `check`, the JSON Schema and the reference all walk by this."""

from __future__ import annotations

import functools
import types
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec

from sidecar.config.scalars import FILE, Scalar

TWIN_DOC = "The file that has it."


@dataclass(frozen=True, slots=True)
class Shape:
    """What may stand in one place. One of the first five fields says it."""

    scalar: Scalar | None = None
    choices: tuple[str, ...] = ()
    """One of these words."""
    item: Shape | None = None
    """A list of these."""
    value: Shape | None = None
    """A mapping of names to these."""
    structs: tuple[type[msgspec.Struct], ...] = ()
    """A mapping with fixed keys: this one, or one of several, which the key `type` chooses."""
    name: Scalar | None = None
    """With `value`: what a name in the mapping may be."""
    is_nullable: bool = False
    """Whether null is a value of its own, and not just the default."""


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a mapping with fixed keys."""

    name: str
    doc: str
    shape: Shape
    default: object
    """`msgspec.NODEFAULT` where it is required."""
    twin_of: str = ""
    """The secret that a file may have instead."""

    @property
    def is_required(self) -> bool:
        """Whether it must be written."""
        return self.default is msgspec.NODEFAULT


@functools.cache
def keys_of(struct: type[msgspec.Struct]) -> tuple[Key, ...]:
    """Return the keys of a mapping with fixed keys. A field without a description is filled in by the program."""
    keys: list[Key] = []
    for field in msgspec.structs.fields(struct):
        doc = next((each for each in _unwrapped(field.type)[1] if isinstance(each, str)), "")
        if not doc:
            continue
        shape = shape_of(field.type)
        default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
        keys.append(Key(field.name, doc, shape, default))
        if shape.scalar is not None and shape.scalar.is_secret:
            keys.append(Key(f"{field.name}_file", TWIN_DOC, Shape(FILE, is_nullable=True), None, twin_of=field.name))
    return tuple(keys)


def shape_of(annotation: Any) -> Shape:
    """Return the shape that a field's annotation describes."""
    annotation, metadata = _unwrapped(annotation)
    for each in metadata:
        if isinstance(each, Scalar):
            return Shape(each)
    if get_origin(annotation) in {Union, types.UnionType}:
        return _union(get_args(annotation))
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return Shape(choices=arguments)
    if origin is tuple:
        return Shape(item=shape_of(arguments[0]))
    if origin is dict:
        return Shape(value=shape_of(arguments[1]), name=shape_of(arguments[0]).scalar)
    return Shape(structs=(annotation,))


def tag_of(struct: type[msgspec.Struct]) -> str | None:
    """Return the value of `type` that chooses this struct, or None where nothing has to be chosen."""
    tag = struct.__struct_config__.tag
    return None if tag is None else str(tag)


def _union(members: tuple[Any, ...]) -> Shape:
    shapes = [shape_of(member) for member in members if member not in {type(None), msgspec.UnsetType}]
    if len(shapes) > 1:
        return Shape(structs=tuple(struct for shape in shapes for struct in shape.structs))
    return replace(shapes[0], is_nullable=type(None) in members)


def _unwrapped(annotation: Any) -> tuple[Any, tuple[object, ...]]:
    """Return an annotation without `Annotated`, and all its metadata."""
    metadata: tuple[object, ...] = ()
    while get_origin(annotation) is Annotated:
        annotation, metadata = annotation.__origin__, annotation.__metadata__ + metadata
    return annotation, metadata
