"""Node programs for tests: their packages are installed on demand, once, into the git-ignored `.work/npm`."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
from pathlib import Path

from tests import needs

ROOT = Path(__file__).parents[2]
WORK = ROOT / ".work" / "npm"


def project(folder: Path) -> Path:
    """A copy of `folder` (with a `package.json`) that has its packages beside it; skips where that cannot be.

    The copy is made anew whenever a file in `folder` has changed; the packages are installed only when `package.json`
    has. Safe to call from several test processes at once.
    """
    needs.program("node", package="nodejs")
    needs.program("npm", package="npm")
    manifest = (folder / "package.json").read_bytes()
    place = WORK / f"{folder.name}-{hashlib.sha256(manifest).hexdigest()[:12]}"
    place.mkdir(parents=True, exist_ok=True)
    with (place / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for file in folder.iterdir():
            if file.is_file():
                shutil.copy2(file, place / file.name)
        if not (place / ".installed").exists():
            _install(place)
    return place


def _install(place: Path) -> None:
    command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        needs.missing(f"npm install failed: {done.stderr.strip()[:500]}")
    (place / ".installed").touch()
