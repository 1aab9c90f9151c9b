"""No proxy at all: what the load and the origin can do, and the latency that a proxy's is added to."""

from pathlib import Path

from bench.peers.kind import Target, blind_target
from bench.processes import Command
from bench.site import Route, Site
from bench.tools import Toolbox


class Direct:
    name = "direct"
    label = "no proxy"

    def find(self, tools: Toolbox) -> str | None:  # noqa: ARG002 (the Protocol's)
        return ""

    def command(self, site: Site, directory: Path, port: int, workers: int) -> Command:  # noqa: ARG002
        return Command(["sleep", "86400"], {})

    def target(self, site: Site, port: int, route: Route) -> Target:  # noqa: ARG002
        return blind_target(site, route.port, tls=route.tls)
