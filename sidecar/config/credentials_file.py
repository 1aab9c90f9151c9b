"""A reader of the credentials file that the Camunda Console offers; the result is Camunda's environment variables.

The forms are shell (`export NAME='value'`, an .env file, PowerShell's), Spring properties, and Spring YAML.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from sidecar.config.environment import is_known, relaxed
from sidecar.config.report import Report

_ASSIGNMENT = re.compile(
    r"\s*(?:export\s+|set\s+|\$env:)?(?P<name>[A-Za-z_][A-Za-z0-9_.-]*)\s*[=:]\s*(?P<value>.*?)\s*;?\s*"
)
_VARIABLE = re.compile(r"(?:ZEEBE|CAMUNDA)_[A-Z0-9_]+")


def decode(content: bytes, report: Report) -> str:
    """Return the file's text. Some Windows tools save UTF-16."""
    try:
        return content.decode("utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig")
    except UnicodeDecodeError:
        report.mistake((), "is not text", "save it as UTF-8")
        return ""


def read_credentials(text: str, report: Report) -> dict[str, str]:
    """Return the variables that a credentials file sets. It is a mistake if there are none."""
    found: dict[str, str] = {}
    for name, value in (*_yaml(text), *_lines(text)):
        if variable := _variable(name):
            found.setdefault(variable, value)
    if not found:
        report.mistake(
            (),
            "is no credentials file: it sets no variable such as ZEEBE_CLIENT_ID and no key such as"
            " camunda.client.auth.client-id",
            "in the Console, create a client and download its credentials, as environment variables or for Spring",
        )
    return found


def _variable(name: str) -> str | None:
    """Return Camunda's variable for a name in the file: the name itself, or what a Spring property stands for."""
    if _VARIABLE.fullmatch(name):
        return name
    variable = relaxed(name)[0]
    return variable if is_known(variable) else None


def _lines(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        if match := _ASSIGNMENT.fullmatch(line):
            yield match["name"], _unquoted(match["value"])


def _unquoted(value: str) -> str:
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
        return value[1:-1]
    return value


def _yaml(text: str) -> Iterator[tuple[str, str]]:
    """Return the values of a YAML mapping by their dotted names, or nothing where the text is no YAML."""
    import yaml  # noqa: PLC0415 (only `init` needs this)

    try:
        value = yaml.load(text, yaml.BaseLoader)  # noqa: S506 (knows mappings, lists and text)
    except (yaml.YAMLError, RecursionError):
        return
    yield from _leaves(value, "")


def _leaves(value: object, name: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(item, f"{name}.{key}" if name else str(key))
    elif isinstance(value, str) and value:
        yield name, value
