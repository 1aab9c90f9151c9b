"""The commands. Each has a file, which is imported only when it is used, so that starting and `--help` are fast."""

from __future__ import annotations

import importlib
import io
import os
import sys
from typing import Any

import click

from sidecar import __version__, build
from sidecar.errors import ConfigurationError, SidecarError

COMMANDS = {
    "run": "Serve: forward requests, with credentials attached, until SIGTERM.",
    "check": "Validate the configuration and print what it resolves to.",
    "explain": "Say which route, credential, audience and policy a request meets.",
    "doctor": "Try DNS, TLS, issuer, audience and upstream; each failure with its cure.",
    "token": "Print a route's token, from the shared cache.",
    "status": "Show a running sidecar's tokens, budget and routes.",
    "init": "Write a configuration from the environment or the Console's credentials file.",
    "wait": "Wait until a sidecar is ready.",
    "shutdown": "End a running sidecar and wait for its end.",
    "completion": "Print a shell's completion of commands, options and route names.",
    "demo": "Run a whole working setup on this machine, Camunda stand-in included.",
}
"""Each in `sidecar.cli.<name>`, where the click command is called `command`; here with its line in `--help`."""

EPILOG = """\
\b
Configuration, the first that is found:
  1. --config FILE
  2. the file that CAMUNDA_SIDECAR_CONFIG names
  3. /etc/camunda-sidecar/config.yaml
  4. Camunda's own environment variables: ZEEBE_CLIENT_ID, ZEEBE_CLIENT_SECRET,
     CAMUNDA_OPERATE_BASE_URL, CAMUNDA_CONSOLE_CLIENT_ID, …

\b
Exit codes: 0 done; 1 failed; 2 wrong usage or configuration.

\b
Begin with:
  camunda-sidecar demo                                  see it work, no account needed
  camunda-sidecar init credentials.txt                  from the file that the Console lets you download
  camunda-sidecar run --config camunda-sidecar.yaml     which is what init wrote
"""


class LazyCommand(click.Command):
    """It stands for a command whose module is imported when it is used."""

    def make_context(self, info_name: str | None, args: list[str], *rest: Any, **extra: Any) -> click.Context:
        """Return a context of the command itself, which click goes on with."""
        command = importlib.import_module(f"sidecar.cli.{self.name}").command
        assert isinstance(command, click.Command)
        return command.make_context(info_name, args, *rest, **extra)


class CommandGroup(click.Group):
    """It turns the program's own errors into messages and exit codes."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run a command. A terminal or a pipe that is not UTF-8 gets escapes, and no traceback."""
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")
        return super().main(*args, **kwargs)

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Return the names of all commands, in the order of COMMANDS."""
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. A wrong configuration is exit code 2 and any other foreseen error 1, without a traceback."""
        try:
            return super().invoke(ctx)
        except ConfigurationError as error:
            for mistake in error.mistakes:
                click.echo(f"error: {mistake}", err=True)
            ctx.exit(2)
        except SidecarError as error:
            click.echo(f"error: {error.detail}" + (f" ({error.hint})" if error.hint else ""), err=True)
            ctx.exit(1)


@click.group(
    cls=CommandGroup,
    commands={name: LazyCommand(name, short_help=text) for name, text in COMMANDS.items()},
    epilog=EPILOG,
    # By itself, click colours what goes to a terminal, and nothing else.
    context_settings={"help_option_names": ["-h", "--help"], "color": False if os.environ.get("NO_COLOR") else None},
)
@click.version_option(f"{__version__} ({build.kind()})", prog_name="camunda-sidecar", message="%(prog)s %(version)s")
def main() -> None:
    """Plain HTTP in, authorized traffic to Camunda 8 out.

    Programs on this host call http://127.0.0.1:8600/operate/… (and optimize, tasklist, zeebe, console, hub, modeler)
    with no credentials; the sidecar holds them, keeps one token per audience for the whole host, and never asks the
    login service more often than it allows.
    """
