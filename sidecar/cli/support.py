"""What commands share: `--config`, and loading what it names."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import click

from sidecar.config import Running, load, running
from sidecar.config.leaves import parse_duration
from sidecar.config.report import BadValueError
from sidecar.config.settings import ClientCredentials, Credential, NoCredential, Settings, Tls
from sidecar.errors import Mistake

AnyFunction = TypeVar("AnyFunction", bound=Callable[..., Any])


CONFIG_HELP = (
    "The configuration; without it CAMUNDA_SIDECAR_CONFIG, /etc/camunda-sidecar/config.yaml, or Camunda's environment "
    "variables."
)


def seconds(text: str) -> float:
    """A click type: a plain number of seconds, or a duration as the configuration has them: `30`, `1.5`, `2m`."""
    with suppress(ValueError):
        number = float(text)
        if 0.0 <= number < float("inf"):
            return number
    try:
        return parse_duration(text)
    except BadValueError:
        raise click.BadParameter(f"{text!r} is no time: write seconds, or like 500ms or 2m.") from None


def config_option(function: AnyFunction) -> AnyFunction:
    """`--config FILE`, as the parameter `config: Path | None`."""
    return config_option_for(CONFIG_HELP)(function)


def config_option_for(help_text: str) -> Callable[[AnyFunction], AnyFunction]:
    """The same, where the file is used in another way."""
    return click.option("--config", "-c", type=click.Path(path_type=Path), metavar="FILE", help=help_text)


def load_settings(config: Path | None, *, show_warnings: bool = True) -> Settings:
    """Load with this process's environment, key and certificate files included; warnings go to standard error.

    Raises:
        ConfigurationError: with every mistake; `main` prints them and exits with 2.
    """
    settings = load(config, os.environ, verify=_verify)
    if show_warnings:
        for warning in settings.warnings:
            click.echo(f"warning: {warning}", err=True)
    return settings


def find_running(config: Path | None) -> Running:
    """Where a running sidecar of this configuration can be asked; no secret is read for it.

    Raises:
        ConfigurationError: the file cannot be read, or `admin.listen`, `drain_delay` or `drain_timeout` is wrong.
    """
    return running(config, os.environ)


def _verify(settings: Settings) -> Iterable[Mistake]:
    """What only the credentials' own code can tell: keys, certificates, what may stand in a header.

    Where there are only clients' secrets, `load` has seen all there is, and the slow import is spared.
    """
    if not any(map(_is_beyond_load, settings.credentials.values())) and all(
        route.tls == Tls() for route in settings.routes
    ):
        return ()
    from sidecar.clock import SystemClock  # noqa: PLC0415 (see above)
    from sidecar.credentials.build import check  # noqa: PLC0415

    return check(settings, SystemClock())


def _is_beyond_load(credential: Credential) -> bool:
    match credential:
        case ClientCredentials():
            return credential.tls != Tls() or credential.client_authentication not in {"body", "basic"}
        case NoCredential():
            return False
        case _:
            return True
