"""The JSON Schema of what may be written, made from the model: for editors, and for checks in a pipeline.

It is no looser than `load` but for what only the whole can tell; any value may be a string that refers to the
environment instead.
"""

from __future__ import annotations

from typing import Any, Literal, get_args, get_origin

import msgspec

from sidecar.config.convert import alternatives, fields_of, leaf_of, tag_of, unwrap
from sidecar.config.leaves import Doc
from sidecar.config.model import Configuration, FileStore

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_REFERENCE = {"$ref": "#/$defs/reference"}
_NULL = {"type": "null"}


def json_schema() -> dict[str, Any]:
    """A JSON Schema (2020-12) of the configuration file."""
    schema = {"$schema": DIALECT, "title": "camunda-sidecar configuration", **_struct(Configuration)}
    schema["$defs"] = {
        "reference": {
            "description": "A value from the environment: ${NAME} or ${NAME:-default}.",
            "type": "string",
            "pattern": r"\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\}",
        }
    }
    return schema


def doc_of(annotation: Any) -> str:
    """A key's description."""
    return next((item.text for item in unwrap(annotation)[1] if isinstance(item, Doc)), "")


def _struct(struct: type[msgspec.Struct], *, tag: str | None = None, tag_is_required: bool = True) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    required = []
    if tag is not None:
        properties["type"] = {"const": tag}
        required = ["type"] if tag_is_required else []
    for field in fields_of(struct):
        schema = _value(field.type)
        if field.required:
            required.append(field.name)
        else:
            schema = _nullable(schema)
        properties[field.name] = {"description": doc_of(field.type), **schema}
    result: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    if struct.__doc__:
        result["description"] = " ".join(struct.__doc__.split())
    return {**result, "required": required} if required else result


def _nullable(schema: dict[str, Any]) -> dict[str, Any]:
    """Null means the default: a section of which every line is commented out is null."""
    if "anyOf" in schema:
        return {**schema, "anyOf": [*schema["anyOf"], _NULL]}
    return {**schema, "type": [schema["type"], "null"]}


def _value(annotation: Any) -> dict[str, Any]:
    annotation, metadata = unwrap(annotation)
    if leaf := leaf_of(metadata):
        return {"anyOf": [dict(leaf.schema), _REFERENCE]}
    members = alternatives(annotation)
    if len(members) > 1:
        return {
            "anyOf": [
                _struct(member, tag=tag_of(member), tag_is_required=member is not FileStore) for member in members
            ]
        }
    if members[0] is not annotation:
        return _value(members[0])
    origin = get_origin(annotation)
    if origin is dict:
        key, value = get_args(annotation)
        leaf = leaf_of(unwrap(key)[1])
        names = {"anyOf": [dict(leaf.schema), _REFERENCE]} if leaf else {}
        return {"type": "object", "propertyNames": names, "additionalProperties": _value(value)}
    if origin is list:
        return {"type": "array", "items": _value(get_args(annotation)[0])}
    if origin is Literal:
        return {"anyOf": [{"enum": list(get_args(annotation))}, _REFERENCE]}
    return _struct(annotation)
