"""Who a client is: the configuration's `clients`, and what a client shows to be one of them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress

from sidecar.config.settings import Certificate, Client, Route, Settings
from sidecar.errors import ForbiddenByPolicyError, Problem, SecretUnavailableError, TokenUnavailableError
from sidecar.proxy import semantics
from sidecar.proxy.policy import RuleSet
from sidecar.proxy.routing import Request
from sidecar.proxy.tls import attributes
from sidecar.secret import Secret

ANYBODY = "-"
"""The name, in logs and metrics, of a client that the configuration does not know."""
_RETRY_AFTER = 5.0
_UNKNOWN = Secret(secrets.token_hex(32))
"""What the secret of an unknown client is compared with, so that it takes as long as a known one's."""


class Clients:
    """The clients of one configuration."""

    def __init__(self, settings: Settings, secrets_: Mapping[str, Callable[[], Secret]]) -> None:
        """`secrets_` gives each client's secret, by name, as it is now."""
        self._clients = clients = settings.clients
        self._secrets = secrets_
        self._subjects = [
            (_subject(each.certificate), each) for each in clients.values() if each.certificate is not None
        ]
        self._rules = {name: _rules(each, settings.all_routes) for name, each in clients.items()}
        self._audiences = {name: _audiences(each, settings.all_routes) for name, each in clients.items()}

    def __contains__(self, name: str) -> bool:
        return name in self._clients

    def by_secret(self, name: str, secret: str) -> Client | None:
        """Return the client that has this name and this secret. It takes the same time for every name.

        Raises:
            TokenUnavailableError: the client's secret cannot be read.
        """
        known = self._secrets.get(name)
        try:
            expected = known() if known is not None else _UNKNOWN
        except SecretUnavailableError:
            text = f"The secret of client {name} cannot be read: see the sidecar's log."
            raise TokenUnavailableError(text, retry_after=_RETRY_AFTER) from None
        is_right = hmac.compare_digest(_digest(secret), _digest(expected.reveal()))
        return self._clients.get(name) if is_right and known is not None else None

    def by_certificate(self, subject: frozenset[str]) -> Client | None:
        """Return the client whose certificate has this subject; one that fits two clients is nobody's."""
        found = [client for wanted, client in self._subjects if wanted <= subject]
        return found[0] if len(found) == 1 else None

    def of(self, head: bytes, subject: frozenset[str]) -> Client | None:
        """Return the client of a request to a route: by its certificate, else by HTTP Basic.

        Raises:
            TokenUnavailableError: the client's secret cannot be read.
        """
        client = self.by_certificate(subject)
        if client is None:
            with suppress(ValueError):
                shown = basic(head)
                client = self.by_secret(*shown) if shown is not None else None
        return client

    def may_have(self, client: str, audience: str | None) -> bool:
        """Tell whether a client may have a token for an audience; `ANYBODY` may, where that is let in at all."""
        return client == ANYBODY or audience in self._audiences[client]

    def may(self, client: str, route: str, method: bytes, rest: bytes) -> bool:
        """Tell whether a client may make a request; `rest` is the path after the route's prefix."""
        rules = self._rules[client]
        allow = rules.get(route)
        return route in rules and (allow is None or allow.matches(method, rest))

    def refusal(self, client: str, request: Request) -> Problem | None:
        """Return why a client's request goes no further."""
        found, route = request.problem(), request.route
        if found is not None or route is None:
            return found[1] if found is not None else None
        if self.may(client, route.name, request.method.name, request.path[len(route.prefix) :]):
            return None
        return ForbiddenByPolicyError(f"Client {client} may not do this (clients.{client}: routes, allow).")


def _subject(certificate: Certificate) -> frozenset[str]:
    from cryptography import x509  # noqa: PLC0415 (few configurations have one)

    return attributes(x509.Name.from_rfc4514_string(certificate.subject))


def _rules(client: Client, known: Iterable[Route]) -> dict[str, RuleSet | None]:
    """Return what the client may do, by route; None is everything."""
    routes = client.routes
    if routes is None:
        routes = () if client.allow else tuple(route.name for route in known)
    return dict.fromkeys(routes) | {route: RuleSet(rules) for route, rules in client.allow.items()}


def _audiences(client: Client, known: Iterable[Route]) -> Collection[str | None]:
    """Return the audiences that the client may have: no token goes around `allow` unless that is said."""
    if client.audiences is not None or client.allow:
        return client.audiences or ()
    return {route.audience for route in known if client.routes is None or route.name in client.routes}


def basic(head: bytes, decode: Callable[[str], str] = str) -> tuple[str, str] | None:
    """Return name and secret of a head's HTTP Basic (RFC 7617), each decoded; None where it has no Authorization.

    Raises:
        ValueError: there are several, or it is of another kind.
    """
    values = [value for value in semantics.field_values(head, b"authorization") if value]
    if not values:
        return None  # an empty one, which the official JavaScript client sends, is none
    scheme, _, encoded = values[0].partition(b" ")
    name = colon = secret = ""
    if len(values) == 1 and scheme.lower() == b"basic":
        with suppress(ValueError):
            name, colon, secret = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    if not colon:
        raise ValueError
    return decode(name), decode(secret)


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
