"""`camunda-sidecar init`."""

from __future__ import annotations

import os
import shlex
import tempfile
from pathlib import Path
from typing import BinaryIO

import click

from sidecar.cli.support import config_option_for
from sidecar.config import load
from sidecar.config.credentials_file import decode, read_credentials
from sidecar.config.report import ENVIRONMENT, Report
from sidecar.config.scaffold import Scaffold, scaffold
from sidecar.config.settings import Settings
from sidecar.config.yaml_file import VARIABLE, find
from sidecar.errors import ConfigurationError, Mistake

DEFAULT_OUTPUT = "camunda-sidecar.yaml"


@click.command("init")
@click.argument("credentials", required=False, type=click.File("rb"), metavar="[CREDENTIALS_FILE]")
@config_option_for("Where to write; without it CAMUNDA_SIDECAR_CONFIG, else ./camunda-sidecar.yaml.")
@click.option("--force", is_flag=True, help="Overwrite what is there.")
def command(credentials: BinaryIO | None, config: Path | None, force: bool) -> None:
    """Write a configuration from the environment, or from the credentials file that the Camunda Console offers.

    With CREDENTIALS_FILE (shell, .env, Spring properties or Spring YAML; - is standard input), secrets go into files
    beside the configuration that only you can read. Without it, Camunda's variables are taken from the environment,
    and stay there: the configuration refers to them as ${NAME}.

    What is made is loaded before anything is written, and nothing is overwritten without --force. The commands to go
    on with are printed: only /etc/camunda-sidecar/config.yaml and CAMUNDA_SIDECAR_CONFIG are found without --config.

    \b
    Examples:
      camunda-sidecar init ~/Downloads/CamundaCloudMgmtAPI-Client.txt
      camunda-sidecar init --config /etc/camunda-sidecar/config.yaml
    """  # noqa: D301 (click's mark for a paragraph that is not rewrapped)
    output = (config or Path(os.environ.get(VARIABLE) or DEFAULT_OUTPUT)).absolute()
    report = Report(ENVIRONMENT if credentials is None else getattr(credentials, "name", "standard input"))
    variables = os.environ if credentials is None else read_credentials(decode(credentials.read(), report), report)
    report.finish()
    made = scaffold(variables, report, references=credentials is None)
    for warning in report.warnings:
        click.echo(f"warning: {warning}", err=True)
    _refuse_overwriting(output, made, force=force)
    settings = _write(output, made)
    click.echo(f"Wrote {output}" + (f", with the routes {_names(settings)}." if settings.all_routes else "."))
    for name in made.secrets:
        click.echo(f"Wrote {output.parent / name} (a secret; readable by you alone).")
    option = "" if find(None, os.environ) == output else f" --config {shlex.quote(str(output))}"
    click.echo(f"Next: camunda-sidecar check{option} && camunda-sidecar run{option}")


def _names(settings: Settings) -> str:
    return ", ".join(route.name for route in settings.all_routes)


def _refuse_overwriting(output: Path, made: Scaffold, *, force: bool) -> None:
    existing = [path for path in (output, *(output.parent / name for name in made.secrets)) if os.path.lexists(path)]
    if existing and not force:
        raise click.UsageError(f"{existing[0]} is there already; --force overwrites it, --config writes elsewhere.")


def _write(output: Path, made: Scaffold) -> Settings:
    """Write all files or none: they are written beside their place, loaded from there, and then moved.

    Raises:
        ConfigurationError: what was found makes no valid configuration.
        click.ClickException: the directory cannot be written.
    """
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=output.parent, prefix=".camunda-sidecar-init-") as name:
            directory = Path(name)
            for file, secret in made.secrets.items():
                _create(directory / file, secret + "\n", 0o600)
            _create(directory / output.name, made.text, 0o644)
            settings = _load(directory / output.name, output)
            for file in (*made.secrets, output.name):
                (directory / file).replace(output.parent / file)
    except OSError as error:
        raise click.ClickException(f"{output.parent} cannot be written: {error.strerror}.") from None
    return settings


def _create(path: Path, text: str, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)


def _load(file: Path, output: Path) -> Settings:
    try:
        return load(file, os.environ)
    except ConfigurationError as error:
        raise ConfigurationError(
            [Mistake(f"{output} (not written)", each.path, each.message, each.cure) for each in error.mistakes]
        ) from None
