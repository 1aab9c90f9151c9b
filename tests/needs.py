"""Programs that tests talk to: a test skips where one is missing, but fails where `CI=true` says that all are there."""

import importlib
import os
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import pytest


def program(*names: str, package: str) -> str:
    """The path of the first of `names` that is installed; `package` is Debian's that has it."""
    found = next((path for name in names if (path := shutil.which(name))), None)
    return found or missing(f"{' or '.join(names)} is not installed (Debian: apt-get install {package})")


def module(name: str) -> ModuleType:
    """A module of the dependency group `deploy`, which `make tools` installs."""
    try:
        return importlib.import_module(name)
    except ImportError:
        missing(f"the module {name} is not installed (make tools)")


def script(name: str) -> str:
    """A program of the dependency group `deploy`: the one beside this Python, whatever else is on the PATH."""
    path = Path(sys.executable).parent / name
    return str(path) if path.exists() else missing(f"{name} is not installed (make tools)")


def missing(reason: str) -> NoReturn:
    """A test cannot run for want of something that `.ci/run` installs."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
