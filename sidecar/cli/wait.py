"""`camunda-sidecar wait`."""

from __future__ import annotations

from pathlib import Path

import click

from sidecar.cli.support import config_option, find_running, seconds
from sidecar.clock import BlockingClock
from sidecar.config.settings import Address
from sidecar.errors import SidecarError

INTERVAL = 0.1
"""Seconds between two questions: a start takes half a second, and asking costs the sidecar next to nothing."""


@click.command
@config_option
@click.option(
    "--timeout",
    "-t",
    type=seconds,
    default="30s",
    show_default=True,
    metavar="TIME",
    help="Give up after so long: seconds, or like 500ms, 2m.",
)
def command(config: Path | None, timeout: float) -> None:
    """Wait until a sidecar is ready, for scripts and start-up orders.

    Asks /readyz of admin.listen. Exit code 0 as soon as it is ready, 1 if it was not within --timeout.
    """
    address = find_running(config).admin_listen
    reason = until_ready(address, timeout)
    if reason is not None:
        click.echo(f"error: not ready after {timeout:g} s: {reason}", err=True)
        raise SystemExit(1)


def until_ready(address: Address, timeout: float, clock: BlockingClock | None = None) -> str | None:
    """None once it is ready; after `timeout` seconds, what the last answer was."""
    clock = clock or BlockingClock()
    deadline = clock.monotonic() + timeout
    while (reason := _missing(address, max(0.1, deadline - clock.monotonic()))) is not None:
        left = deadline - clock.monotonic()
        if left <= 0:
            return reason
        clock.sleep(min(INTERVAL, left))
    return None


def _missing(address: Address, timeout: float) -> str | None:
    from sidecar.admin.client import NotRunningError, get  # noqa: PLC0415 (after the arguments are known to be right)

    try:
        code, body = get(address, "/readyz", timeout=min(timeout, 5.0))
    except NotRunningError as error:
        return error.detail
    except SidecarError as error:
        return f"{error.detail} {error.hint}"
    return None if code == 200 else body.decode("utf-8", "replace").strip()  # noqa: PLR2004 (RFC 9110's OK)
