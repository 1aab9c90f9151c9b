"""Programs that tests talk to: a test skips where one is missing, but fails where `CI=true` says that all are there."""

import os
import shutil
from typing import NoReturn

import pytest


def program(*names: str, package: str) -> str:
    """The path of the first of `names` that is installed; `package` is Debian's that has it."""
    found = next((path for name in names if (path := shutil.which(name))), None)
    return found or missing(f"{' or '.join(names)} is not installed (Debian: apt-get install {package})")


def missing(reason: str) -> NoReturn:
    """A test cannot run for want of something that `.ci/run` installs."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
