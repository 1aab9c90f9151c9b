"""The guard decides who may come in. It is pure: a function of a request's fields.

Whoever reaches the port has the token's rights, so a web page must not reach it: `Host` has to be a local name (no DNS
rebinding), `Origin` and `Sec-Fetch-Site` must not be another site's, and `require_header` asks for what no page can
send to another origin. On a Unix socket, its permissions decide who connects; the other rules hold there too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from sidecar.config.settings import Address, RequiredHeader, Settings, TcpAddress, UnixAddress
from sidecar.config.urls import is_loopback
from sidecar.errors import CrossSiteError, ForbiddenByPolicyError, Problem, UnauthorizedError, UnknownHostError

# A wildcard stands for whole labels, so that nothing but a name of its domain matches.
_CLIENT = "client", UnauthorizedError("Only the programs under `clients` may come in, by certificate or HTTP Basic.")
_NAME = re.compile(rb"[a-z0-9_-]++(?:\.[a-z0-9_-]++)*+")


class Guard:
    """The rules of one listener."""

    __slots__ = ("_any_host", "_clients_only", "_domains", "_hosts", "_require", "_scheme")

    def __init__(
        self,
        hosts: Iterable[str] = (),
        require_header: RequiredHeader | None = None,
        *,
        any_host: bool = False,
        is_tls: bool = False,
        clients_only: bool = False,
    ) -> None:
        """Take the rules as the configuration has them.

        Args:
            hosts: more names that `Host` may have; `*.svc.cluster.local` is every name below that domain.
            require_header: what every request must have.
            any_host: whether any name will do, as on a Unix socket, which no web page reaches.
            is_tls: whether the listener speaks TLS, so that its own origin is an https one.
            clients_only: whether nobody comes in who is not one of `clients`. Who that is, the guard does not know: it
                refuses every request with the reason `client`, and whoever finds its client lifts that.
        """
        self._scheme = b"https://" if is_tls else b"http://"
        self._clients_only = clients_only
        names = {host.lower().encode() for host in hosts}
        self._domains = tuple(name[1:] for name in names if name.startswith(b"*."))
        self._hosts = frozenset(name for name in names if not name.startswith(b"*."))
        self._any_host = any_host
        self._require = require_header

    @property
    def watched(self) -> frozenset[bytes]:
        """The name of the header that is required, in lower case, where one is."""
        return frozenset({self._require.name.lower().encode()} if self._require is not None else ())

    def knows(self, host: bytes) -> bool:
        """Tell whether `host` (lower case, without port) is a name of this sidecar."""
        if self._any_host or host in self._hosts or is_loopback(host.decode("ascii", "replace").strip("[]")):
            return True
        return host.endswith(self._domains) and _NAME.fullmatch(host) is not None

    def refusal(self, host: bytes, authority: bytes, values: Mapping[bytes, bytes]) -> tuple[str, Problem] | None:
        """Return why a request may not come in, as the metric's reason and the error; None where it may.

        Args:
            host: the effective host, lower case, without port.
            authority: the same with its port, as it came.
            values: the request's fields by lower-case name: Origin, Sec-Fetch-Site, and `watched`.
        """
        if not self.knows(host):
            return "host", UnknownHostError(
                "Host is not a local name. Use localhost or 127.0.0.1, or list the name under guard.hosts."
            )
        origin = values.get(b"origin")
        if origin is not None and origin.lower() != self._scheme + authority.lower():
            return "origin", CrossSiteError("A web page of another origin must not use this sidecar.")
        if values.get(b"sec-fetch-site", b"none").lower() not in {b"same-origin", b"none"}:
            return "fetch_metadata", CrossSiteError("A web page of another site must not use this sidecar.")
        required = self._require
        if required is not None:
            value = values.get(required.name.lower().encode())
            if value is None or (required.value is not None and value != required.value.encode()):
                return "require_header", ForbiddenByPolicyError(
                    f"This sidecar wants the header {required.name} on every request (guard.require_header)."
                )
        return _CLIENT if self._clients_only else None


def guard_of(settings: Settings, listen: Address | None = None) -> Guard:
    """Return the guard of a listener, whose address is one of its names.

    `listen` is None for the proxy's own, which on a Unix socket has any name: whoever connects is its client. Behind
    another listener's socket there may be a proxy, which passes on the name that a page has called it by.
    """
    hosts, address = list(settings.guard.hosts), listen or settings.listen
    if isinstance(address, TcpAddress) and address.host not in {"0.0.0.0", "::", ""}:  # noqa: S104 (nobody's name)
        hosts.append(f"[{address.host}]" if ":" in address.host else address.host)
    if listen is not None:
        return Guard(hosts, settings.guard.require_header)
    return Guard(
        hosts,
        settings.guard.require_header,
        any_host=isinstance(address, UnixAddress),
        is_tls=settings.listen_tls is not None,
        clients_only=settings.clients_only,
    )
