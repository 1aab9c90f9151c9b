"""The one door: a file or the environment becomes settings, or one error with every mistake in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from sidecar.config import model
from sidecar.config.convert import convert
from sidecar.config.environment import from_environment
from sidecar.config.expand import expand
from sidecar.config.files import Files
from sidecar.config.report import ENVIRONMENT, Report
from sidecar.config.resolve import resolve
from sidecar.config.settings import Address, Settings
from sidecar.config.source import DEFAULT_FILE, VARIABLE, find, read
from sidecar.errors import Mistake

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
    written = _from_environment(environ, report) if file is None else _from_file(file, environ, report)
    directory = Path.cwd() if file is None else file.absolute().parent
    settings = resolve(written, Files(report, environ, directory))
    warnings = report.finish()
    if verify is not None:
        report.mistakes.extend(verify(settings))
        report.finish()
    return replace(settings, warnings=warnings)


@dataclass(frozen=True, slots=True)
class Running:
    """What commands need that talk to a running sidecar."""

    admin_listen: Address
    drain: float
    """Seconds that the end may take: `drain_delay` and `drain_timeout`."""


def running(config: Path | None, environ: Mapping[str, str]) -> Running:
    """Where the sidecar of this configuration can be asked.

    Whoever asks need not be able to read its secrets, nor have its variables set: nothing else is looked at.

    Raises:
        ConfigurationError: the file cannot be read, or one of these is wrong.
    """
    file = find(config, environ)
    if file is None:
        written = model.Configuration(routes={})
        return Running(written.admin.listen, written.drain_delay + written.drain_timeout)
    report = Report(str(file))
    raw = read(file, report)
    report.finish()
    written = convert(raw, model.Configuration, report, lambda text: expand(text, environ))
    if any(report.is_wrong((key,)) for key in ("admin", "drain_delay", "drain_timeout")):
        report.finish()
    return Running(written.admin.listen, written.drain_delay + written.drain_timeout)


def _from_file(file: Path, environ: Mapping[str, str], report: Report) -> model.Configuration:
    raw = read(file, report)
    if report.mistakes:
        report.finish()
    return convert(raw, model.Configuration, report, lambda text: expand(text, environ))


def _from_environment(environ: Mapping[str, str], report: Report) -> model.Configuration:
    raw = from_environment(environ, report)
    if not raw["credentials"]:
        report.mistake(
            (),
            f"there is no configuration: neither --config nor {VARIABLE} names a file, {DEFAULT_FILE} does not exist,"
            " and no variable such as CAMUNDA_CLIENT_ID, ZEEBE_CLIENT_ID or CAMUNDA_CONSOLE_CLIENT_ID is set",
            "let `camunda-sidecar init` write a file, or set Camunda's variables",
        )
    return convert(raw, model.Configuration, report, str)
