"""What a peer is to the benchmark."""

import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bench.processes import Command
from bench.site import BASE_PATH, HOST, Route, Site
from bench.tools import Toolbox


@dataclass(frozen=True, slots=True)
class Target:
    """Where a client sends its requests to reach one route by one peer."""

    port: int
    base: str
    headers: dict[str, str]
    tls: bool = False

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{HOST}:{self.port}{self.base}"


class Kind(Protocol):
    """One sort of peer."""

    name: str
    label: str

    def find(self, tools: Toolbox) -> str | None:
        """Its version, or None where it can neither be found nor installed."""
        ...

    def command(self, site: Site, directory: Path, port: int, workers: int) -> Command:
        """Write its configuration into `directory`; it listens on `port`, and may use some that follow it."""
        ...

    def target(self, site: Site, port: int, route: Route) -> Target:
        """Where its clients go."""
        ...


class HttpKind:
    """A real proxy: clients send a local path and no credential."""

    name: str
    label: str

    def target(self, site: Site, port: int, route: Route) -> Target:  # noqa: ARG002 (the Protocol's)
        return Target(port, route.prefix, {})

    def ready(self, port: int) -> bool:
        """Whether it is ready for requests, right after its start."""
        with socket.socket() as probe:
            return probe.connect_ex((HOST, port)) == 0


def blind_target(site: Site, port: int, *, tls: bool = False) -> Target:
    """For what does not read HTTP: the client itself must say what the origin wants."""
    return Target(port, BASE_PATH, {"Authorization": f"Bearer {site.token}"}, tls)
