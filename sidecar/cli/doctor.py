"""`camunda-sidecar doctor`."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import shutil
import textwrap
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sidecar.cli.support import complete_route, config_option, load_settings, route_named, shared_tokens
from sidecar.clock import Clock, SystemClock
from sidecar.config.settings import MemoryStore, Route, Settings
from sidecar.errors import SidecarError

if TYPE_CHECKING:
    from sidecar.credentials.build import IssuerSource
    from sidecar.credentials.doctor import Finding
    from sidecar.tokens.grant import Grant

Held = frozenset[tuple[str, str]]
"""Credentials and audiences."""

COLORS = {"ok": "green", "failed": "red", "skipped": "yellow"}
GOOD = {"fresh", "stale"}
CHECK_WIDTH, RESULT_WIDTH = 10, 8


@click.command
@click.argument("routes", nargs=-1, metavar="[ROUTE]...", shell_complete=complete_route)
@click.option("--json", "as_json", is_flag=True, help="Print a list of JSON objects instead of a table.")
@click.option("--ask-issuer", is_flag=True, help="Ask the issuer even for what a running sidecar has a token for.")
@config_option
def command(config: Path | None, routes: tuple[str, ...], as_json: bool, ask_issuer: bool) -> None:
    """Check the token store, and DNS, TLS, issuer, audience and upstream of every ROUTE (all, where none is named).

    Where a sidecar runs, what it has a good token for is not asked for again: the token is taken from the shared store.
    Any other credential asks its issuer once for each audience, within the host's shared budget and whatever is cached
    or in quarantine; a grant is saved for every process on the host, and ends the quarantine. While the token store
    cannot be written to, the shared budget is not known, and no issuer is asked. Each upstream gets one GET that
    changes nothing.

    \b
    Exit codes: 0 everything works; 1 something does not; 2 wrong usage or configuration.

    \b
    Examples:
      camunda-sidecar doctor
      camunda-sidecar doctor optimize --json
    """  # noqa: D301 (click's mark for a paragraph that is not rewrapped)
    settings = load_settings(config)
    chosen = [route_named(settings, name) for name in routes] or list(settings.all_routes)
    held = frozenset() if ask_issuer else _held(settings)
    findings = asyncio.run(_examine(settings, chosen, held, show=not as_json))
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(finding) for finding in findings], indent=2))
    failed = sum(finding.result == "failed" for finding in findings)
    if not as_json:
        click.echo(f"\n{failed} of {len(findings)} checks failed." if failed else "\nEverything works.")
    if failed:
        raise SystemExit(1)


def _held(settings: Settings) -> Held:
    """Return for which credentials and audiences the running sidecar has a good token; nothing where none runs."""
    from sidecar.admin.client import get_status  # noqa: PLC0415 (only for this)

    with suppress(SidecarError):
        tokens = get_status(settings.admin.listen, timeout=2.0).tokens
        return frozenset(
            (each.credential, each.audience or "") for each in tokens if each.state in GOOD and not each.refused
        )
    return frozenset()


async def _examine(settings: Settings, routes: list[Route], held: Held, *, show: bool) -> list[Finding]:
    findings: list[Finding] = []
    async for finding in _findings(settings, routes, held, SystemClock()):
        if show:
            for line in _lines(finding, findings[-1].subject if findings else None):
                click.echo(line)
        findings.append(finding)
    return findings


async def _findings(settings: Settings, routes: list[Route], held: Held, clock: Clock) -> AsyncIterator[Finding]:
    """Examine the token store, then all that the routes need. Where the store cannot be written, no issuer is asked."""
    from sidecar.credentials.build import build  # noqa: PLC0415 (aiohttp is slow to import)
    from sidecar.credentials.doctor import Doctor, Finding  # noqa: PLC0415

    async with shared_tokens(settings, clock) as (tokens, store):
        if store.fault is not None:
            yield Finding("token store", "store", "failed", store.fault.reason)
        elif not isinstance(settings.token_store, MemoryStore):
            yield Finding("token store", "store", "ok", "can be read and written")

        async def stored(source: IssuerSource, route: Route) -> Grant | None:
            if (route.credential, route.audience or "") not in held or store.fault is not None:
                return None
            return await tokens.stored(source)

        async for finding in Doctor(build(settings, clock), tokens.fetch_now, clock, stored).run(routes):
            yield finding


def _lines(finding: Finding, previous: str | None) -> Iterator[str]:
    """Return one row of the table, after its subject where the previous row has another one."""
    if finding.subject != previous:
        if previous is not None:
            yield ""
        yield click.style(finding.subject, bold=True)
    width = max(40, shutil.get_terminal_size((120, 24)).columns)
    indent = " " * (2 + CHECK_WIDTH + RESULT_WIDTH)
    first, *rest = textwrap.wrap(finding.detail, width - len(indent), break_on_hyphens=False) or [""]
    result = finding.result.upper() if finding.result == "failed" else finding.result
    mark = click.style(f"{result:{RESULT_WIDTH}}", fg=COLORS[finding.result])
    yield f"  {finding.check:{CHECK_WIDTH}}{mark}{first}"
    for line in rest:
        yield indent + line
