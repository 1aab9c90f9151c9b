"""What pyproject.toml cannot say: the modules that are native, and the README for package indexes.

The scanner of heads is native wherever there is a compiler. `CAMUNDA_SIDECAR_COMPILED=1`, which wheels and the image
are built with, compiles the rest of the data plane too, with mypyc and from the same sources.
"""

import os
import re
import sys
import tomllib
from pathlib import Path

from setuptools import Extension, setup

PROJECT = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]

# What a request passes through; the rest of the program gains nothing from it.
HOT = (
    "proxy/context",
    "proxy/downstream",
    "proxy/exchange",
    "proxy/framing",
    "proxy/guard",
    "proxy/h1",
    "proxy/memo",
    "proxy/policy",
    "proxy/pool",
    "proxy/routing",
    "proxy/scan",
    "proxy/semantics",
    "proxy/server",
    "proxy/stages",
    "proxy/target",
    "proxy/tls",
    "proxy/token_endpoint",
    "proxy/transport",
    "proxy/upstream",
    "telemetry/http",
)


COMPILED = os.environ.get("CAMUNDA_SIDECAR_COMPILED") == "1"


def extensions() -> list[Extension]:
    """The scanner of heads, left out where there is no compiler, and the compiled modules, where they are wanted."""
    if "egg_info" in sys.argv:  # which is asked, among others, for what a build needs: mypyc
        return []
    from Cython.Build import cythonize  # noqa: PLC0415 (needed for this alone)

    scanner = Extension("sidecar.proxy._scan", ["sidecar/proxy/_scan.pyx"], optional=True)
    made: list[Extension] = cythonize(scanner, quiet=True)
    if COMPILED:
        from mypyc.build import mypycify  # noqa: PLC0415 (likewise)

        made += mypycify([f"sidecar/{name}.py" for name in HOT], opt_level="3", debug_level="0")
    return made


def readme() -> str:
    """README.md with absolute links: on a package index nothing stands beside it, its pictures included."""
    source = PROJECT["urls"]["Source"]
    raw = source.replace("github.com", "raw.githubusercontent.com")
    text = Path("README.md").read_text(encoding="utf-8")
    text = re.sub(r"(!\[[^]]*\]\()(?![a-z]+:|#)", rf"\1{raw}/main/", text)
    return re.sub(r"(?<!!)(\[[^]]*\]\()(?![a-z]+:|#)", rf"\1{source}/blob/main/", text)


setup(
    ext_modules=extensions(),
    long_description=readme(),
    long_description_content_type="text/markdown",
    # mypyc looks at what the modules import, so all of it has to be there where an isolated build compiles them.
    setup_requires=["mypy>=1.19", "types-pyyaml", *PROJECT["dependencies"]] if COMPILED else [],
)
