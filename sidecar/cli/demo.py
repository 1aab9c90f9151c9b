"""`camunda-sidecar demo`."""

from __future__ import annotations

import asyncio

import click


@click.command
@click.option("--once", is_flag=True, help="End after the table, with exit code 1 if a request was not served.")
@click.option("--requests", type=click.IntRange(1, 100_000), default=400, show_default=True, help="How many in all.")
@click.option("--clients", type=click.IntRange(1, 200), default=8, show_default=True, help="How many at once.")
@click.option(
    "--port",
    type=click.IntRange(0, 65534),
    default=8600,
    show_default=True,
    help="The sidecar's, the next one its admin listener's; any free ones where these are taken, or with 0.",
)
def command(*, once: bool, requests: int, clients: int, port: int) -> None:
    """Run a whole working setup on this machine, with an embedded Camunda stand-in: no account needed.

    Starts the stand-in (an issuer that allows one token request a second, and Camunda's APIs) and a sidecar on it,
    sends requests without credentials from several clients at once, and prints what was served and what it cost.
    Both stay up for you to try with curl until Ctrl-C; nothing of it remains then.
    """
    from sidecar.demo.scenario import run_demo  # noqa: PLC0415 (aiohttp's import is slow)

    raise SystemExit(asyncio.run(run_demo(requests=requests, clients=clients, port=port, once=once)))
