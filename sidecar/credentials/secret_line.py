"""A secret of one line: a client's secret, a password, a token."""

from __future__ import annotations

from sidecar.errors import SecretUnavailableError
from sidecar.secret import Secret, SecretSource


def read_line(source: SecretSource) -> Secret:
    """The secret as it is now. A file's last line break is not part of it; any other is a mistake, not a secret.

    Raises:
        SecretUnavailableError: it cannot be read, or has several lines.
    """
    secret = source.read()
    value = secret.reveal()
    if "\n" in value or "\r" in value:
        where = f"The secret file {source.file}" if source.file is not None else "The secret"
        raise SecretUnavailableError(f"{where} has line breaks: write the secret alone, on one line.")
    return secret
