"""Why an issuer, a login or an upstream refuses, and what to do about it: sentences for a person. Pure.

They stand in log lines, which so tell a wrong audience from a deleted key, and in the table of `doctor`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlsplit

from sidecar.clock import duration
from sidecar.credentials.token_response import number
from sidecar.credentials.untrusted import printable

SAAS_ISSUERS: Final = frozenset({"login.cloud.camunda.io", "weblogin.cloud.camunda.io"})
PERMISSIONS: Final = {
    "operate.camunda.io": "Operate",
    "optimize.camunda.io": "Optimize",
    "tasklist.camunda.io": "Tasklist",
    "zeebe.camunda.io": "Zeebe (Orchestration Cluster API)",
}
"""The scopes of a cluster's API client in the Camunda Console, by audience."""
ORGANIZATION_AUDIENCE: Final = "api.cloud.camunda.io"


def refusal_cure(status: int, code: str, description: str, issuer: str, audience: str | None) -> str:
    """What an OAuth error means, and what to do. A wrong audience and a deleted key read differently.

    `code` and `description` are as the issuer wrote them; neither is quoted.
    """
    description = description.lower()
    if (
        code == "invalid_target"
        or any(phrase in description for phrase in ("not authorized to access", "service not enabled", "audience"))
        or (code == "access_denied" and status == HTTPStatus.FORBIDDEN)  # Auth0's: known, not allowed
    ):
        return _audience_cure(issuer, audience)
    if "secret" in description and "expired" in description:
        return "The client's secret has expired: create a new one and put it into the secret's file."
    if "assertion" in description:
        return (
            "The signed assertion was not accepted: compare the registered key or certificate, assertion_audience,"
            " and this machine's clock."
        )
    if status == HTTPStatus.UNAUTHORIZED and code not in _CURES:
        return _CURES["invalid_client"]
    return _CURES.get(code, "Asking again would not help: check the client at the issuer.")


def _audience_cure(issuer: str, audience: str | None) -> str:
    asked = f"audience {audience}" if audience else "its default audience"
    known = f"The issuer knows this client but does not allow {asked}"
    if audience == ORGANIZATION_AUDIENCE:
        return (
            f"{known}: it wants a client of the organization (Console, Organization, Administration API), and"
            " this looks like a cluster's client."
        )
    permission = PERMISSIONS.get(audience or "")
    if permission and urlsplit(issuer).hostname in SAAS_ISSUERS:
        return (
            f"{known}: add the {permission} permission to the client (Console, the cluster, API), or, if this is an"
            " organization client, use a client of the cluster."
        )
    return f"{known}, or has none of that name: check the route's audience and the client's permissions."


_CURES: Final = {
    "invalid_client": "The client id or its secret is wrong, or the client was deleted: check both at the issuer.",
    "unauthorized_client": (
        "The client id or its secret is wrong, or the client may not use client credentials (Keycloak: enable"
        " service accounts)."
    ),
    "invalid_grant": "The issuer does not accept the assertion or the grant: compare key, certificate and clock.",
    "invalid_scope": "Correct or remove the credential's scope (Entra ID wants <application id>/.default).",
    "invalid_request": "The issuer misses or dislikes a field: compare audience, scope, resource, extra and format.",
    "unsupported_grant_type": "This issuer does not offer the client credentials grant at this URL: check token_url.",
}


def unexpected_status(status: int, location: str) -> str:
    """What a status that no token endpoint should send means; `location` is a redirect's target, fit to be shown."""
    if status // 100 == 3:  # noqa: PLR2004
        return f"It redirects to {location or 'nowhere'}, which is never followed with a secret: correct token_url."
    if status in {404, 405, 410}:
        return "Nothing answers token requests at this URL: correct token_url (on Keycloak, the realm's name)."
    if status in {413, 415}:
        return "It does not understand this form of request: try the other request_format."
    if status == HTTPStatus.BAD_REQUEST:
        return "It said nothing that explains why: check token_url and the client at the issuer."
    return "Check token_url."


def unexpected_login(status: int) -> str:
    """What a login's response means that neither begins a session nor refuses one."""
    if status // 100 == 3:  # noqa: PLR2004
        return "It redirects: this installation logs people in by Identity (OIDC); use client_credentials instead."
    if status // 100 == 2:  # noqa: PLR2004
        return "This is no login: correct login_url (…/api/login, or …/login from 8.8)."
    return "Correct login_url (…/api/login, or …/login from 8.8)."


def kind_of_client(audience: str | None, granted: Sequence[str | None]) -> str:
    """What kind of client it is, from the audiences that it was granted; empty where they do not tell."""
    if audience in PERMISSIONS and ORGANIZATION_AUDIENCE in granted:
        return "It is granted the organization's API: this is an organization client, the route wants a cluster client."
    if audience == ORGANIZATION_AUDIENCE and any(other in PERMISSIONS for other in granted):
        return "It is granted a cluster's API: this is a cluster client, the route wants an organization client."
    return ""


PROBES: Final = {
    "operate": "/v1/process-definitions/1",
    "tasklist": "/v1/tasks/1",
    "zeebe": "/v2/topology",
    "optimize": "/api/public/report?collectionId=none",
    "console": "/clusters",
    "modeler": "/v1/info",
}
"""By product, a GET that changes nothing and is refused without a credential."""


def upstream_fault(status: int, location: str, path: str, audience: str | None) -> str | None:
    """What an upstream's response to a probe with a credential says is wrong; None: it accepted the credential.

    `location` is a redirect's target, fit to be shown.
    """
    if status == HTTPStatus.UNAUTHORIZED:
        wanted = f" that {audience} is its audience," if audience else ""
        return (
            f"It refuses the credential (401 to GET {path}): check{wanted} that the base URL is right, and its issuer."
        )
    if status == HTTPStatus.FORBIDDEN:
        return f"It knows the credential and forbids GET {path} (403): give the client the permission for it."
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return f"It answers {status} to GET {path}: look at the upstream itself."
    if status // 100 == 3 and "login" in location.lower():  # noqa: PLR2004
        return f"It redirects to {location}: a person is to log in, so the base URL or the credential's type is wrong."
    return None


# --- a token's claims: they are not verified here, which an upstream does; they only explain -----------

CLUSTER_CLAIM: Final = "https://camunda.com/clusterId"
TOLERANCE: Final = 60.0
"""Seconds by which a clock may be off without anybody noticing."""

_FAR: Final = 1e12
"""Seconds since 1970 that no clock shows."""
_CLUSTER_ID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)


def clock_fault(claims: Mapping[str, Any], now: float) -> str | None:
    """What is wrong with this machine's wall clock, which says `now`, by a token that was issued this moment."""
    expires, issued = _moment(claims, "exp"), _moment(claims, "iat")
    if expires is not None and expires <= now:
        return f"`exp` is {duration(now - expires)} ago by this machine's clock: the clock is off. Set it (NTP)."
    if issued is not None and abs(now - issued) > TOLERANCE:
        direction = "fast" if now > issued else "slow"
        return f"This machine's clock is {duration(abs(now - issued))} {direction} against the issuer's. Set it (NTP)."
    return None


def audience_fault(claims: Mapping[str, Any], audience: str | None) -> str | None:
    """A sentence if the token is for something else than what was asked for."""
    said = claims.get("aud")
    audiences = said if isinstance(said, list) else [said]
    if audience is None or said is None or audience in audiences:
        return None
    names = printable(", ".join(str(name) for name in audiences), 200)
    return (
        f"The token is for {names}, not for {audience}: the issuer ignores the audience of a request. On Keycloak, give"
        " the client (Identity, Applications) access to this API; elsewhere, use the scope that stands for it."
    )


def cluster_fault(claims: Mapping[str, Any], upstream: str) -> str | None:
    """A sentence if the client belongs to another cluster than the one that the upstream's URL names."""
    own, wanted = claims.get(CLUSTER_CLAIM), _CLUSTER_ID.search(upstream)
    if not isinstance(own, str) or wanted is None or own.lower() == wanted[0].lower():
        return None
    own = printable(own, 80)
    return f"This client belongs to cluster {own}, the upstream is cluster {wanted[0]}: use a client of that cluster."


def _moment(claims: Mapping[str, Any], name: str) -> float | None:
    moment = number(claims.get(name))
    return moment if abs(moment) < _FAR else None
