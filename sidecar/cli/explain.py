"""`camunda-sidecar explain`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path

import click

from sidecar.cli.support import config_option, load_settings
from sidecar.config.describe import without_password
from sidecar.config.scalars import show_duration
from sidecar.config.settings import (
    TOKEN_ENDPOINT,
    Basic,
    ClientCredentials,
    Credential,
    NoCredential,
    Route,
    Rule,
    SessionLogin,
    Settings,
    StaticToken,
)
from sidecar.errors import ForbiddenByPolicyError, NoRouteError, Problem
from sidecar.proxy import h1
from sidecar.proxy.clients import Clients
from sidecar.proxy.guard import guard_of
from sidecar.proxy.policy import RuleSet
from sidecar.proxy.target import host_name, match_prefix, parse


@click.command("explain")
@click.argument("method")
@click.argument("path")
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(method: str, path: str, config: Path | None, as_json: bool) -> None:
    """Say which route, credential, audience, upstream URL and policy a request meets.

    PATH is the path as a client sends it, prefix and query included, or a whole URL. Nothing is sent anywhere. The
    exit code is 1 where the request would be refused.

    \b
    Examples:
      camunda-sidecar explain GET /operate/v1/process-instances/1
      camunda-sidecar explain POST '/optimize/api/public/export?limit=1'
    """  # noqa: D301 (click's mark for a paragraph that is not rewrapped)
    settings = load_settings(config, show_warnings=False)
    lines = explain(settings, method.upper(), path)
    if as_json:
        click.echo(json.dumps(lines, indent=2))
    else:
        click.echo(f"{method.upper()} {path}")
        for name, value in lines.items():
            click.echo(f"  {name:<11} {value}")
    if "outcome" in lines:
        sys.exit(1)


def explain(settings: Settings, method: str, path: str) -> dict[str, str]:
    """Return what there is to say of one request, in order. The data plane's own functions decide.

    A request that would be refused has an `outcome`.
    """
    lines: dict[str, str] = {}
    try:
        _explain(settings, method, path, lines)
    except Problem as problem:
        return {"outcome": f"refused: {problem.status} {problem.code}", "why": problem.detail, **lines}
    return lines


def _explain(settings: Settings, method: str, path: str, lines: dict[str, str]) -> None:
    """Fill `lines` as far as the request comes.

    Raises:
        Problem: it comes no further.
    """
    verb, asked, *_ = h1.request_line(f"{method} {path} HTTP/1.1".encode(errors="surrogateescape"))
    whole, query, authority = parse(asked)
    if authority is not None:
        refusal = guard_of(settings).refusal(host_name(authority) or b"", authority, {})
        if refusal is not None and refusal[0] == "host":
            raise refusal[1]
    if settings.token_endpoint is not None and whole == settings.token_endpoint.path.encode():
        lines["route"] = f"{TOKEN_ENDPOINT}: the sidecar answers it itself"
        return
    routes = sorted(settings.routes.values(), key=lambda route: -len(route.prefix))
    prefixes = [(route.prefix.rstrip("/").encode(), route) for route in routes]
    found = match_prefix(whole, prefixes)
    if found is None:
        known = ", ".join(route.prefix for route in settings.routes.values())
        raise NoRouteError(f"No route has a prefix of this path; there are: {known}.")
    rest, route = found
    lines["route"] = f"{route.name} (prefix {route.prefix})"
    public = _first(route.public or (), verb, rest)
    allowed = _first(route.allow or (), verb, rest)
    if route.allow is not None and public is None and allowed is None:
        lines["allow"] = ", ".join(map(str, route.allow)) or "nothing"
        raise ForbiddenByPolicyError(f"Route {route.name} does not allow this method and path.")
    upstream = route.upstream
    url = upstream.origin + (upstream.base_path + rest.decode() or "/") + query.decode()
    lines["upstream"] = f"{method} {url}"
    lines["credential"] = "none: it is public" if public else _credential(settings.credentials[route.credential])
    if public is None:
        lines["audience"] = route.audience or "none"
    lines["policy"] = _policy(route, public, allowed)
    if settings.clients_only:
        clients = Clients(settings, {})
        may = [name for name in settings.clients if clients.may(name, route.name, verb, rest)]
        lines["clients"] = ", ".join(may) or "none may"
    times = route.timeouts
    response = show_duration(times.response) if times.response else "unlimited"
    lines["timeouts"] = f"connect {show_duration(times.connect)}, response {response}, idle {show_duration(times.idle)}"
    if route.proxy:
        lines["proxy"] = without_password(route.proxy) or ""


def _first(rules: Iterable[Rule], method: bytes, path: bytes) -> Rule | None:
    return next((rule for rule in rules if RuleSet([rule]).matches(method, path)), None)


def _policy(route: Route, public: Rule | None, allowed: Rule | None) -> str:
    if public:
        return f"public by `{public}`: forwarded with no Authorization"
    if allowed:
        return f"allowed by `{allowed}`"
    return f"everything is allowed (routes.{route.name} has no `allow`)"


def _credential(credential: Credential) -> str:
    match credential:
        case ClientCredentials(token_url=url, client_id=client_id):
            return f"{credential.name}: a bearer token for client {client_id} from {url}"
        case StaticToken():
            return f"{credential.name}: a static bearer token"
        case SessionLogin(login_url=url, username=username):
            return f"{credential.name}: a session of {username} from {url}"
        case Basic(username=username):
            return f"{credential.name}: HTTP Basic as {username}"
        case NoCredential():
            return f"{credential.name}: nothing is attached"
