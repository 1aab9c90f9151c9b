"""`camunda-sidecar token`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sidecar.cli.support import complete_route, config_option, load_settings, route_named, shared_tokens
from sidecar.clock import Clock, SystemClock
from sidecar.config.settings import Basic, NoCredential, Route, SessionLogin, Settings
from sidecar.errors import CredentialRejectedError, Problem, SidecarError

if TYPE_CHECKING:
    from sidecar.proxy.authorizer import Authorizer
    from sidecar.tokens.manager import TokenManager

BEARER = b"Authorization: Bearer "


class NoTokenError(SidecarError):
    """There is no token to be had."""


@click.command
@click.argument("route", shell_complete=complete_route)
@config_option
def command(config: Path | None, route: str) -> None:
    """Print a token for ROUTE, and nothing else, on standard output.

    It comes from the shared cache, and is asked for only where there is none: by the same rules, budget and quarantine
    as a running sidecar's. Only for credentials that are tokens: client_credentials and static_token.

    \b
    Exit codes: 0 printed; 1 no token to be had (standard error says why); 2 wrong usage or configuration.

    \b
    Example:
      curl -H "Authorization: Bearer $(camunda-sidecar token operate)" https://…/v1/process-definitions/1
    """  # noqa: D301 (click's mark for a paragraph that is not rewrapped)
    settings = load_settings(config)
    found = route_named(settings, route)
    if isinstance(settings.credentials[found.credential], SessionLogin | Basic | NoCredential):
        raise click.UsageError(f"Route {route} has no token: its credential {found.credential} is of another type.")
    click.echo(asyncio.run(_token(settings, found, SystemClock())))


async def _token(settings: Settings, route: Route, clock: Clock) -> str:
    """Return the token without its scheme.

    Raises:
        NoTokenError: why there is none, and what to do, as `doctor` says it.
    """
    from sidecar.credentials.build import build  # noqa: PLC0415 (aiohttp is slow to import)

    credentials = build(settings, clock)
    async with shared_tokens(settings, clock) as (manager, _):
        try:
            if (source := credentials.sources.get(route.name)) is None:
                authorizer: Authorizer = credentials.authorizers[route.name]
            else:
                authorizer = manager.authorizer(source, credential=route.credential, audience=route.audience)
            return (await authorizer.obtain()).header.removeprefix(BEARER).strip().decode("ascii")
        except Problem as problem:
            raise NoTokenError(_reason(problem, manager)) from None


def _reason(problem: Problem, manager: TokenManager) -> str:
    """Return what the issuer said and the cure, where it was asked now or is known to have refused."""
    details = [each.detail for each in manager.snapshot().tokens if each.detail]
    if not details:
        return problem.detail
    if isinstance(problem, CredentialRejectedError) and problem.retry_after is not None:
        return f"{details[0]} It is asked again in {problem.retry_after:.0f} s at the earliest."
    return details[0]
