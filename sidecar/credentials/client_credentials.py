"""The client credentials grant (RFC 6749, 4.4) with every way to authenticate a client that Camunda's issuers want."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, assert_never
from urllib.parse import quote_plus, urlencode

from sidecar.clock import Clock
from sidecar.config.settings import ClientCredentials
from sidecar.credentials import tls, untrusted
from sidecar.credentials.classification import IssuerResponse, RequestContext, classify
from sidecar.credentials.file_watching import Watched, setting_of
from sidecar.credentials.token_request import FORM, Endpoint, GetPage, RequestContent, TokenRequest
from sidecar.secret import Secret, SecretSource, read_text
from sidecar.tokens.grant import AttemptGate, Grant
from sidecar.tokens.identity import label

if TYPE_CHECKING:
    from sidecar.credentials.assertion import Signer

ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
"""RFC 7523, 2.2."""


@dataclass(frozen=True, slots=True)
class ClientKey:
    """What proves the client's identity now: its secret and, for `private_key_jwt`, what signs with it."""

    secret: Secret
    signer: Signer | None = None


class ClientCredentialsSource:
    """A `GrantSource` for one credential and one audience."""

    def __init__(
        self,
        settings: ClientCredentials,
        audience: str | None,
        *,
        key: Watched[ClientKey],
        endpoint: Endpoint,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._audience = audience or None
        self._key = key
        self.endpoint = endpoint
        self._clock = clock
        self._context = RequestContext(label(settings.token_url), settings.name, self._audience)
        self.parameters: tuple[tuple[str, str], ...] = (
            ("type", "client_credentials"),
            ("client_authentication", settings.client_authentication),
            ("request_format", settings.request_format),
            *sorted(grant_fields(settings, self._audience).items()),
        )

    @property
    def issuer(self) -> str:
        """The token endpoint's URL."""
        return self._settings.token_url

    def secret(self) -> Secret:
        """The secret, or the private key, as it is in force."""
        return self._key.value.secret

    def refuses(self, status: int, *, safe: bool) -> bool:  # noqa: ARG002 (only a session asks)
        """A bearer token is refused by a 401 (RFC 6750, 3.1); a 403 is a matter of permissions."""
        return status == HTTPStatus.UNAUTHORIZED

    def rotate(self, grant: Grant, set_cookie: Sequence[bytes]) -> Grant | None:  # noqa: ARG002
        """No cookie changes a bearer token."""
        return None

    async def fetch(self, gate: AttemptGate, *, attempts: int) -> Grant:
        """Request a token, up to `attempts` times at transient faults.

        Raises:
            GrantError: the issuer gave none.
            TokenUnavailableError: the gate's.
        """
        return await TokenRequest(self.endpoint, gate, self._content, self._classify).send(attempts)

    def _classify(self, response: IssuerResponse) -> Grant:
        return classify(response, self._context, self._clock.wall())

    async def _content(self, _get_page: GetPage) -> RequestContent:
        return token_request(self._settings, self._audience, self._key.value, self._clock.wall())


def grant_fields(settings: ClientCredentials, audience: str | None) -> dict[str, str]:
    """The fields of the token request that are not about who asks; `extra` has the last word."""
    fields = {
        "grant_type": "client_credentials",
        "client_id": settings.client_id,
        "audience": audience,
        "scope": settings.scope,
        "resource": settings.resource,
    }
    return {name: value for name, value in fields.items() if value} | dict(settings.extra)


def token_request(settings: ClientCredentials, audience: str | None, key: ClientKey, now: float) -> RequestContent:
    """One attempt's headers and body; `now` is in seconds of the wall clock."""
    fields = grant_fields(settings, audience)
    secrets = [value for value in settings.extra.values() if len(value) >= untrusted.PART]  # one may be a secret
    headers: dict[str, str] = {}
    secret = key.secret.reveal()
    match settings.client_authentication:
        case "body":
            fields["client_secret"] = secret
            secrets += [secret, _base64(settings.client_id, secret)]
        case "basic":
            del fields["client_id"]
            encoded = basic_credentials(settings.client_id, secret)
            headers["Authorization"] = f"Basic {encoded}"
            secrets += [secret, encoded, _base64(settings.client_id, secret)]
        case "private_key_jwt":
            assert key.signer is not None
            signed_for = settings.assertion_audience or settings.token_url
            assertion = key.signer.sign(client_id=settings.client_id, audience=signed_for, now=now)
            fields |= {"client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion}
            secrets.append(assertion)
        case "tls":  # RFC 8705, 2: the connection's certificate says it
            pass
    if settings.request_format == "json":
        body, kind = json.dumps(fields), "application/json"
    else:
        body, kind = urlencode(fields), FORM
    return RequestContent(headers | {"Content-Type": kind}, body.encode(), secrets=tuple(secrets))


def basic_credentials(client_id: str, secret: str) -> str:
    """HTTP Basic's credentials with both parts form-encoded first, as RFC 6749, 2.3.1 has it for clients."""
    return _base64(quote_plus(client_id), quote_plus(secret))


def _base64(user: str, password: str) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode()


def client_key(credential: ClientCredentials, clock: Clock) -> Watched[ClientKey]:
    """What proves the client's identity, from the files that its way of authentication needs."""
    match credential.client_authentication:
        case "body" | "basic":
            source = credential.client_secret or SecretSource()
            name = setting_of(credential.name, "client_secret", source)
            return Watched(name, [source.file], lambda: ClientKey(source.read()))
        case "private_key_jwt":
            key, key_password = credential.private_key or SecretSource(), credential.private_key_password
            password_file = key_password.file if key_password is not None else None
            files = (key.file, password_file, credential.certificate_file)
            return Watched(
                setting_of(credential.name, "private_key", key), files, partial(_signing_key, credential, key, clock)
            )
        case "tls":
            name = f"credentials.{credential.name}.tls.client_key_file"
            return Watched(name, tls.files(credential.tls), partial(_certificate_key, credential))
        case _:
            assert_never(credential.client_authentication)


def _signing_key(credential: ClientCredentials, key: SecretSource, clock: Clock) -> ClientKey:
    from sidecar.credentials import assertion  # noqa: PLC0415 (joserfc costs who signs nothing)

    text, key_password = key.read_text().reveal(), credential.private_key_password
    signer = assertion.signer(
        text,
        password=key_password.read().reveal() if key_password is not None else None,
        algorithm=credential.assertion_algorithm,
        certificate_file=credential.certificate_file,
        key_id=credential.key_id,
        now=clock.wall(),
    )
    # The thumbprint too: a certificate that is renewed with its old key must end a quarantine as a new secret does.
    return ClientKey(Secret(text + signer.header.get("x5t#S256", "")), signer)


def _certificate_key(credential: ClientCredentials) -> ClientKey:
    files = (credential.tls.client_key_file, credential.tls.client_certificate_file)
    return ClientKey(Secret("".join(read_text(file) for file in files if file)))
