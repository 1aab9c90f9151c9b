"""`camunda-sidecar wait`."""

from __future__ import annotations

import click

from sidecar.cli.support import Locate, running_options, timeout_option
from sidecar.clock import BlockingClock
from sidecar.errors import SidecarError

INTERVAL = 0.1
"""Seconds between two questions: a start takes half a second, and asking costs the sidecar next to nothing."""


@click.command
@running_options
@timeout_option("Give up after so long", default="30s", show_default=True)
def command(locate: Locate, timeout: float) -> None:
    """Wait until a sidecar is ready, for scripts and start-up orders.

    Asks /readyz of its admin listener. Exit code 0 as soon as it is ready, 1 if it was not within --timeout.
    """
    reason = until_ready(locate, timeout)
    if reason is not None:
        click.echo(f"error: not ready after {timeout:g} s: {reason}", err=True)
        raise SystemExit(1)


def until_ready(locate: Locate, timeout: float, clock: BlockingClock | None = None) -> str | None:
    """Wait until the sidecar is ready and return None, or after `timeout` seconds what the last answer was."""
    clock = clock or BlockingClock()
    deadline = clock.monotonic() + timeout
    while (reason := _missing(locate, max(0.1, deadline - clock.monotonic()))) is not None:
        left = deadline - clock.monotonic()
        if left <= 0:
            return reason
        clock.sleep(min(INTERVAL, left))
    return None


def _missing(locate: Locate, timeout: float) -> str | None:
    from sidecar.admin.client import NotRunningError, get  # noqa: PLC0415 (after the arguments are known to be right)

    try:
        code, body = get(locate(), "/readyz", timeout=min(timeout, 5.0))
    except NotRunningError as error:
        return error.detail
    except SidecarError as error:
        return f"{error.detail} {error.hint}"
    return None if code == 200 else body.decode("utf-8", "replace").strip()  # noqa: PLR2004 (RFC 9110's OK)
