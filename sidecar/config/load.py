"""How a file, or the environment, becomes settings, or one error that has every mistake."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from msgspec.structs import replace

from sidecar.config.convert import convert
from sidecar.config.environment import from_environment
from sidecar.config.files import Files
from sidecar.config.report import ENVIRONMENT, Report
from sidecar.config.resolve import resolve
from sidecar.config.settings import Address, Settings
from sidecar.config.yaml_file import DEFAULT_FILE, VARIABLE, expand, find, read
from sidecar.errors import Mistake

ADMIN_VARIABLE = "CAMUNDA_SIDECAR_ADMIN"
OWN_VARIABLES: Mapping[str, tuple[str, ...]] = {
    "CAMUNDA_SIDECAR_LISTEN": ("listen",),
    ADMIN_VARIABLE: ("admin", "listen"),
    "CAMUNDA_SIDECAR_ALLOW_REMOTE": ("guard", "allow_remote"),
    "CAMUNDA_SIDECAR_HOSTS": ("guard", "hosts"),
}
"""What a container without a file needs to be reached; the hosts are separated by commas."""

Verify = Callable[[Settings], Iterable[Mistake]]
"""Further checks by those who know what is in a file, such as a PEM key; asked only when all else is right."""


def load(config: Path | None, environ: Mapping[str, str], *, verify: Verify | None = None) -> Settings:
    """Find, read, check and resolve the configuration.

    Args:
        config: the file that the user named (`--config`), or None: `CAMUNDA_SIDECAR_CONFIG`, then
            /etc/camunda-sidecar/config.yaml, then the environment variables that Camunda documents.
        environ: the environment; nothing else is asked for a variable.
        verify: checks of files' contents that this room cannot make.

    Raises:
        ConfigurationError: with all mistakes, each with its place and cure, and no secret in any.
    """
    file = find(config, environ)
    report = Report(ENVIRONMENT if file is None else str(file))
    files = Files(report, environ, Path.cwd() if file is None else file.parent)
    settings = resolve(_from_environment(files) if file is None else _from_file(file, files), files)
    warnings = report.finish()
    if verify is not None:
        report.mistakes.extend(verify(settings))
        report.finish()
    return replace(settings, warnings=warnings)


def admin_address(config: Path | None, environ: Mapping[str, str]) -> Address:
    """Return the address at which the sidecar of this configuration can be asked.

    Whoever asks need not be able to read its secrets, nor have its variables set: nothing else is looked at, and not
    even the file where `CAMUNDA_SIDECAR_ADMIN` is set.

    Raises:
        ConfigurationError: the file cannot be read, or `admin` in it is wrong.
    """
    file = None if environ.get(ADMIN_VARIABLE) else find(config, environ)
    report = Report(ENVIRONMENT if file is None else str(file))
    raw: object = {"routes": {}} if file is None else read(file, report)
    report.finish()
    raw = _with_own_variables(raw, environ, report)
    written = convert(raw, Settings, report, lambda text: expand(text, environ))
    if report.is_wrong(("admin",)):
        report.finish()
    return written.admin.listen


def _from_file(file: Path, files: Files) -> Settings:
    report, environ = files.report, files.environ
    raw = read(file, report)
    report.finish()
    raw = _with_own_variables(raw, environ, report)
    return convert(raw, Settings, report, lambda text: expand(text, environ), files)


def _from_environment(files: Files) -> Settings:
    report, environ = files.report, files.environ
    raw = from_environment(environ, report)
    if not raw["credentials"]:
        report.mistake(
            (),
            f"there is no configuration: neither --config nor {VARIABLE} names a file, {DEFAULT_FILE} does not exist,"
            " and no variable such as CAMUNDA_CLIENT_ID, ZEEBE_CLIENT_ID or CAMUNDA_CONSOLE_CLIENT_ID is set",
            "let `camunda-sidecar init` write a file, or set Camunda's variables",
        )
    return convert(_with_own_variables(raw, environ, report), Settings, report, str, files)


def _with_own_variables(raw: object, environ: Mapping[str, str], report: Report) -> object:
    """Return the raw configuration with the sidecar's own variables, which go before what the file says."""
    if not isinstance(raw, dict | None):
        return raw
    result: dict[object, object] = dict(raw or {})
    for variable, path in OWN_VARIABLES.items():
        section = result if len(path) == 1 else result.get(path[0]) or {}
        if not (text := environ.get(variable)) or not isinstance(section, dict):
            continue
        report.set_by_variable(path, variable)
        changed = {**section, path[-1]: text.replace(",", " ").split() if path[-1] == "hosts" else text}
        result = changed if len(path) == 1 else {**result, path[0]: changed}
    return result
