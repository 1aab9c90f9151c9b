"""The image's build stage, replayed in a directory of its own: there is no container engine here.

`python -m tests.deploy.image` builds it twice from nothing and says whether every file is the same (minutes).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.deploy.support import ROOT

DOCKERFILE = ROOT / "Dockerfile"
USER = 65532
PLACES = re.compile(r"^/(src|build|dist|opt|home)\b")


def instructions() -> list[tuple[str, str]]:
    """Keyword and arguments of each instruction."""
    text = DOCKERFILE.read_text().replace("\\\n", " ")
    lines = (line for line in text.splitlines() if line and not line.startswith("#"))
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in lines]


def of(keyword: str) -> list[str]:
    return [arguments for found, arguments in instructions() if found == keyword]


def stage() -> list[tuple[str, str]]:
    """The instructions of the build stage."""
    found = instructions()
    starts = [number for number, (keyword, _) in enumerate(found) if keyword == "FROM"]
    return found[starts[0] : starts[1]]


def replay(root: Path, *, again: bool = False) -> None:
    """Every COPY and RUN of the build stage, with the image's directories below `root`.

    `again`: what is in /build and /dist is there already, and /opt alone is made anew.
    """
    for place in ("src", "opt", "home", "dist"):
        (root / place).mkdir(exist_ok=True)
    arguments = dict(pair.split("=", 1) for pair in of("ARG") if "=" in pair)
    for keyword, text in stage():
        if keyword == "COPY":
            *sources, target = text.split()
            for source in sources:
                _copy(ROOT / source, root / "src" / target)
        elif keyword == "RUN":
            command = [PLACES.sub(rf"{root}/\1", part) for part in json.loads(text)]
            if again and not any(part.startswith(f"{root}/opt") for part in command):
                continue
            _run(_own(command, root), root / "src", os.environ | arguments)


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        made = shutil.ignore_patterns("__pycache__", "*.so", "_scan.c")
        shutil.copytree(source, target, ignore=made, dirs_exist_ok=True)
    else:
        shutil.copy(source, target)


def _own(command: list[str], root: Path) -> list[str]:
    """The command with an interpreter that this machine has, and without what only root can do."""
    if command[0] == "python":
        own = root / "opt/camunda-sidecar/bin/python" if "compileall" in command else interpreter()
        return [str(own), *command[1:]]
    if command[0] == "install" and os.geteuid() != 0:
        return [*command[:4], command[-1]]  # only root can give a directory away
    return command


def _run(command: list[str], folder: Path, environ: dict[str, str]) -> None:
    done = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True, env=environ)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


def interpreter() -> str:
    """One that the image's user may execute too; this test's own may stand in root's home."""
    for candidate in (sys.executable, "/usr/bin/python3"):
        code = "import sys, venv; sys.exit(sys.version_info < (3, 11))"
        try:
            if subprocess.run([candidate, "-c", code], check=False, cwd="/", **as_user()).returncode == 0:
                return candidate
        except OSError:
            continue
    pytest.skip(f"no Python 3.11 here that uid {USER} may execute")


def as_user(user: int = USER, group: int = USER) -> dict:
    """What makes a subprocess the image's user; nothing where this user may not do that."""
    return {"user": user, "group": group, "extra_groups": []} if os.geteuid() == 0 else {}


def tree(root: Path) -> dict[str, tuple[int, str]]:
    """Mode and digest of every file below a directory, and the target of every link."""
    found = {}
    for path in sorted(root.rglob("*")):
        content = str(path.readlink()).encode() if path.is_symlink() else path.read_bytes() if path.is_file() else b""
        found[str(path.relative_to(root))] = (path.lstat().st_mode, hashlib.sha256(content).hexdigest())
    return found


def main() -> int:
    """Two builds at one place, one after the other."""
    trees = []
    with tempfile.TemporaryDirectory(prefix="camunda-sidecar-image-") as name:
        root = Path(name) / "image"
        for _ in range(2):
            root.mkdir()
            root.parent.chmod(0o755)
            replay(root)
            trees.append(tree(root / "opt"))
            files = [path for path in (root / "opt").rglob("*") if path.is_file() and not path.is_symlink()]
            sys.stdout.write(f"{len(files)} files, {sum(path.stat().st_size for path in files) / 1e6:.1f} MB\n")
            shutil.rmtree(root)
    first, second = trees
    differing = [path for path in first.keys() | second.keys() if first.get(path) != second.get(path)]
    sys.stdout.write("\n".join(sorted(differing) or ["every file is the same"]) + "\n")
    return bool(differing)


if __name__ == "__main__":
    sys.exit(main())
