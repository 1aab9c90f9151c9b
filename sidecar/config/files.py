"""The files that a configuration names. Each is read at load, so that a missing one is known before it is needed."""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sidecar.config.report import BadValueError, Report
from sidecar.config.report import Path as KeyPath
from sidecar.config.scalars import Scalar
from sidecar.errors import SecretUnavailableError
from sidecar.secret import SecretSource, read_file

MAX_FILE_BYTES = 16 << 20
"""Of a CA bundle, which may have every certificate's text in it."""
FALLBACK_STATE = Path("/var/lib/camunda-sidecar")


@dataclass(frozen=True, slots=True)
class Files:
    """It finds files and checks them; mistakes go to `report`."""

    report: Report
    environ: Mapping[str, str]
    directory: Path
    """What relative paths are relative to: the configuration file's directory."""

    def locate(self, path: Path, where: KeyPath) -> Path:
        """Return an absolute path. `~` is the user's home."""
        if path.parts and path.parts[0].startswith("~"):
            home = self._home() if path.parts[0] == "~" else None
            if home is None:
                self.report.mistake(where, "begins with ~, and there is no home directory", "write an absolute path")
                return path
            return home.joinpath(*path.parts[1:])
        return self.directory / path

    def readable(self, path: Path, where: KeyPath) -> Path:
        """Return the absolute path of a file that is no secret, such as a CA bundle, and check that it can be read."""
        located = self.locate(path, where)
        try:
            if not read_file(located, MAX_FILE_BYTES):
                self._mistake(path, where, "is empty")
        except SecretUnavailableError as error:
            self._mistake(path, where, _problem(error, located))
        return located

    def secret(self, written: SecretSource, kind: Scalar, where: KeyPath, twin: KeyPath) -> SecretSource:
        """Return the secret with its file's absolute path, and check that it can be used.

        Args:
            written: the secret, or its file as it was written.
            kind: what it has to be.
            where: the key of the secret itself.
            twin: the key of its file.
        """
        if written.file is None:
            source, place = written, where
        else:
            source, place = SecretSource(file=self.locate(written.file, twin)), twin
        if self.report.is_wrong(place):
            return source
        try:
            # Only PEM has several lines.
            kind.parse((source.read_text() if kind.role == "pem" else source.read()).reveal())
        except SecretUnavailableError as error:
            if written.file is None:
                self.report.mistake(where, error.detail.removeprefix("The secret ").rstrip("."))
            else:
                self._mistake(written.file, twin, _problem(error, source.file))
        except BadValueError as error:
            self._mistake(written.file or Path(), place, error.message)
        return source

    def _mistake(self, path: Path, where: KeyPath, problem: str) -> None:
        """Add a mistake that names the file, unless the text may be the secret itself, written at the wrong key."""
        is_path = path.is_absolute() or path.parts[:1] in {("~",), ("..",)}
        named = f"names {self.locate(path, where)}, which" if is_path else "names a file that"
        self.report.mistake(where, f"{named} {problem}", "correct the path or the file")

    def state_directory(self) -> Path:
        """Return the file store's default directory: below XDG_STATE_HOME where that is set, else ~/.local/state."""
        state = self.environ.get("XDG_STATE_HOME", "")
        if state.startswith("/"):
            return Path(state) / "camunda-sidecar"
        home = self._home()
        return home / ".local" / "state" / "camunda-sidecar" if home else FALLBACK_STATE

    def knows_group(self, name: str) -> bool:
        """Tell whether this machine has a group of that name."""
        try:
            grp.getgrnam(name)
        except KeyError:
            return False
        return True

    def _home(self) -> Path | None:
        with suppress(KeyError):
            return Path(self.environ.get("HOME") or pwd.getpwuid(os.getuid()).pw_dir)
        return None


def _problem(error: SecretUnavailableError, file: Path | None) -> str:
    return error.detail.removeprefix(f"The file {file} ").rstrip(".")
