"""How the configuration's file is found, and its YAML is read, with `${NAME}` and `${NAME:-default}` in its strings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import yaml

from sidecar.config.report import BadValueError, Report

DEFAULT_FILE = Path("/etc/camunda-sidecar/config.yaml")
VARIABLE = "CAMUNDA_SIDECAR_CONFIG"

_MAX_BYTES = 1 << 20
_REFERENCE = re.compile(r"\$\$\{|\$\{(?:(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<default>:-[^}]*)?\})?")


def find(config: Path | None, environ: Mapping[str, str]) -> Path | None:
    """Return the absolute path of the file to read, or None where neither the user, a variable nor /etc has one."""
    if config is not None:
        return config.absolute()
    if named := environ.get(VARIABLE):
        return Path(named).absolute()
    return DEFAULT_FILE if DEFAULT_FILE.exists() else None


def read(file: Path, report: Report) -> object:
    """Return the file's content: mappings, lists, None, and every scalar as the text that it was written as.

    So `client_id: 0123` is `0123` and not 83, and the model alone decides what a value means. A mistake in the syntax
    goes to `report`, which never gets the line itself: it may hold a secret.
    """
    try:
        with file.open("rb") as stream:
            content = stream.read(_MAX_BYTES + 1)
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        report.mistake((), f"cannot be read: {reason}", "name another file with --config, or let `init` write one")
        return None
    if len(content) > _MAX_BYTES:
        report.mistake((), f"is over {_MAX_BYTES} bytes", "is it the right file?")
        return None
    try:
        return yaml.load(content, _Loader)  # noqa: S506 (a SafeLoader, see below)
    except yaml.reader.ReaderError:
        report.mistake((), "is not UTF-8 text, or has a control character in it", "save it as UTF-8")
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        report.mistake((), f"{where}{_harmless(error.problem)}", _cure(content, mark))
    except RecursionError:
        report.mistake((), "is nested too deeply", "is it the right file?")
    return None


def _cure(content: bytes, mark: yaml.Mark | None) -> str:
    lines = content.splitlines()[mark.line : mark.line + 1] if mark else []
    if any(b"${" in line for line in lines):
        return "correct the YAML there; between { } and [ ], put quotes around ${…}"
    return "correct the YAML there"


def _harmless(problem: str | None) -> str:
    """Return what the parser says without the text that it quotes. The names of its own tokens may stay."""
    return re.sub(r"'(?!<)[^']{2,}'", "…", problem or "is not valid YAML")


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


class _Loader(yaml.SafeLoader):
    """A loader of YAML with null, merge keys and text alone, which refuses a key that is there twice."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 (yaml's own form of it)

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.composer.ComposerError(None, None, "a key is there twice", key.start_mark)
                seen.add(key.value)
        return node

    def construct_undefined(self, node: yaml.Node) -> NoReturn:
        raise yaml.constructor.ConstructorError(None, None, "a tag (!name) has no meaning here", node.start_mark)


_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"(?:~|null|Null|NULL|)\Z"), ["~", "n", "N", ""])
_Loader.add_implicit_resolver("tag:yaml.org,2002:merge", re.compile(r"<<\Z"), ["<"])
for _tag in ("bool", "int", "float", "binary", "timestamp", "omap", "pairs", "set"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_tag}", _Loader.construct_undefined)
_Loader.add_constructor(None, _Loader.construct_undefined)
