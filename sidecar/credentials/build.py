"""From settings to credentials: for each route the one thing that authorizes it, and what watches their files."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar, assert_never

from sidecar.clock import Clock
from sidecar.config import settings as configured
from sidecar.credentials import held, static, tls
from sidecar.credentials.client_credentials import ClientCredentialsSource
from sidecar.credentials.exchange import Line
from sidecar.credentials.held import ClientKey
from sidecar.credentials.session import SessionSource
from sidecar.credentials.watched import Pollable, Watched, Watcher
from sidecar.errors import Mistake
from sidecar.proxy.authorizer import Authorizer
from sidecar.secret import Secret

T = TypeVar("T")
IssuerSource = ClientCredentialsSource | SessionSource
"""The two `GrantSource`s that there are."""


@dataclass(frozen=True, slots=True)
class RouteCredentials:
    """What `build` makes. Every route's name is in exactly one of the first two."""

    sources: Mapping[str, IssuerSource]
    """By route: the credential needs an issuer, and the token core around it. Shared where credential and audience are
    the same; a session login has no audience."""
    authorizers: Mapping[str, Authorizer]
    """By route: the credential is complete by itself."""
    upstream_tls: Mapping[str, Watched[ssl.SSLContext]]
    """By route with an https upstream: `value` is the context to connect with now."""
    watcher: Watcher
    """Of every file behind these; names are keys' paths in the configuration, such as `credentials.x.password_file`."""


def build(settings: configured.Settings, clock: Clock) -> RouteCredentials:
    """Reads every credential's files; blocking, so call it in a thread, or before the loop runs.

    A file that cannot be used raises nothing here: `check` tells, and a fault that comes in between makes that
    credential unavailable until the file is repaired.
    """
    builder = _Builder(settings, clock)
    for route in settings.routes:
        builder.add(route)
    return RouteCredentials(builder.sources, builder.authorizers, builder.upstream_tls, Watcher(builder.watched))


def check(settings: configured.Settings, clock: Clock) -> list[Mistake]:
    """Every mistake in the files behind the settings: keys, passwords, certificates, CA bundles. Blocking.

    For `check` and `run`: what is wrong at the start is a mistake in the configuration.
    """
    errors = build(settings, clock).watcher.errors()
    return sorted(Mistake(settings.source, name, error.removesuffix(".")) for name, error in errors.items())


class _Builder:
    """One build; what routes share is made once, and a credential that no route uses is read too."""

    def __init__(self, settings: configured.Settings, clock: Clock) -> None:
        self.watched: list[Pollable] = []
        self.sources: dict[str, IssuerSource] = {}
        self.authorizers: dict[str, Authorizer] = {}
        self.upstream_tls: dict[str, Watched[ssl.SSLContext]] = {}
        self._settings = settings
        self._clock = clock
        self._shared: dict[tuple[str, str | None], IssuerSource] = {}
        self._keys: dict[str, Watched[ClientKey]] = {}
        self._passwords: dict[str, Watched[Secret]] = {}
        self._lines: dict[str, Line] = {}
        self._static: dict[str, Authorizer] = {}
        self._contexts = tls.Contexts(clock)
        for credential in settings.credentials.values():
            self._prepare(credential)

    def add(self, route: configured.Route) -> None:
        """What one route needs."""
        if route.upstream.scheme == "https":
            self.upstream_tls[route.name] = self._context(f"routes.{route.name}.tls", route.tls)
        credential = self._settings.credentials[route.credential]
        match credential:
            case configured.ClientCredentials():
                self.sources[route.name] = self._client_credentials(credential, route.audience)
            case configured.SessionLogin():
                self.sources[route.name] = self._session(credential)
            case _:
                self.authorizers[route.name] = self._static[credential.name]

    def _prepare(self, credential: configured.Credential) -> None:
        name = credential.name
        match credential:
            case configured.ClientCredentials():
                self._keys[name] = self._watch(held.client_key(credential, self._clock))
                self._lines[name] = self._line(credential.token_url, credential)
            case configured.SessionLogin():
                self._passwords[name] = self._watch(held.password(credential))
                self._lines[name] = self._line(credential.login_url, credential)
            case configured.StaticToken() | configured.Basic():
                self._static[name] = static.StaticAuthorizer(name, self._watch(held.attachment(credential)))
            case configured.NoCredential():
                self._static[name] = static.NoAuthorizer()
            case _:
                assert_never(credential)

    def _client_credentials(self, credential: configured.ClientCredentials, audience: str | None) -> IssuerSource:
        shared = (credential.name, audience)
        if shared not in self._shared:
            key, line = self._keys[credential.name], self._lines[credential.name]
            self._shared[shared] = ClientCredentialsSource(credential, audience, key=key, line=line, clock=self._clock)
        return self._shared[shared]

    def _session(self, credential: configured.SessionLogin) -> IssuerSource:
        shared = (credential.name, None)
        if shared not in self._shared:
            password, line = self._passwords[credential.name], self._lines[credential.name]
            self._shared[shared] = SessionSource(credential, password=password, line=line, clock=self._clock)
        return self._shared[shared]

    def _line(self, url: str, credential: configured.ClientCredentials | configured.SessionLogin) -> Line:
        secure = url.lower().startswith("https:")
        context = self._context(f"credentials.{credential.name}.tls", credential.tls) if secure else None
        settings = self._settings
        return Line(url, settings.token_requests.timeout, context, credential.proxy, settings.limits.header_bytes)

    def _context(self, name: str, settings: configured.Tls) -> Watched[ssl.SSLContext]:
        return self._watch(self._contexts.watched(name, settings))

    def _watch(self, watched: Watched[T]) -> Watched[T]:
        self.watched.append(watched)
        return watched
