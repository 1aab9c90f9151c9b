"""`camunda-sidecar shutdown`."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable
from contextlib import suppress

import click

from sidecar.admin.client import get_status
from sidecar.cli.support import Locate, running_options, timeout_option
from sidecar.clock import BlockingClock
from sidecar.errors import SidecarError


class ShutdownError(SidecarError):
    """The sidecar could not be told to end, or did not."""


@click.command
@running_options
@timeout_option("How long to wait for its end", show_default="drain_delay, drain_timeout and 5 s")
def command(locate: Locate, timeout: float | None) -> None:
    """End a running sidecar and wait for its end.

    Its pid comes from the /status of its admin listener; it gets SIGTERM and drains: it goes on serving for
    drain_delay, and requests under way finish within drain_timeout. Exit code 0 when it has ended, 1 if it has not
    within --timeout or is not running.
    """
    status = get_status(locate())
    pid, patience = status.pid, status.drain + 5.0 if timeout is None else timeout
    if not end(pid, patience):
        raise ShutdownError(f"The sidecar (pid {pid}) has not ended within {patience:g} s; it is draining still.")
    click.echo(f"ended (pid {pid})")


def end(pid: int, timeout: float) -> bool:
    """Send SIGTERM, and return whether the process ended within `timeout` seconds.

    Raises:
        ShutdownError: the process is another user's, or not to be seen from here.
    """
    try:
        handle = os.pidfd_open(pid)  # from now on it cannot be mistaken for a later process of the same number
    except ProcessLookupError:
        raise ShutdownError(
            f"There is no process {pid} here: the sidecar runs in another container, so end it from there."
        ) from None
    except (OSError, AttributeError):
        return end_by_number(pid, timeout, BlockingClock())
    try:
        _signalled(lambda: signal.pidfd_send_signal(handle, signal.SIGTERM), pid)
        return bool(select.select([handle], [], [], timeout)[0])
    finally:
        os.close(handle)


def _signalled(send: Callable[[], None], pid: int) -> None:
    try:
        send()
    except ProcessLookupError:
        return  # it ended by itself in this moment
    except PermissionError:
        raise ShutdownError(f"The sidecar (pid {pid}) is another user's: run this as that user.") from None


def end_by_number(pid: int, timeout: float, clock: BlockingClock) -> bool:
    """Do what `end` does on a system without pidfd: a later process of the same number would be taken for it."""
    _signalled(lambda: os.kill(pid, signal.SIGTERM), pid)
    deadline = clock.monotonic() + timeout
    with suppress(ProcessLookupError):
        while clock.monotonic() < deadline:
            os.kill(pid, 0)
            clock.sleep(0.05)
        return False
    return True
