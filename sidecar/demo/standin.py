"""An embedded Camunda: issuer and APIs on one port, for the demo, for tests, and for the benchmark."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from sidecar.clock import Clock, SystemClock
from sidecar.demo.apis import AUDIENCES, BASE_PATHS, Apis
from sidecar.demo.issuer import Client, Issuer
from sidecar.demo.ratelimit import Limit

TOKEN_PATH = "/oauth/token"  # noqa: S105 (a path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a test may change."""

    lifetime: int = 3600
    """The lifetime of a token, in seconds."""
    limit: Limit = field(default_factory=Limit)
    extra: Mapping[str, Any] = field(default_factory=dict)
    """More fields of a token response, such as `refresh_expires_in` and `not-before-policy`."""


class StandIn:
    """Camunda SaaS in small.

    `cluster_client` may have tokens for Operate, Optimize, Tasklist and Zeebe, `organization_client` and `hub_client`
    for `api.cloud.camunda.io`. `issuer.requests` and `apis.answers` tell what happened.
    """

    def __init__(self, options: Options | None = None, clock: Clock | None = None) -> None:
        options, clock = options or Options(), clock or SystemClock()
        organization = frozenset({AUDIENCES["console"]})
        self.cluster_client = Client("demo-cluster-client", frozenset(AUDIENCES.values()) - organization)
        self.organization_client = Client("demo-organization-client", organization)
        self.hub_client = Client("demo-hub-client", organization)
        clients = (self.cluster_client, self.organization_client, self.hub_client)
        self.issuer = Issuer(clients, clock, options.limit, options.lifetime, options.extra)
        self.apis = Apis(self.issuer)
        self._runner: web.AppRunner | None = None
        self.url = ""
        """Scheme, host and port, once started."""

    @property
    def token_url(self) -> str:
        """Return the URL of the token endpoint."""
        return self.url + TOKEN_PATH

    def upstream(self, product: str) -> str:
        """Return the base URL of a product."""
        return self.url + BASE_PATHS[product]

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen; port 0 is any free one.

        Raises:
            OSError: the port is taken.
        """
        app = web.Application()
        app.router.add_post(TOKEN_PATH, self.issuer.token)
        self.apis.add_to(app)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()
        bound = self._runner.addresses[0]
        self.url = f"http://{bound[0]}:{bound[1]}"

    async def close(self) -> None:
        """Stop listening and end every connection."""
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()
