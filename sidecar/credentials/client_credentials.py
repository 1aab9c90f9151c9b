"""The client credentials grant (RFC 6749, 4.4) with every way to authenticate a client that Camunda's issuers want."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from http import HTTPStatus
from typing import Final
from urllib.parse import quote_plus, urlencode

from sidecar.clock import Clock
from sidecar.config.settings import ClientCredentials
from sidecar.credentials import untrusted
from sidecar.credentials.exchange import FORM, Ask, Exchange, Line, Message
from sidecar.credentials.held import ClientKey
from sidecar.credentials.verdict import Answer, Asked, judge
from sidecar.credentials.watched import Watched
from sidecar.errors import SecretUnavailableError
from sidecar.secret import Secret
from sidecar.tokens.grant import AttemptGate, Grant
from sidecar.tokens.identity import label

ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
"""RFC 7523, 2.2."""


class ClientCredentialsSource:
    """A `GrantSource` for one credential and one audience."""

    def __init__(
        self,
        settings: ClientCredentials,
        audience: str | None,
        *,
        key: Watched[ClientKey],
        line: Line,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._audience = audience or None
        self._key = key
        self.line = line
        self._clock = clock
        self._asked = Asked(label(settings.token_url), settings.name, settings.client_id, self._audience)
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
        """See `GrantSource`."""
        return self._key.value.secret

    def refuses(self, status: int, *, safe: bool) -> bool:  # noqa: ARG002 (only a session asks)
        """A bearer token is refused by a 401 (RFC 6750, 3.1); a 403 is a matter of permissions."""
        return status == HTTPStatus.UNAUTHORIZED

    def rotate(self, grant: Grant, set_cookie: Sequence[bytes]) -> Grant | None:  # noqa: ARG002
        """No cookie changes a bearer token."""
        return None

    async def fetch(self, gate: AttemptGate, *, attempts: int) -> Grant:
        """See `GrantSource`."""
        return await Exchange(self.line, gate, self._message, self._judge).run(attempts)

    def _judge(self, answer: Answer) -> Grant:
        return judge(answer, self._asked, self._clock.wall())

    async def _message(self, _ask: Ask) -> Message:
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


def token_request(settings: ClientCredentials, audience: str | None, key: ClientKey, now: float) -> Message:
    """One attempt's headers and body."""
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
            fields["client_assertion_type"] = ASSERTION_TYPE
            fields["client_assertion"] = _assertion(settings, key, now)
            secrets.append(fields["client_assertion"])
        case "tls":  # RFC 8705, 2: the connection's certificate says it
            pass
    if settings.request_format == "json":
        body, kind = json.dumps(fields), "application/json"
    else:
        body, kind = urlencode(fields), FORM
    return Message(headers | {"Content-Type": kind}, body.encode(), secrets=tuple(secrets))


def _assertion(settings: ClientCredentials, key: ClientKey, now: float) -> str:
    if key.signer is None:
        raise SecretUnavailableError(f"Credential {settings.name} has no private key to sign with.")
    audience = settings.assertion_audience or settings.token_url
    return key.signer.sign(client_id=settings.client_id, audience=audience, now=now)


def basic_credentials(client_id: str, secret: str) -> str:
    """HTTP Basic's credentials with both parts form-encoded first, as RFC 6749, 2.3.1 has it for clients."""
    return _base64(quote_plus(client_id), quote_plus(secret))


def _base64(user: str, password: str) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode()
