"""Files that a configuration names: read once at load, so that a missing one is known before it is needed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sidecar.config.report import Path as KeyPath
from sidecar.config.report import Report
from sidecar.errors import SecretUnavailableError
from sidecar.secret import Secret, SecretSource

FALLBACK_STATE = Path("/var/lib/camunda-sidecar")


@dataclass(frozen=True, slots=True)
class Files:
    """Where files are looked for, and where mistakes go."""

    report: Report
    environ: Mapping[str, str]
    directory: Path
    """What relative paths are relative to: the configuration file's directory."""

    def locate(self, path: Path, where: KeyPath) -> Path:
        """An absolute path; `~` is the user's home."""
        if path.parts and path.parts[0].startswith("~"):
            home = self._home() if path.parts[0] == "~" else None
            if home is None:
                self.report.mistake(where, "begins with ~, and there is no home directory", "write an absolute path")
                return path
            return home.joinpath(*path.parts[1:])
        return self.directory / path

    def readable(self, path: Path | None, where: KeyPath) -> Path | None:
        """A file that is no secret, such as a CA bundle; that it can be read is checked now."""
        if path is None:
            return None
        located = self.locate(path, where)
        try:
            with located.open("rb") as stream:
                if not stream.read(1):
                    self.report.mistake(where, f"names {located}, which is empty", "put the certificate or key in it")
        except OSError as error:
            reason = (error.strerror or type(error).__name__).lower()
            self.report.mistake(where, f"names {located}, which cannot be read: {reason}", "correct the path")
        return located

    def secret(self, value: Secret | None, file: Path | None, where: KeyPath) -> SecretSource | None:
        """A secret from its key at `where` or from the `…_file` twin; None where neither is given."""
        twin = (*where[:-1], f"{where[-1]}_file")
        if file is None:
            return None if value is None else SecretSource(value=value)
        if value is not None:
            self.report.mistake(twin, f"is given besides {where[-1]}", "keep one of the two")
            return None
        source = SecretSource(file=self.locate(file, twin))
        if not self.report.is_wrong(twin):
            try:
                source.read()
            except SecretUnavailableError as error:
                self.report.mistake(twin, f"cannot be used: {error.detail}", "correct the path or the file")
        return source

    def state_directory(self) -> Path:
        """The default place of the file store: XDG_STATE_HOME's where that is set, else ~/.local/state's."""
        state = self.environ.get("XDG_STATE_HOME", "")
        if state.startswith("/"):
            return Path(state) / "camunda-sidecar"
        home = self._home()
        return home / ".local" / "state" / "camunda-sidecar" if home else FALLBACK_STATE

    def _home(self) -> Path | None:
        if home := self.environ.get("HOME"):
            return Path(home)
        try:
            import pwd  # noqa: PLC0415 (not on every system)

            return Path(pwd.getpwuid(os.getuid()).pw_dir)
        except (ImportError, KeyError):
            return None
