"""What a token's claims say about a fault: a wrong clock, another audience, another cluster's client. Pure.

The claims are not verified here: an upstream does that. They only explain, and what is quoted of them is cleaned.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from sidecar.clock import duration
from sidecar.credentials.token_response import number
from sidecar.credentials.untrusted import printable

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
