"""What commands share: `--config`, and loading what it names."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from sidecar.config import load
from sidecar.config.settings import Settings

AnyFunction = TypeVar("AnyFunction", bound=Callable[..., Any])


def config_option(function: AnyFunction) -> AnyFunction:
    """`--config FILE`, as the parameter `config: Path | None`."""
    return click.option(
        "--config",
        "-c",
        type=click.Path(path_type=Path, dir_okay=True),
        metavar="FILE",
        help="The configuration; without it CAMUNDA_SIDECAR_CONFIG, /etc/camunda-sidecar/config.yaml, or Camunda's "
        "environment variables.",
    )(function)


def load_settings(config: Path | None, *, show_warnings: bool = True) -> Settings:
    """Load with this process's environment; warnings go to standard error.

    Raises:
        ConfigurationError: with every mistake; `main` prints them and exits with 2.
    """
    settings = load(config, os.environ)
    if show_warnings:
        for warning in settings.warnings:
            click.echo(f"warning: {warning}", err=True)
    return settings
