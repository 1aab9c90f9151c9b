"""Collects mistakes, so that a configuration with five of them gets all five in one go."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from sidecar.errors import ConfigurationError, Mistake

Path = tuple[str | int, ...]
"""Where a value stands: keys, and positions in lists."""

ENVIRONMENT = "environment"
"""The source of a configuration that is no file."""

_PLAIN_KEY = re.compile(r"[\w-]+")


class BadValueError(ValueError):
    """A value that cannot be used. Neither text may quote the value: it may be a secret in the wrong place."""

    def __init__(self, message: str, cure: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.cure = cure


def render(path: Path) -> str:
    """`routes.operate.allow[0]`; a key that is no plain word is quoted."""
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

    def mistake(self, path: Path, message: str, cure: str = "") -> None:
        """Add one, unless that very place has one already: the second is only a consequence of the first."""
        if path in self._wrong:
            return
        self._wrong.add(path)
        self.mistakes.append(Mistake(self.source, self.name(path), message, cure))

    def warning(self, path: Path, message: str, cure: str = "") -> None:
        """Something that works, and that a person should know of."""
        self.warnings.append(Mistake(self.source, self.name(path), message, cure))

    def is_wrong(self, path: Path) -> bool:
        """Whether something at this place, inside it, or around it is wrong already."""
        return any(wrong[: len(path)] == path or path[: len(wrong)] == wrong for wrong in self._wrong)

    def finish(self) -> tuple[Mistake, ...]:
        """The warnings.

        Raises:
            ConfigurationError: there is a mistake.
        """
        if self.mistakes:
            raise ConfigurationError(self.mistakes)
        return tuple(self.warnings)

    def name(self, path: Path) -> str:
        """What the user calls a path: the environment variable that it came from, or the key's path."""
        return self.names.get(path) or render(path)
