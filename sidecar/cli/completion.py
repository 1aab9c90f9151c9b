"""`camunda-sidecar completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print what makes SHELL complete commands, options and the names of routes.

    \b
    Examples:
      source <(camunda-sidecar completion bash)             in ~/.bashrc; zsh: in ~/.zshrc
      camunda-sidecar completion fish | source              in ~/.config/fish/config.fish
    """  # noqa: D301 (click's mark for a paragraph that is not rewrapped)
    from sidecar.cli import main  # noqa: PLC0415 (which imports this module's siblings by their names)

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(main, {}, "camunda-sidecar", "_CAMUNDA_SIDECAR_COMPLETE").source())
