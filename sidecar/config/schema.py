"""The JSON Schema of what may be written, made from the model, for editors and for checks in a pipeline.

It accepts nothing that `load` refuses, except for what no key alone can tell. Any value may be a string that refers to
the environment instead.
"""

from __future__ import annotations

from typing import Any

import msgspec

from sidecar.config.model import Settings
from sidecar.config.shape import Key, Shape, keys_of, tag_of

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_REFERENCE = {"$ref": "#/$defs/reference"}
_NULL = {"type": "null"}


def json_schema() -> dict[str, Any]:
    """Return a JSON Schema (2020-12) of the configuration file."""
    schema = {"$schema": DIALECT, "title": "camunda-sidecar configuration", **_struct(Settings)}
    schema["$defs"] = {
        "reference": {
            "description": "A value from the environment: ${NAME} or ${NAME:-default}.",
            "type": "string",
            "pattern": r"\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\}",
        }
    }
    return schema


def _struct(struct: type[msgspec.Struct], *, needs_type: bool = True) -> dict[str, Any]:
    keys = keys_of(struct)
    properties = {key.name: {"description": key.doc, **_key(key)} for key in keys}
    required = [key.name for key in keys if key.is_required and not _is_secret(key)]
    if (tag := tag_of(struct)) is not None:
        properties = {"type": {"const": tag}, **properties}
        required = ["type", *required] if needs_type else required
    result: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    result["description"] = " ".join((struct.__doc__ or "").split())
    return {**result, "required": required} if required else result


def _is_secret(key: Key) -> bool:
    return key.shape.scalar is not None and key.shape.scalar.is_secret  # it, or its twin


def _key(key: Key) -> dict[str, Any]:
    """Return a key's schema. Null means the default: a section of which every line is commented out is null."""
    schema = _shape(key.shape)
    if key.is_required and not _is_secret(key):
        return schema
    if "anyOf" in schema:
        return {**schema, "anyOf": [*schema["anyOf"], _NULL]}
    return {**schema, "type": [schema["type"], "null"]}


def _shape(shape: Shape) -> dict[str, Any]:
    if shape.scalar is not None:
        return {"anyOf": [dict(shape.scalar.schema), _REFERENCE]}
    if shape.choices:
        return {"anyOf": [{"enum": list(shape.choices)}, _REFERENCE]}
    if shape.item is not None:
        return {"type": "array", "items": _shape(shape.item)}
    if shape.value is not None and shape.name is not None:
        names = {"anyOf": [dict(shape.name.schema), _REFERENCE]}
        return {"type": "object", "propertyNames": names, "additionalProperties": _shape(shape.value)}
    if len(shape.structs) == 1:
        return _struct(shape.structs[0])
    # The first may go without `type` where nothing else is required of it.
    may_go_without = not any(key.is_required for key in keys_of(shape.structs[0]))
    return {
        "anyOf": [_struct(each, needs_type=not (may_go_without and each is shape.structs[0])) for each in shape.structs]
    }
