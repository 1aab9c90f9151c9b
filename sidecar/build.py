"""Which build of the data plane this is; nothing of it is imported for that."""

from __future__ import annotations

from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec
from typing import Literal

Kind = Literal["compiled", "native", "pure"]


@cache
def kind() -> Kind:
    """What is compiled: all of the data plane, as in wheels and images; its scanner of heads, `native`; or nothing."""
    if _is_extension("sidecar.proxy.h1"):
        return "compiled"
    return "native" if _is_extension("sidecar.proxy._scan") else "pure"


def _is_extension(module: str) -> bool:
    spec = find_spec(module)
    return spec is not None and (spec.origin or "").endswith(tuple(EXTENSION_SUFFIXES))
