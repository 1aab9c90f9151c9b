"""`camunda-sidecar check`."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from sidecar.cli.support import config_option, load_settings
from sidecar.config import json_schema
from sidecar.config.settings import FileStore, Settings
from sidecar.errors import Mistake


@click.command("check")
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of YAML.")
@click.option("--quiet", "-q", is_flag=True, help="Print mistakes and warnings only.")
@click.option("--schema", is_flag=True, help="Print the configuration's JSON Schema (for editors), and check nothing.")
def command(config: Path | None, as_json: bool, quiet: bool, schema: bool) -> None:
    """Validate the configuration and print what it resolves to.

    Every default is filled in, every secret is masked, and secret and key files are read. Nothing is connected to:
    that is what `doctor` does. All mistakes are printed at once, each with its place and its cure.

    \b
    Exit code 0: valid (there may be warnings). 2: not valid; `run` would not start either.

    \b
    Examples:
      camunda-sidecar check
      camunda-sidecar check --config config.yaml --json | jq .routes
      camunda-sidecar check --schema > camunda-sidecar.schema.json
    """  # noqa: D301 (click's mark for a paragraph that is not rewrapped)
    if schema:
        click.echo(json.dumps(json_schema(), indent=2))
        return
    settings = load_settings(config)
    warnings = [*settings.warnings, *_store_warnings(settings)]
    for warning in warnings[len(settings.warnings) :]:
        click.echo(f"warning: {warning}", err=True)
    if quiet:
        return
    from sidecar.config.describe import describe  # noqa: PLC0415 (not needed for mistakes)

    described = describe(settings)
    if as_json:
        whole = {"source": settings.source, "warnings": [str(each) for each in warnings], "settings": described}
        click.echo(json.dumps(whole, indent=2))
        return
    click.echo(f"# {settings.source}: valid" + (f", {len(warnings)} warning(s)" if warnings else ""))
    click.echo(_yaml(described), nl=False)


def _store_warnings(settings: Settings) -> Iterator[Mistake]:
    """Tell of a directory that cannot be used. The sidecar works without it, and may run as another user."""
    if not isinstance(settings.token_store, FileStore):
        return
    directory = settings.token_store.directory
    place = next(path for path in (directory, *directory.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=place):  # root may write everywhere, and cannot below /proc
            pass
    except OSError:
        yield Mistake(
            settings.source,
            "token_store.directory",
            f"is {directory}, which this user cannot {'write to' if place == directory else 'make'}: tokens and budgets"
            " would be each process's own",
            "name a directory that the sidecar's user may write to",
        )


def _yaml(value: dict[str, Any]) -> str:
    import yaml  # noqa: PLC0415 (likewise)

    return str(yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=120))
