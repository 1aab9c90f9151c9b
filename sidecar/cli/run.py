"""`camunda-sidecar run`."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import click

from sidecar.cli.support import address, config_option, load_settings
from sidecar.config.settings import Address
from sidecar.errors import ListenError, SidecarError

MAX_WORKERS = 64
_NEVER = 1 << 30


@click.command
@config_option
@click.option(
    "--listen",
    type=address,
    metavar="ADDRESS",
    help="Where clients come, HOST:PORT or unix:PATH; before CAMUNDA_SIDECAR_LISTEN and the configuration's listen.",
)
@click.option(
    "--admin-listen",
    type=address,
    metavar="ADDRESS",
    help="Where operators come; before CAMUNDA_SIDECAR_ADMIN and the configuration's admin.listen.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, MAX_WORKERS),
    metavar="N",
    default=1,
    show_default=True,
    help=f"Processes that serve together, on one core each; at most {MAX_WORKERS}. They share tokens through the token "
    "store, so it must be file or redis.",
)
def command(config: Path | None, listen: Address | None, admin_listen: Address | None, workers: int) -> None:
    """Serve: forward requests, with credentials attached, until SIGTERM.

    SIGTERM and SIGINT drain: readiness fails, it goes on serving for drain_delay, requests under way finish within
    drain_timeout, the exit code is 0; a second one ends at once. SIGHUP reloads the configuration; an invalid one
    leaves the old one in force. Changed secret files are noticed by themselves. No token is requested until a request
    needs one.
    """
    with _importing():
        # Only here: every other command starts without the data plane's imports.
        from sidecar.clock import SystemClock  # noqa: PLC0415
        from sidecar.listeners import Listeners, bound  # noqa: PLC0415
        from sidecar.service import Service  # noqa: PLC0415
        from sidecar.telemetry.logs import configure_logging, install_hooks, start_writer  # noqa: PLC0415

    given = {"CAMUNDA_SIDECAR_LISTEN": listen, "CAMUNDA_SIDECAR_ADMIN": admin_listen}
    environ = {**os.environ, **{name: str(value) for name, value in given.items() if value is not None}}
    load = partial(load_settings, config, environ, show_warnings=False)
    settings = load()
    configure_logging(settings.logging)
    install_hooks()

    async def serve(listeners: Listeners) -> None:
        await Service(settings, load, SystemClock(), listeners).run()

    try:
        if workers > 1:
            from sidecar.workers.supervisor import Supervisor  # noqa: PLC0415 (nothing of it for one process)

            sys.exit(Supervisor(settings, load, workers, SystemClock(), loop_factory()).run())
        start_writer()
        with bound(settings) as [listeners], asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(serve(listeners))
    except ListenError as error:
        raise ListenError(error.detail + _holder(error.taken, settings.admin.listen)) from None


def _holder(taken: str, admin: Address) -> str:
    """Return a sentence on the sidecar that listens on the address, or nothing where it is another program."""
    from sidecar.admin.client import get_status  # noqa: PLC0415 (only for this)
    from sidecar.cli.local import local_sidecars  # noqa: PLC0415

    for candidate in (admin, *(each.admin for each in local_sidecars())) if taken else ():
        with suppress(SidecarError):
            status = get_status(candidate, timeout=1.0)
            if taken in {status.listen, status.admin}:
                return f" The camunda-sidecar with pid {status.pid}, configuration {status.configuration}, has it."
    return ""


@contextmanager
def _importing() -> Iterator[None]:
    """What is imported stays for good, so the collector need not look at all of it, which takes 30 ms of the start."""
    usual = gc.get_threshold()
    gc.set_threshold(*usual[:2], _NEVER)  # the young are looked at: making classes leaves half a megabyte of garbage
    try:
        yield
    finally:
        gc.freeze()
        gc.set_threshold(*usual)


def loop_factory() -> type[asyncio.AbstractEventLoop] | None:
    """The event loop of uvloop, or None for asyncio's own where uvloop does not exist."""
    try:
        import uvloop  # noqa: PLC0415
    except ImportError:
        return None
    return uvloop.Loop
