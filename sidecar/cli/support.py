"""What several commands need: their common options, and how they load the configuration."""

from __future__ import annotations

import functools
import io
import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from sidecar.clock import Clock
from sidecar.config import admin_address, load
from sidecar.config.environment import from_environment
from sidecar.config.report import BadValueError, Report
from sidecar.config.scalars import parse_duration
from sidecar.config.settings import Address, ClientCredentials, Credential, NoCredential, Route, Settings, Tls
from sidecar.config.urls import parse_listen
from sidecar.config.yaml_file import find, read
from sidecar.errors import Mistake, SidecarError

if TYPE_CHECKING:
    from sidecar.tokens.manager import TokenManager
    from sidecar.tokens.stores.base import SharedStore

AnyFunction = TypeVar("AnyFunction", bound=Callable[..., Any])
Locate = Callable[[], Address]
"""Says where a running sidecar can be asked. Raises SidecarError: nobody knows."""


CONFIG_HELP = (
    "The configuration; without it CAMUNDA_SIDECAR_CONFIG, /etc/camunda-sidecar/config.yaml, or Camunda's environment "
    "variables."
)


def seconds(text: str) -> float:
    """Read a duration in seconds, as a click type: a number, or as the configuration has it (`30`, `1.5`, `2m`)."""
    with suppress(ValueError):
        number = float(text)
        if 0.0 <= number < float("inf"):
            return number
    try:
        return parse_duration(text)
    except BadValueError:
        raise click.BadParameter(f"{text!r} is no time: write seconds, or like 500ms or 2m.") from None


def timeout_option(help_text: str, **more: Any) -> Callable[[AnyFunction], AnyFunction]:
    """Add `--timeout TIME`, as the parameter `timeout` in seconds."""
    text = f"{help_text}: seconds, or like 500ms, 2m."
    return click.option("--timeout", "-t", type=seconds, metavar="TIME", help=text, **more)


def config_option(function: AnyFunction) -> AnyFunction:
    """Add `--config FILE`, as the parameter `config: Path | None`."""
    return config_option_for(CONFIG_HELP)(function)


def config_option_for(help_text: str) -> Callable[[AnyFunction], AnyFunction]:
    """Add `--config FILE` with a help text of its own."""
    return click.option("--config", "-c", type=click.Path(path_type=Path), metavar="FILE", help=help_text)


def load_settings(
    config: Path | None, environ: Mapping[str, str] = os.environ, *, show_warnings: bool = True
) -> Settings:
    """Load the configuration, and write its warnings to standard error. Key and certificate files are read too.

    Raises:
        ConfigurationError: with every mistake; `main` prints them and exits with 2.
    """
    settings = load(config, environ, verify=_verify)
    if show_warnings:
        for warning in settings.warnings:
            click.echo(f"warning: {warning}", err=True)
    return settings


def route_named(settings: Settings, name: str) -> Route:
    """Return the route of this name.

    Raises:
        click.UsageError: there is none; it tells the others.
    """
    for route in settings.all_routes:
        if route.name == name:
            return route
    raise click.UsageError(
        f"There is no route {name}; there are: {', '.join(each.name for each in settings.all_routes)}."
    )


def complete_route(context: click.Context, _parameter: click.Parameter, beginning: str) -> list[str]:
    """Return the routes whose names begin so, for a shell; nobody need be able to read secrets for that."""
    with suppress(SidecarError):
        file = find(context.params.get("config"), os.environ)
        report = Report("")
        written = from_environment(os.environ, report) if file is None else read(file, report)
        routes = written.get("routes") if isinstance(written, dict) else None
        return [name for name in routes or () if isinstance(name, str) and name.startswith(beginning)]
    return []


@asynccontextmanager
async def shared_tokens(settings: Settings, clock: Clock) -> AsyncIterator[tuple[TokenManager, SharedStore]]:
    """Open the token store, and hand out tokens by the same rules as a running sidecar; nothing is logged meanwhile.

    What a log line would tell, the command tells by itself.
    """
    from sidecar.credentials.tls import client_context  # noqa: PLC0415
    from sidecar.telemetry.logs import configure_logging  # noqa: PLC0415 (slow to import, like all of these)
    from sidecar.tokens.manager import TokenManager  # noqa: PLC0415
    from sidecar.tokens.observer import TokenObserver  # noqa: PLC0415
    from sidecar.tokens.stores import build_store  # noqa: PLC0415

    configure_logging(settings.logging, io.StringIO())
    store = build_store(settings.token_store, clock, TokenObserver(), client_context, counted=False)
    manager = TokenManager(store, clock, settings.token_requests, settings.refresh, shared_only=True)
    await manager.start()
    try:
        yield manager, store
    finally:
        await manager.close()


def address(text: str) -> Address:
    """Read an address, as a click type: `HOST:PORT`, or `unix:` and a socket's path."""
    try:
        return parse_listen(text)
    except BadValueError as error:
        raise click.BadParameter(f"{text!r} {error.message}: {error.cure}.") from None


def running_options(function: AnyFunction) -> AnyFunction:
    """Add `--admin`, `--local` and `--config`, as the parameter `locate: Locate`."""

    @functools.wraps(function)
    def command(config: Path | None, admin: Address | None, local: bool, **others: Any) -> Any:
        if admin is not None and local:
            raise click.UsageError("--admin and --local each say which sidecar is meant: give one.")
        # Without either, a mistake in the configuration is told at once, and not only when somebody is asked.
        found = admin if admin is not None or local else admin_address(config, os.environ)
        return function(locate=_local_admin if found is None else lambda: found, **others)

    admin = click.option(
        "--admin",
        type=address,
        metavar="ADDRESS",
        help="The sidecar's admin listener, HOST:PORT or unix:PATH; also CAMUNDA_SIDECAR_ADMIN. No configuration is"
        " needed then.",
    )
    local = click.option(
        "--local", is_flag=True, help="The one sidecar that runs on this machine as this user, whatever it was given."
    )
    return config_option(admin(local(command)))  # type: ignore[return-value]


def _local_admin() -> Address:
    from sidecar.cli.local import only_sidecar  # noqa: PLC0415 (not needed where it is known)

    return only_sidecar().admin


def _verify(settings: Settings) -> Iterable[Mistake]:
    """Check keys, certificates, and what may stand in a header, which only the credentials' own code can judge.

    Where there are only clients' secrets, `load` has checked everything, and the slow import is saved.
    """
    if not any(map(_is_beyond_load, settings.credentials.values())) and all(
        route.tls == Tls() for route in settings.all_routes
    ):
        return ()
    from sidecar.clock import SystemClock  # noqa: PLC0415 (see above)
    from sidecar.credentials.build import check  # noqa: PLC0415

    return check(settings, SystemClock())


def _is_beyond_load(credential: Credential) -> bool:
    match credential:
        case ClientCredentials():
            return credential.tls != Tls() or credential.client_authentication not in {"body", "basic"}
        case NoCredential():
            return False
        case _:
            return True
