"""A value that cannot be printed, and where it comes from."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from sidecar.errors import SecretUnavailableError

MAX_SECRET_BYTES = 1 << 20


class Secret:
    """Wraps a secret so that no log, `repr`, f-string, pickle or traceback shows it; `reveal()` is easy to grep for."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value itself. Call it where it is sent or derived from, and nowhere else."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is never pickled")


@dataclass(frozen=True, slots=True)
class SecretSource:
    """A secret from the configuration itself, or from a file that is read again when it changes."""

    value: Secret | None = None
    file: Path | None = None

    def read(self) -> Secret:
        """The secret as it is now; one trailing line break of a file is not part of it.

        Raises:
            SecretUnavailableError: the file is missing, unreadable, empty, too large, or not UTF-8 text.
        """
        if self.file is None:
            if self.value is None:
                raise SecretUnavailableError("No secret is configured.")
            return self.value
        try:
            with self.file.open("rb") as stream:
                raw = stream.read(MAX_SECRET_BYTES + 1)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise SecretUnavailableError(f"The secret file {self.file} cannot be read: {reason}.") from None
        return Secret(_text(raw, self.file))


def _text(raw: bytes, file: Path) -> str:
    if len(raw) > MAX_SECRET_BYTES:
        raise SecretUnavailableError(f"The secret file {file} is over {MAX_SECRET_BYTES} bytes: is it the right one?")
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in raw:
        raise SecretUnavailableError(f"The secret file {file} is not UTF-8 text (UTF-16?): save it as UTF-8.")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise SecretUnavailableError(f"The secret file {file} is not UTF-8 text: save it as UTF-8.") from None
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        raise SecretUnavailableError(f"The secret file {file} is empty.")
    return text
