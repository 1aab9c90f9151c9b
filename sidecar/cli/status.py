"""`camunda-sidecar status`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress

import click
import msgspec

from sidecar.admin.client import get_status
from sidecar.admin.status_model import IssuerStatus, Status, TokenStatus
from sidecar.cli.support import Locate, running_options
from sidecar.clock import BlockingClock, duration
from sidecar.errors import SidecarError

COLOURS = {"fresh": "green", "stale": "yellow", "expired": "yellow", "quarantined": "red"}
WATCH_SECONDS = 1.0
SEVERITIES = {"warning": "yellow", "critical": "red"}


@click.command
@running_options
@click.option("--json", "as_json", is_flag=True, help="Everything, as JSON.")
@click.option("--check", is_flag=True, help="Exit code 1 while there are problems.")
@click.option("--watch", is_flag=True, help="Again every second, until Ctrl-C; with --json, one line each time.")
@click.pass_context
def command(context: click.Context, locate: Locate, *, as_json: bool, check: bool, watch: bool) -> None:
    """Show a running sidecar's problems, tokens, budget and routes; never a token's value.

    Asks /status of its admin listener. Exit code 1 if no sidecar answers there.
    """
    if watch and check:
        raise click.UsageError("--check tells the moment's state by the exit code, and --watch goes on: give one.")
    if watch:
        with suppress(KeyboardInterrupt):
            _watch(locate, as_json=as_json)
        return
    status = get_status(locate())
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(status)).decode())
    else:
        click.echo("\n".join(render(status)))
    if check and status.problems:
        context.exit(1)


def _watch(locate: Locate, *, as_json: bool) -> None:
    """Show it again and again; a sidecar that does not answer may come back, and a person sees both."""
    while True:
        try:
            status = get_status(locate())
            text = msgspec.json.encode(status).decode() if as_json else "\n".join(render(status))
        except SidecarError as error:
            if as_json:
                raise
            text = click.style(error.detail, fg="red")
        click.clear()  # on a terminal alone
        click.echo(text if as_json else f"{text}\n")
        BlockingClock.sleep(WATCH_SECONDS)


def render(status: Status) -> Iterator[str]:
    """Return the lines for a person, problems first."""
    now = status.started_at + status.uptime
    for problem in status.problems:
        yield f"{click.style(problem.severity, fg=SEVERITIES[problem.severity])}: {problem.what}"
        yield f"  for {duration(now - problem.since)}, code {problem.code}. {problem.cure}"
    worst = SEVERITIES[status.problems[0].severity] if status.problems else "green"
    state = click.style("ready" if status.ready else status.reason or "not ready", fg=worst)
    workers = f", {status.workers - status.workers_missing} of {status.workers} workers" if status.workers > 1 else ""
    yield f"camunda-sidecar {status.version}, {state}, up {duration(status.uptime)}, pid {status.pid}{workers}"
    yield f"listens on {status.listen}, configuration {status.configuration}"
    yield ""
    yield from table(
        ("ROUTE", "UPSTREAM", "CREDENTIAL", "IN FLIGHT", "ANSWERED", "OWN ERRORS"),
        [
            (route.prefix, route.upstream, route.credential, *map(str, (route.in_flight, route.requests, route.errors)))
            for route in status.routes
        ],
    )
    yield ""
    yield from table(
        ("TOKEN", "CREDENTIAL", "STATE", "FOR", "ROUTES"),
        [
            (token.audience or "-", token.credential, _state(token), _life(token, now), ", ".join(token.routes) or "-")
            for token in status.tokens
        ],
    )
    yield from (f"  {token.audience or token.credential}: {token.detail}" for token in status.tokens if token.detail)
    yield ""
    yield from table(
        ("ISSUER", "ONE REQUEST IN", "REQUESTS", "STATE"),
        [
            (issuer.issuer, f"{issuer.min_interval:g} s", str(issuer.requests), _cooling(issuer, now))
            for issuer in status.issuers
        ],
    )
    store = status.store
    up = click.style("up", fg="green") if store.up else click.style("down", fg="red")
    yield f"token store: {store.type} {store.location}".rstrip() + f", {up}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Return aligned columns, each as wide as its widest cell without colours."""
    if not rows:
        return
    lines = [tuple(click.style(cell, bold=True) for cell in head), *rows]
    widths = [max(len(click.unstyle(line[column])) for line in lines) for column in range(len(head))]
    for line in lines:
        cells = (cell + " " * (width - len(click.unstyle(cell))) for cell, width in zip(line, widths, strict=True))
        yield "  ".join(cells).rstrip()


def _state(token: TokenStatus) -> str:
    return click.style(token.state, fg=COLOURS.get(token.state))


def _life(token: TokenStatus, now: float) -> str:
    if token.quarantined_until is not None and token.quarantined_until > now:
        return f"asked again in {duration(token.quarantined_until - now)}"
    return "-" if token.expires_at is None else duration(token.expires_at - now)


def _cooling(issuer: IssuerStatus, now: float) -> str:
    until = issuer.cooldown_until
    return "ready" if until is None or until <= now else f"cooling down for {duration(until - now)}"
