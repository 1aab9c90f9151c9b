"""What `check` prints: the settings as the user would write them, with every default, and with secrets masked."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from sidecar.config.model import BY_PRODUCT
from sidecar.config.settings import Settings
from sidecar.config.shape import Shape, keys_of, tag_of
from sidecar.secret import MASK, SecretSource


def describe(settings: Settings) -> dict[str, Any]:
    """Return plain mappings, lists and text, for YAML or JSON. Secrets are masked; what is not set is left out."""
    return _struct(Settings, settings)


def without_password(proxy: str) -> str:
    """Return a forward proxy's URL with user and password masked."""
    return re.sub(r"//[^/]*@", f"//{MASK}@", proxy)


def _struct(struct: type[msgspec.Struct], value: object) -> dict[str, Any]:
    """Return a mapping without keys that are null by default, and without sections that are empty then."""
    shown: dict[str, Any] = {} if (tag := tag_of(struct)) is None else {"type": tag}
    for key in keys_of(struct):
        here = getattr(value, key.name, None)
        if isinstance(here, SecretSource):
            shown |= {key.name: MASK} if here.file is None else {f"{key.name}_file": str(here.file)}
        elif here is None:
            # Where nothing and null differ, null is said.
            shown |= {key.name: None} if key.default == BY_PRODUCT else {}
        elif (text := _shape(key.shape, here)) != {}:
            shown[key.name] = text
    proxy = getattr(value, "proxy", None)
    return shown if proxy is None else {**shown, "proxy": without_password(proxy)}


def _shape(shape: Shape, value: Any) -> Any:
    if shape.scalar is not None:
        return shape.scalar.show(value)
    if shape.choices:
        return value
    if shape.item is not None:
        return [_shape(shape.item, each) for each in value]
    if shape.value is not None:
        return {str(name): _shape(shape.value, each) for name, each in value.items()}
    struct = next((each for each in shape.structs if isinstance(value, each)), shape.structs[0])
    return _struct(struct, value)
