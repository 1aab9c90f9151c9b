"""Pure Python by default. `CAMUNDA_SIDECAR_COMPILED=1` compiles the data plane with mypyc, from the same sources.

Everything else about the package stands in pyproject.toml.
"""

import os

from setuptools import setup

# What a request passes through; the rest of the program gains nothing from it.
HOT = (
    "chunked",
    "downstream",
    "exchange",
    "guard",
    "h1",
    "policy",
    "pool",
    "table",
    "target",
    "transport",
    "upstream",
)


def extensions() -> list:
    """The compiled modules, or none."""
    if os.environ.get("CAMUNDA_SIDECAR_COMPILED") != "1":
        return []
    from mypyc.build import mypycify  # noqa: PLC0415 (needed for this alone)

    return mypycify([f"sidecar/proxy/{name}.py" for name in HOT], opt_level="3", debug_level="0")


setup(ext_modules=extensions())
