"""The locks with hashes: what the image is built from."""

import re
import tomllib

import pytest
from packaging.requirements import Requirement

from tests import needs
from tests.deploy.support import ROOT

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PYPROJECT["project"]["optional-dependencies"].values()
RUNTIME = [*PYPROJECT["project"]["dependencies"], *(each for extra in EXTRAS for each in extra)]
BUILD = [*PYPROJECT["project"]["dependencies"], *PYPROJECT["dependency-groups"]["build"]]
WANTED = pytest.mark.parametrize(("lock", "wanted"), [("runtime", RUNTIME), ("build", BUILD)], ids=["runtime", "build"])


def locked(lock: str) -> dict[str, tuple[str, int]]:
    """Version and number of hashes of each package."""
    found = {}
    for entry in re.split(r"\n(?=[a-z])", (ROOT / f"requirements/{lock}.txt").read_text()):
        if matched := re.match(r"([a-z0-9-]+)==(\S+)", entry):
            found[matched[1]] = (matched[2], len(re.findall(r"--hash=sha256:[0-9a-f]{64}\b", entry)))
    return found


@WANTED
def test_a_lock_has_what_the_project_asks_for(lock, wanted):
    """Each requirement in a version that it allows: `make lock` after a change of pyproject.toml."""
    there = locked(lock)
    for requirement in map(Requirement, wanted):
        assert requirement.specifier.contains(there[requirement.name.lower()][0]), "run `make lock`"


@WANTED
def test_every_package_has_its_hashes(lock, wanted):
    """And nothing comes from an address, a folder or a repository."""
    assert all(hashes for _, hashes in locked(lock).values())
    text = (ROOT / f"requirements/{lock}.txt").read_text()
    entries = [line for line in text.splitlines() if line and not line.startswith((" ", "#"))]
    assert len(entries) == len(locked(lock))
    assert "://" not in text


def test_both_locks_agree():
    """What the wheel is compiled beside is what it runs with."""
    runtime, build = locked("runtime"), locked("build")
    assert {
        name: (runtime[name], build[name]) for name in runtime.keys() & build.keys() if runtime[name] != build[name]
    } == {}


def test_the_lock_is_what_uv_makes_of_the_project():
    """`make lock` is the command in the file's first lines, and uv is what it needs."""
    for lock in ("runtime", "build"):
        command = (ROOT / f"requirements/{lock}.txt").read_text().splitlines()[1].lstrip("# ")
        assert command.removeprefix("uv pip compile --universal --generate-hashes ") in (ROOT / "Makefile").read_text()
    assert needs.script("uv")
