"""The Camunda APIs that a route can be named after, with the names and defaults that Camunda documents."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Literal

from sidecar.config.values import Rule

SAAS_TOKEN_URL = "https://login.cloud.camunda.io/oauth/token"  # noqa: S105 (an address)

GRPC_PORT = 26500
"""Where clients of Zeebe's gRPC look by themselves."""
GRPC_MISSING = "needs grpcio, which is not installed"
GRPC_CURE = "pip install 'camunda-sidecar[grpc]'"
SAAS_GRPC = "https://{cluster_id}.{region}.zeebe.camunda.io"
"""Zeebe's gRPC on Camunda SaaS, at port 443."""
_ORGANIZATION = "api.cloud.camunda.io"

ProductName = Literal["operate", "optimize", "tasklist", "zeebe", "console", "hub", "modeler"]


@dataclass(frozen=True, slots=True)
class Product:
    """The defaults of one API."""

    name: str
    audience: str
    """The audience on Camunda SaaS."""
    saas_upstream: str
    """The base URL on Camunda SaaS; it may refer to `{region}` and `{cluster_id}`."""
    identity_audience: str | None
    """The audience on self-managed Identity; None where the token request has none."""
    public: tuple[Rule, ...] = ()
    response_timeout: float = 600.0
    """The seconds to wait for a response's head; 0 is no limit. No API but Zeebe's waits for an event. The longest
    responses are exports and imports, computed while the client waits; no duration is documented for them."""

    @property
    def of_cluster(self) -> bool:
        """Tell whether the upstream is a cluster's, and not the organization's."""
        return "{cluster_id}" in self.saas_upstream


def _of_cluster(name: str, public: tuple[Rule, ...] = (), response_timeout: float = 600.0) -> Product:
    upstream = f"https://{{region}}.{name}.camunda.io/{{cluster_id}}"
    return Product(name, f"{name}.camunda.io", upstream, f"{name}-api", public, response_timeout)


PRODUCTS: dict[str, Product] = {
    product.name: product
    for product in (
        _of_cluster("operate"),
        # Optimize refuses its readiness probe when an Authorization header is there.
        _of_cluster("optimize", (Rule("GET", "/api/readyz"),)),
        _of_cluster("tasklist"),
        # Job activation and a process instance's `awaitCompletion` wait for as long as the client's `requestTimeout`
        # says, which has no documented limit.
        _of_cluster("zeebe", response_timeout=0.0),
        Product("console", _ORGANIZATION, "https://api.cloud.camunda.io", "console-api"),
        Product("hub", _ORGANIZATION, "https://hub.cloud.camunda.io", None),
        Product("modeler", _ORGANIZATION, "https://modeler.cloud.camunda.io/api", None),
    )
}


def is_saas(host: str) -> bool:
    """Tell whether a host is Camunda SaaS's."""
    return host == "camunda.io" or host.endswith(".camunda.io")


def has_grpc() -> bool:
    """Tell whether grpcio, an extra, is installed, without importing it: that takes longer than a configuration."""
    return importlib.util.find_spec("grpc") is not None
