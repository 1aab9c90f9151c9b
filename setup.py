"""Pure Python by default. `CAMUNDA_SIDECAR_COMPILED=1` compiles the data plane with mypyc, from the same sources.

Everything else about the package stands in pyproject.toml.
"""

import os

from setuptools import setup

# What a request passes through; the rest of the program gains nothing from it.
HOT = (
    "proxy/chunked",
    "proxy/downstream",
    "proxy/exchange",
    "proxy/guard",
    "proxy/h1",
    "proxy/memo",
    "proxy/policy",
    "proxy/pool",
    "proxy/server",
    "proxy/table",
    "proxy/target",
    "proxy/tls",
    "proxy/transport",
    "proxy/upstream",
    "telemetry/http",
)


def extensions() -> list:
    """The compiled modules, or none."""
    if os.environ.get("CAMUNDA_SIDECAR_COMPILED") != "1":
        return []
    from mypyc.build import mypycify  # noqa: PLC0415 (needed for this alone)

    return mypycify([f"sidecar/{name}.py" for name in HOT], opt_level="3", debug_level="0")


setup(ext_modules=extensions())
