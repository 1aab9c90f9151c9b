"""References to the environment in the configuration's strings: `${NAME}` and `${NAME:-default}`."""

from __future__ import annotations

import re
from collections.abc import Mapping

from sidecar.config.report import BadValueError

_REFERENCE = re.compile(r"\$\$\{|\$\{(?:(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<default>:-[^}]*)?\})?")


def expand(text: str, environ: Mapping[str, str]) -> str:
    """Replace references by the values of the environment.

    As in a shell, a default also replaces an empty value. `$${` is a literal `${`; a value is never expanded again.

    Raises:
        BadValueError: a variable is not set and has no default, or a reference is malformed.
    """

    def replace(match: re.Match[str]) -> str:
        if match[0] == "$${":
            return "${"
        name, default = match["name"], match["default"]
        if name is None:
            raise BadValueError(
                "has a ${ that does not begin a reference",
                "write ${NAME} or ${NAME:-default}, and $${ where ${ itself is meant",
            )
        if default is not None:
            return environ.get(name) or default.removeprefix(":-")
        if name not in environ:
            raise BadValueError(
                f"refers to the environment variable {name}, which is not set",
                f"set {name}, or write ${{{name}:-default}}",
            )
        return environ[name]

    return _REFERENCE.sub(replace, text) if "${" in text else text
