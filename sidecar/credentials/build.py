"""From settings to credentials: for each route the one thing that authorizes it, and what watches their files."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar, assert_never

from sidecar.clock import Clock
from sidecar.config import settings as configured
from sidecar.credentials import static, tls
from sidecar.credentials.client_credentials import ClientCredentialsSource, client_key
from sidecar.credentials.file_watching import Watched, Watcher, setting_of
from sidecar.credentials.session import SessionSource
from sidecar.credentials.static import StaticAttachment, StaticAuthorizer
from sidecar.credentials.token_request import Endpoint
from sidecar.errors import Mistake
from sidecar.proxy.authorizer import Authorizer
from sidecar.secret import Secret

T = TypeVar("T")
IssuerSource = ClientCredentialsSource | SessionSource
"""The two `GrantSource`s that there are."""
Make = Callable[[str | None], IssuerSource | Authorizer]
"""What authorizes the routes of one credential and of one audience."""


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
    grpc_tls: Watched[tls.PemFiles]
    """The same for gRPC's upstream, in the form that grpcio wants."""
    client_secrets: Mapping[str, Watched[Secret]]
    """By client: the secret that it has to show."""
    listen_tls: Watched[ssl.SSLContext] | None
    """For the proxy's listener."""
    watcher: Watcher
    """Of every file behind these; names are keys' paths in the configuration, such as `credentials.x.password_file`."""


def build(settings: configured.Settings, clock: Clock) -> RouteCredentials:
    """Read the files of every credential, those that no route uses too. Blocking.

    A file that cannot be used raises nothing here: `check` tells, and a fault that comes later makes that credential
    unavailable until the file is repaired.
    """
    builder = _Builder(settings, clock)
    make = {name: builder.maker(credential) for name, credential in settings.credentials.items()}
    made = {route.name: make[route.credential](route.audience) for route in settings.all_routes}
    return RouteCredentials(
        sources={name: one for name, one in made.items() if isinstance(one, IssuerSource)},
        authorizers={name: one for name, one in made.items() if not isinstance(one, IssuerSource)},
        upstream_tls={
            route.name: builder.context(".".join((*configured.place_of(route), "tls")), route.tls)
            for route in settings.all_routes
            if route.upstream.scheme == "https"
        },
        grpc_tls=builder.pem_files(settings.grpc),
        client_secrets=builder.client_secrets(),
        listen_tls=builder.listen_tls(settings.listen_tls),
        watcher=Watcher(builder.watched),
    )


def check(settings: configured.Settings, clock: Clock) -> list[Mistake]:
    """Every mistake in the files behind the settings: keys, passwords, certificates, CA bundles. Blocking.

    For `check` and `run`: what is wrong at the start is a mistake in the configuration.
    """
    errors = build(settings, clock).watcher.errors()
    return sorted(Mistake(settings.source, name, error.removesuffix(".")) for name, error in errors.items())


class _Builder:
    def __init__(self, settings: configured.Settings, clock: Clock) -> None:
        self.watched: list[Watched[Any]] = []
        self._settings = settings
        self._clock = clock
        # Loading the system's roots takes 20 ms and 1 MB: who needs nothing else shares one context.
        self._default_context = cache(lambda: tls.client_context(configured.Tls(), clock.wall()))

    def maker(self, credential: configured.Credential) -> Make:
        """Makes the same thing for the same audience."""
        clock = self._clock
        match credential:
            case configured.ClientCredentials():
                key = self._watch(client_key(credential, clock))
                endpoint = self._endpoint(credential.token_url, credential)
                return cache(
                    lambda audience: ClientCredentialsSource(
                        credential, audience, key=key, endpoint=endpoint, clock=clock
                    )
                )
            case configured.SessionLogin():
                source = credential.password
                setting = setting_of(credential.name, "password", source)
                password = self._watch(Watched(setting, [source.file], source.read))
                endpoint = self._endpoint(credential.login_url, credential)
                made: IssuerSource | Authorizer = SessionSource(
                    credential, password=password, endpoint=endpoint, clock=clock
                )
            case configured.StaticToken() | configured.Basic():
                made = StaticAuthorizer(credential.name, self._watch(static.attachment(credential)))
            case configured.NoCredential():
                made = StaticAuthorizer(credential.name, Watched(credential.name, (), StaticAttachment))
            case _:
                assert_never(credential)
        return lambda _audience: made

    def context(self, name: str, settings: configured.Tls) -> Watched[ssl.SSLContext]:
        """A TLS context; `name` is the path of its settings."""
        if settings == configured.Tls():
            return self._watch(Watched(name, (), self._default_context))
        return self._watch(Watched(name, tls.files(settings), lambda: tls.client_context(settings, self._clock.wall())))

    def client_secrets(self) -> Mapping[str, Watched[Secret]]:
        """The secrets of the clients that have one."""
        return {
            name: self._watch(Watched(f"clients.{name}.secret_file", (secret.file,), secret.read))
            for name, client in self._settings.clients.items()
            if (secret := client.secret) is not None
        }

    def listen_tls(self, settings: configured.ListenTls | None) -> Watched[ssl.SSLContext] | None:
        """The TLS context of the proxy's listener."""
        if settings is None:
            return None
        files = (settings.certificate_file, settings.key_file, settings.client_ca_file)
        return self._watch(Watched("listen_tls", files, lambda: tls.server_context(settings, self._clock.wall())))

    def pem_files(self, grpc: configured.Grpc | None) -> Watched[tls.PemFiles]:
        """What a context would be made from, for gRPC; without files where there is nothing to connect to by TLS."""
        if grpc is None or grpc.upstream.scheme == "http":
            return Watched("grpc.tls", (), lambda: tls.NO_PEM_FILES)
        settings = grpc.tls
        return self._watch(
            Watched("grpc.tls", tls.files(settings), lambda: tls.pem_files(settings, self._clock.wall()))
        )

    def _endpoint(self, url: str, credential: configured.ClientCredentials | configured.SessionLogin) -> Endpoint:
        is_https, settings = url.lower().startswith("https:"), self._settings
        context = self.context(f"credentials.{credential.name}.tls", credential.tls) if is_https else None
        return Endpoint(url, settings.token_requests.timeout, context, credential.proxy, settings.limits.header_bytes)

    def _watch(self, watched: Watched[T]) -> Watched[T]:
        self.watched.append(watched)
        return watched
