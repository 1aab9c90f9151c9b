"""The mistakes of a configuration are collected, so that a file with five of them gets all five at once."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from sidecar.errors import ConfigurationError, Mistake

Path = tuple[str | int, ...]
"""Where a value stands: keys, and positions in lists."""

ENVIRONMENT = "environment"
"""The source of a configuration that is no file."""

_PLAIN_KEY = re.compile(r"[\w-]+")


_QUOTABLE = re.compile(r"[A-Za-z0-9 _.,:/*\[\]-]{1,40}", re.ASCII)
_RANDOM = re.compile(r"(?=[A-Za-z_-]*[0-9])(?=[0-9_-]*[A-Za-z])[A-Za-z0-9_-]{16,}")
"""Letters and digits in a long word: a key, a token, a password that a program made."""


def quote(value: str) -> str:
    """Return the value as a message shows it, or nothing where it could be a secret in the wrong place."""
    if not _QUOTABLE.fullmatch(value) or _RANDOM.search(value):
        return ""
    return f"{value!r}" if " " in value else value


class BadValueError(ValueError):
    """A value that cannot be used. Its texts do not quote the value: `convert` does, where it cannot be a secret."""

    def __init__(self, message: str, cure: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.cure = cure


def render(path: Path) -> str:
    """Write a path like `routes.operate.allow[0]`. A key that is no plain word is quoted."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif _PLAIN_KEY.fullmatch(part):
            text += f".{part}" if text else part
        else:
            text += f'["{part}"]'
    return text


@dataclass(slots=True)
class Report:
    """The mistakes and the warnings of one configuration."""

    source: str
    mistakes: list[Mistake] = field(default_factory=list)
    warnings: list[Mistake] = field(default_factory=list)
    names: dict[Path, str] = field(default_factory=dict)
    """What the user calls a path where it is not the key's: the environment variable that it came from."""
    _wrong: set[Path] = field(default_factory=set)
    _variables: set[Path] = field(default_factory=set)

    def set_by_variable(self, path: Path, variable: str) -> None:
        """Note that a value comes from the environment, whatever the source of the others is."""
        self.names[path] = variable
        self._variables.add(path)

    def mistake(self, path: Path, message: str, cure: str = "") -> None:
        """Add a mistake, unless that very place has one already: the second only follows from the first."""
        if path in self._wrong:
            return
        self._wrong.add(path)
        self.mistakes.append(Mistake(self._source(path), self.name(path), message, cure))

    def warning(self, path: Path, message: str, cure: str = "") -> None:
        """Add something that works, and that a person should know of."""
        self.warnings.append(Mistake(self._source(path), self.name(path), message, cure))

    def is_wrong(self, path: Path) -> bool:
        """Tell whether there is a mistake at this place, inside it, or around it."""
        return any(wrong[: len(path)] == path or path[: len(wrong)] == wrong for wrong in self._wrong)

    def finish(self) -> tuple[Mistake, ...]:
        """Return the warnings.

        Raises:
            ConfigurationError: there is a mistake.
        """
        if self.mistakes:
            raise ConfigurationError(self.mistakes)
        return tuple(self.warnings)

    def name(self, path: Path) -> str:
        """Return what the user calls a path: the environment variable that it came from, or the key's path."""
        return self.names.get(path) or render(path)

    def _source(self, path: Path) -> str:
        return ENVIRONMENT if path in self._variables else self.source
