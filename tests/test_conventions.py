"""What all tests have in common."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "tests").rglob("test_*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT / "tests")))
def test_every_test_says_which_promise_it_keeps(file):
    """Its docstring is what a reader of a failure reads first."""
    nodes = ast.walk(ast.parse(file.read_text()))
    tests = [node for node in nodes if str(getattr(node, "name", "")).startswith("test_")]
    assert [test.name for test in tests if not ast.get_docstring(test)] == []


def test_ci_installs_every_package_that_a_test_needs():
    """On a new machine nothing is missing; a test that lacks a program fails there, and does not skip."""
    code = "".join(file.read_text() for file in sorted((ROOT / "tests").rglob("*.py")))
    needed = set(re.findall(r'needs\.program\([^)]*package="([\w-]+)"\)', code))
    assert len(needed) > 5
    assert needed <= set(re.findall(r"[\w-]+:([\w-]+)", (ROOT / ".ci/run").read_text()))


def test_no_test_asks_for_a_program_by_another_way():
    """`tests/needs.py` alone decides what a missing program means."""
    askers = [file for file in (ROOT / "tests").rglob("*.py") if "shutil.which(" in file.read_text()]
    assert [file.name for file in askers if file != Path(__file__)] == ["needs.py"]


def test_nothing_speaks_of_a_page_outside():
    """What a reader of the repository cannot open explains nothing to them."""
    folders = ("bench", "deploy", "docs", "sidecar", "tests")
    texts = [path for name in folders for path in (ROOT / name).rglob("*") if path.suffix in {".py", ".md", ".yaml"}]
    outside = re.compile(r"DESIGN[' ]")
    assert [str(path.relative_to(ROOT)) for path in texts if outside.search(path.read_text())] == []
