"""The client credentials grant (RFC 6749, 4.4) with every way to authenticate a client that Camunda's issuers want."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Final
from urllib.parse import quote_plus, urlencode

from sidecar.clock import Clock
from sidecar.config.settings import ClientCredentials
from sidecar.credentials.exchange import FORM, Ask, Exchange, Line, Message
from sidecar.credentials.held import ClientKey
from sidecar.credentials.verdict import Answer, Asked, judge
from sidecar.credentials.watched import Watched
from sidecar.errors import SecretUnavailableError
from sidecar.secret import Secret
from sidecar.tokens.grant import AttemptGate, Grant

_JWT = re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]*", re.ASCII)

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
        self._asked = Asked(settings.token_url, settings.name, settings.client_id, self._audience, self._hide)
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

    def _hide(self, text: str) -> str:
        return _JWT.sub("***", text.replace(self._key.value.secret.reveal(), "***"))

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
    headers: dict[str, str] = {}
    secret = key.secret.reveal()
    match settings.client_authentication:
        case "body":
            fields["client_secret"] = secret
        case "basic":
            del fields["client_id"]
            headers["Authorization"] = basic_authorization(settings.client_id, secret)
        case "private_key_jwt":
            fields["client_assertion_type"] = ASSERTION_TYPE
            fields["client_assertion"] = _assertion(settings, key, now)
        case "tls":  # RFC 8705, 2: the connection's certificate says it
            pass
    return _encoded(fields, headers, settings.request_format)


def _assertion(settings: ClientCredentials, key: ClientKey, now: float) -> str:
    if key.signer is None:
        raise SecretUnavailableError(f"Credential {settings.name} has no private key to sign with.")
    audience = settings.assertion_audience or settings.token_url
    return key.signer.sign(client_id=settings.client_id, audience=audience, now=now)


def _encoded(fields: Mapping[str, str], headers: dict[str, str], request_format: str) -> Message:
    if request_format == "json":
        return Message(headers | {"Content-Type": "application/json"}, json.dumps(fields).encode())
    return Message(headers | {"Content-Type": FORM}, urlencode(fields).encode())


def basic_authorization(client_id: str, secret: str) -> str:
    """HTTP Basic with both parts form-encoded first, as RFC 6749, 2.3.1 has it for clients."""
    pair = f"{quote_plus(client_id)}:{quote_plus(secret)}"
    return "Basic " + base64.b64encode(pair.encode()).decode()
