"""What is published: its metadata, and that nothing is missing in it."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email import message_from_bytes
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from sidecar import build
from tests import needs
from tests.deploy.support import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
FOLDERS = (".github", "bench", "deploy", "docs", "requirements", "sidecar", "tests")
FILES = ("CHANGELOG.md", "Dockerfile", "LICENSE", "Makefile", "README.md", "THREAT_MODEL.md", "config.example.yaml")
MADE = re.compile(r"(^|/)(__pycache__|node_modules|results|\.work)(/|$)|\.(pyc|so)$|/_scan\.c$")


def normal(requirement: str) -> str:
    """A requirement's name as indexes compare it."""
    return re.match(r"[\w.-]+", requirement)[0].lower().replace("_", "-")


def imported() -> set[str]:
    """The distributions of all that the package imports anywhere, the standard library apart.

    Where several make up one package (`opentelemetry`), those of them that are declared.
    """
    names = set()
    for path in (ROOT / "sidecar").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names.add(node.module.partition(".")[0])
    modules = packages_distributions()
    found = {name: {normal(one) for one in modules[name]} for name in names - sys.stdlib_module_names - {"sidecar"}}
    return set().union(*(each & declared() if len(each) > 1 else each for each in found.values()))


def declared() -> set[str]:
    """The distributions that the package asks for, those of its extras included."""
    optional = PROJECT.get("optional-dependencies", {}).values()
    return {normal(one) for one in (*PROJECT["dependencies"], *(one for extra in optional for one in extra))}


def files(*folders: str) -> set[str]:
    """What stands in these folders, without what running it makes there."""
    found = (str(path.relative_to(ROOT)) for name in folders for path in (ROOT / name).rglob("*") if path.is_file())
    return {name for name in found if not MADE.search(name)}


def test_what_is_imported_is_declared_and_what_is_declared_is_imported():
    """A dependency of a dependency may go with its next release; one that nobody imports is a download for nothing."""
    assert imported() == declared()


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A source distribution and a wheel of a copy of this tree."""
    copy = tmp_path_factory.mktemp("tree")
    for folder in FOLDERS:
        shutil.copytree(
            ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__", "node_modules", "results")
        )
    for file in (*FILES, "MANIFEST.in", "pyproject.toml", "setup.py", ".dockerignore"):
        shutil.copy(ROOT / file, copy)
    out = tmp_path_factory.mktemp("dist")
    code = f"from setuptools.build_meta import *; build_sdist({str(out)!r}); build_wheel({str(out)!r})"
    done = subprocess.run([sys.executable, "-c", code], cwd=copy, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def test_the_source_distribution_has_everything(built):
    """Documents, manifests, the example and all tests: whoever packages it for a system can build and test it."""
    [archive] = built.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        there = {name.partition("/")[2] for name in tar.getnames()}
    wanted = {
        str(path.relative_to(ROOT)) for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.is_file()
    }
    assert {name for name in wanted if not MADE.search(name)} - there == set()
    assert set(FILES) | {"setup.py", "pyproject.toml"} <= there
    assert [name for name in there if MADE.search(name)] == []


def test_the_wheel_has_the_package_alone(built):
    """Data files and the native scanner included, tests and build machinery not."""
    [archive] = built.glob("*.whl")
    with zipfile.ZipFile(archive) as wheel:
        there = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert {name for name in there if not MADE.search(name)} == files("sidecar")
    native = {name for name in there if MADE.search(name)}
    assert [name.partition(".")[0] for name in native] == ["sidecar/proxy/_scan"] * (build.kind() != "pure")


def test_an_index_shows_the_readme_with_its_pictures_and_the_projects_links(built):
    """Nothing stands beside the README there: each of its links is absolute, and leads to what is in this tree."""
    [archive] = built.glob("*.whl")
    with zipfile.ZipFile(archive) as wheel:
        [name] = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = message_from_bytes(wheel.read(name))
    assert metadata["Description-Content-Type"] == "text/markdown"
    text = metadata.get_payload()
    targets = re.findall(r"\]\(([^)]+)\)", text)
    assert [target for target in targets if not target.startswith(("https://", "#"))] == []
    own = [target for target in targets if "/camunda-sidecar/" in target]
    paths = [re.sub(r"https://[^/]+/[^/]+/[^/]+/(blob/)?main/", "", target).partition("#")[0] for target in own]
    assert len(paths) > 5
    assert [path for path in paths if not (ROOT / path).exists()] == []
    assert [
        target for target in re.findall(r"!\[[^]]*\]\(([^)]+)\)", text) if "raw.githubusercontent.com" not in target
    ] == []
    labels = {line.partition(",")[0] for line in metadata.get_all("Project-URL")}
    assert labels >= {"Homepage", "Source", "Documentation", "Changelog"}


DEMO = ("demo", "--once", "--port", "0", "--requests", "8")
BARE = {"PATH": os.environ["PATH"], "UV_PYTHON": sys.executable, "UV_PYTHON_DOWNLOADS": "never"}
INSTALLERS = {
    "uv tool": ("uv", "tool", "install", "--quiet"),
    "pipx": ("pipx", "install", "--quiet", "--backend", "pip"),
}


def environment(folder: Path) -> dict[str, str]:
    """A home of its own for the installer, and what this machine says about where packages come from."""
    places = {"UV_TOOL_DIR": "tools", "UV_TOOL_BIN_DIR": "bin", "PIPX_HOME": "pipx", "PIPX_BIN_DIR": "bin"}
    given = {
        name: value for name, value in os.environ.items() if name.startswith(("PIP_", "UV_", "SSL_")) or name == "HOME"
    }
    return given | BARE | {name: str(folder / place) for name, place in places.items()}


@pytest.mark.parametrize("installer", INSTALLERS)
def test_the_wheel_installs_as_a_tool_and_the_program_serves(built, tmp_path, installer):
    """In an environment with what the wheel asks for and nothing else: `demo --once` serves every request."""
    name, *options = INSTALLERS[installer]
    [wheel] = built.glob("*.whl")
    environ = environment(tmp_path)
    run([needs.script(name), *options, str(wheel)], environ)
    told = run([str(tmp_path / "bin/camunda-sidecar"), *DEMO], environ)
    assert "8 of 8" in told


def test_the_source_distribution_installs_and_the_program_serves(built, tmp_path):
    """Built anew by whoever installs it, with the scanner compiled where there is a compiler."""
    [archive] = built.glob("*.tar.gz")
    environ = environment(tmp_path)
    run([needs.script("uv"), "venv", "--quiet", str(tmp_path / "venv")], environ)
    python = tmp_path / "venv/bin/python"
    run([needs.script("uv"), "pip", "install", "--quiet", "--python", str(python), str(archive)], environ)
    told = run([str(tmp_path / "venv/bin/camunda-sidecar"), *DEMO], environ)
    assert "8 of 8" in told
    assert "pytest" not in run([needs.script("uv"), "pip", "list", "--python", str(python)], environ)


def run(command: list[str], environ: dict[str, str]) -> str:
    """What the command says; it must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environ, cwd="/", timeout=120)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout
