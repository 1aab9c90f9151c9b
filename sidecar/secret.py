"""A value that cannot be printed, and where it comes from."""

from __future__ import annotations

import hmac
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from sidecar.errors import SecretUnavailableError

MASK = "***"
"""What is shown in a secret's place."""
MAX_SECRET_BYTES = 1 << 20
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""What no secret has in it: control characters, other line breaks, and what was not UTF-8 in the environment."""


class Secret:
    """Wraps a secret so that no log, `repr`, f-string, pickle or traceback shows it; `reveal()` is easy to grep for."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value itself. Call it where it is sent or derived from, and nowhere else."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret({MASK})"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(_bytes(self), _bytes(other))

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is never pickled")


def _bytes(secret: Secret) -> bytes:
    return secret.reveal().encode("utf-8", "surrogatepass")


@dataclass(frozen=True, slots=True)
class SecretSource:
    """A secret from the configuration itself, or from a file that is read again when it changes."""

    value: Secret | None = None
    file: Path | None = None

    def read(self) -> Secret:
        """The secret as it is now: one line without control characters. A file's last line break is not part of it.

        Raises:
            SecretUnavailableError: it is anything else, or its file cannot be used.
        """
        secret = self.read_text()
        if _CONTROL.search(secret.reveal()):
            what = "The secret" if self.file is None else f"The file {self.file}"
            raise SecretUnavailableError(
                f"{what} has line breaks or control characters: write one line, the secret alone."
            )
        return secret

    def read_text(self) -> Secret:
        """The same for a secret of many lines, such as a key in PEM.

        Raises:
            SecretUnavailableError: the file is missing, no regular file, empty, too large, or not text.
        """
        if self.file is not None:
            return Secret(read_text(self.file))
        if self.value is None:
            raise SecretUnavailableError("No secret is configured.")
        return self.value


def read_text(file: Path) -> str:
    """The text of a regular file, without its last line break.

    Raises:
        SecretUnavailableError: the file is missing, no regular file, empty, too large, or not text.
    """
    raw = read_file(file, MAX_SECRET_BYTES)
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in raw:
        raise SecretUnavailableError(f"The file {file} is not UTF-8 text (UTF-16, or DER?): save it as UTF-8 or PEM.")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        if b"-----BEGIN " not in raw:
            raise SecretUnavailableError(f"The file {file} is not UTF-8 text: save it as UTF-8.") from None
        text = raw.decode("latin-1")  # what stands around the blocks of PEM does not count: a name, in any encoding
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        raise SecretUnavailableError(f"The file {file} is empty.")
    return text


def read_file(file: Path, limit: int) -> bytes:
    """The content of a regular file of at most `limit` bytes. A pipe, a device or a directory is never waited for.

    Raises:
        SecretUnavailableError: it is none, or cannot be read.
    """
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise SecretUnavailableError(f"The file {file} is no regular file (a directory, a pipe, a device).")
            with open(descriptor, "rb", closefd=False) as stream:
                raw = stream.read(limit + 1) or b""
        finally:
            os.close(descriptor)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise SecretUnavailableError(f"The file {file} cannot be read: {reason}.") from None
    if len(raw) > limit:
        raise SecretUnavailableError(f"The file {file} is over {limit} bytes: is it the right one?")
    return raw
