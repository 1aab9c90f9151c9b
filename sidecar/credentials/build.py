"""From settings to credentials: for each route the one thing that authorizes it, and what watches their files."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar, assert_never

from sidecar.clock import Clock
from sidecar.config import settings as configured
from sidecar.credentials import assertion, static, tls
from sidecar.credentials.client_credentials import ClientCredentialsSource, ClientKey
from sidecar.credentials.exchange import Line
from sidecar.credentials.session import SessionSource
from sidecar.credentials.watched import Pollable, Watched, Watcher
from sidecar.proxy.authorizer import Authorizer
from sidecar.secret import Secret, SecretSource
from sidecar.tokens.grant import GrantSource

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RouteCredentials:
    """What `build` makes. Every route's name is in exactly one of the first two."""

    sources: Mapping[str, GrantSource]
    """By route: the credential needs an issuer, and the token core around it."""
    authorizers: Mapping[str, Authorizer]
    """By route: the credential is complete by itself."""
    upstream_tls: Mapping[str, Watched[ssl.SSLContext]]
    """By route with an https upstream: the context to connect with."""
    watcher: Watcher
    """Of every file behind these; a changed value's name starts with `credentials.<name>` or `routes.<name>`."""


def build(settings: configured.Settings, clock: Clock) -> RouteCredentials:
    """Reads the files of every credential that a route uses; blocking, so call it in a thread or before the loop runs.

    A file that cannot be used raises nothing here: `checks.check` has told before, and a fault that comes in between
    makes that credential unavailable until the file is repaired.
    """
    builder = _Builder(settings, clock)
    for route in settings.routes:
        builder.add(route)
    return builder.finished()


class _Builder:
    """One build; what routes share is made once."""

    def __init__(self, settings: configured.Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._watched: list[Pollable] = []
        self._sources: dict[str, GrantSource] = {}
        self._authorizers: dict[str, Authorizer] = {}
        self._upstream_tls: dict[str, Watched[ssl.SSLContext]] = {}
        self._shared_sources: dict[tuple[str, str | None], GrantSource] = {}
        self._shared_authorizers: dict[str, Authorizer] = {}
        self._keys: dict[str, Watched[ClientKey]] = {}
        self._contexts: dict[str, Watched[ssl.SSLContext]] = {}

    def add(self, route: configured.Route) -> None:
        """Make what one route needs, where another has not needed it before."""
        if route.upstream.scheme == "https":
            self._upstream_tls[route.name] = self._context(f"routes.{route.name}.tls", route.tls)
        credential = self._settings.credentials[route.credential]
        match credential:
            case configured.ClientCredentials():
                self._sources[route.name] = self._client_credentials(credential, route.audience)
            case configured.SessionLogin():
                self._sources[route.name] = self._session(credential)
            case configured.StaticToken() | configured.Basic() | configured.NoCredential():
                self._authorizers[route.name] = self._static(credential)
            case _:
                assert_never(credential)

    def finished(self) -> RouteCredentials:
        """All of it."""
        return RouteCredentials(self._sources, self._authorizers, self._upstream_tls, Watcher(self._watched))

    def _client_credentials(self, credential: configured.ClientCredentials, audience: str | None) -> GrantSource:
        shared = (credential.name, audience)
        if shared not in self._shared_sources:
            if credential.name not in self._keys:
                self._keys[credential.name] = self._watch(client_key(credential))
            self._shared_sources[shared] = ClientCredentialsSource(
                credential,
                audience,
                key=self._keys[credential.name],
                line=self._line(credential.name, credential.token_url, credential.tls, credential.proxy),
                clock=self._clock,
            )
        return self._shared_sources[shared]

    def _session(self, credential: configured.SessionLogin) -> GrantSource:
        shared = (credential.name, None)
        if shared not in self._shared_sources:
            password = credential.password
            self._shared_sources[shared] = SessionSource(
                credential,
                password=self._watch(Watched(f"credentials.{credential.name}", (password.file,), password.read)),
                line=self._line(credential.name, credential.login_url, credential.tls, credential.proxy),
                clock=self._clock,
            )
        return self._shared_sources[shared]

    def _static(self, credential: configured.StaticToken | configured.Basic | configured.NoCredential) -> Authorizer:
        if credential.name not in self._shared_authorizers:
            self._shared_authorizers[credential.name] = self._new_static(credential)
        return self._shared_authorizers[credential.name]

    def _new_static(
        self, credential: configured.StaticToken | configured.Basic | configured.NoCredential
    ) -> Authorizer:
        match credential:
            case configured.StaticToken():
                make, file = partial(static.token_attachment, credential), credential.token.file
            case configured.Basic():
                make, file = partial(static.basic_attachment, credential), credential.password.file
            case configured.NoCredential():
                return static.NoAuthorizer()
            case _:
                assert_never(credential)
        watched = self._watch(Watched(f"credentials.{credential.name}", (file,), make))
        return static.StaticAuthorizer(credential.name, watched)

    def _line(self, name: str, url: str, settings: configured.Tls, proxy: str | None) -> Line:
        context = self._context(f"credentials.{name}.tls", settings) if url.lower().startswith("https:") else None
        return Line(url, self._settings.token_requests.timeout, context, proxy)

    def _context(self, name: str, settings: configured.Tls) -> Watched[ssl.SSLContext]:
        if name not in self._contexts:
            self._contexts[name] = self._watch(tls.watched_context(name, settings))
        return self._contexts[name]

    def _watch(self, watched: Watched[T]) -> Watched[T]:
        self._watched.append(watched)
        return watched


def client_key(credential: configured.ClientCredentials) -> Watched[ClientKey]:
    """What proves the client's identity, from whichever files its way of authentication needs."""
    match credential.client_authentication:
        case "body" | "basic":
            source = credential.client_secret or SecretSource()
            files: tuple[Path | None, ...] = (source.file,)
            load = partial(_secret_key, source)
        case "private_key_jwt":
            key, password = credential.private_key, credential.private_key_password
            files = (*(source.file for source in (key, password) if source is not None), credential.certificate_file)
            load = partial(_signing_key, credential)
        case "tls":
            files = tls.tls_files(credential.tls)
            load = partial(_certificate_key, credential)
        case _:
            assert_never(credential.client_authentication)
    return Watched(f"credentials.{credential.name}", files, load)


def _secret_key(source: SecretSource) -> ClientKey:
    return ClientKey(source.read())


def _signing_key(credential: configured.ClientCredentials) -> ClientKey:
    pem = (credential.private_key or SecretSource()).read().reveal()
    password = credential.private_key_password.read().reveal() if credential.private_key_password else None
    signer = assertion.signer(
        pem,
        password=password,
        algorithm=credential.assertion_algorithm,
        certificate_file=credential.certificate_file,
        key_id=credential.key_id,
    )
    # The thumbprints too: a certificate that is renewed with its old key must end a quarantine as a new secret does.
    return ClientKey(Secret(pem + signer.header.get("x5t#S256", "")), signer)


def _certificate_key(credential: configured.ClientCredentials) -> ClientKey:
    files = (credential.tls.client_key_file, credential.tls.client_certificate_file)
    return ClientKey(Secret("".join(tls.read_pem(file, "The client's key or certificate") for file in files if file)))
