"""Who may ask the admin listener for what. Pure: addresses and header values in, an error or None out."""

from __future__ import annotations

from collections.abc import Iterable

from sidecar.config.urls import is_loopback
from sidecar.errors import BadRequestError, ForbiddenByPolicyError, Problem
from sidecar.proxy.guard import Guard
from sidecar.proxy.target import host_name

PROBES = frozenset({"/livez", "/readyz"})
OPEN = PROBES | {"/metrics"}
"""What a peer that is not loopback gets: kubelet and Prometheus come by the pod's address."""

_SINGLE = frozenset({b"host", b"x-forwarded-host", b"origin", b"sec-fetch-site"})


def decide(path: str, peer: str | None, guard: Guard, fields: Iterable[tuple[bytes, bytes]]) -> Problem | None:
    """The refusal of a request, or None to let it pass.

    A probe passes from anywhere with any Host: it tells nothing, and a service mesh forwards it over loopback with
    the pod's name. `/metrics` from loopback is guarded, since a page of a rebound name comes from there.

    Args:
        path: what is asked for.
        peer: the client's address; None on a Unix socket.
        guard: the rules for clients of this host.
        fields: the request's header, names and values.
    """
    if path in PROBES:
        return None
    if peer is not None and not is_loopback(peer):
        if path in OPEN:
            return None
        return ForbiddenByPolicyError(
            "From another host only /metrics, /livez and /readyz are served here: ask from this host itself."
        )
    try:
        values = values_of(fields)
    except BadRequestError as error:
        return error
    authority = values.get(b"host", b"")
    refused = guard.refusal(host_name(authority) or b"", authority, values)
    return refused[1] if refused else None


def values_of(fields: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """The header's values by name in lower case.

    Raises:
        BadRequestError: there are two of one that the guard goes by.
    """
    values: dict[bytes, bytes] = {}
    for name, value in fields:
        key = name.lower()
        if key in _SINGLE and key in values:
            raise BadRequestError(f"More than one {key.decode('ascii')} header.")
        values[key] = value
    return values
