"""The Camunda APIs that a route can be named after, with the names and defaults that Camunda documents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sidecar.config.values import Rule

SAAS_TOKEN_URL = "https://login.cloud.camunda.io/oauth/token"  # noqa: S105 (an address)

SAAS_GRPC = "https://{cluster_id}.{region}.zeebe.camunda.io"
"""Zeebe's gRPC on Camunda SaaS, at port 443."""

ProductName = Literal["operate", "optimize", "tasklist", "zeebe", "console", "hub", "modeler"]


@dataclass(frozen=True, slots=True)
class Product:
    """The defaults of one API."""

    name: str
    audience: str
    """On Camunda SaaS."""
    saas_upstream: str
    """May refer to `{region}` and `{cluster_id}`."""
    identity_audience: str | None
    """On self-managed Identity; None where the token request has none."""
    public: tuple[Rule, ...] = ()
    response_timeout: float = 600.0
    """Seconds to wait for an answer's head, 0 for no limit. No API but Zeebe's waits for an event: the longest answers
    are exports and imports, computed while the client waits, and no duration is documented for them."""

    @property
    def of_cluster(self) -> bool:
        """Whether the upstream is a cluster's, and not the organization's."""
        return "{cluster_id}" in self.saas_upstream


def _of_cluster(name: str, public: tuple[Rule, ...] = (), response_timeout: float = 600.0) -> Product:
    return Product(
        name=name,
        audience=f"{name}.camunda.io",
        saas_upstream=f"https://{{region}}.{name}.camunda.io/{{cluster_id}}",
        identity_audience=f"{name}-api",
        public=public,
        response_timeout=response_timeout,
    )


def _of_organization(name: str, saas_upstream: str, identity_audience: str | None) -> Product:
    return Product(
        name=name,
        audience="api.cloud.camunda.io",
        saas_upstream=saas_upstream,
        identity_audience=identity_audience,
    )


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
        _of_organization("console", "https://api.cloud.camunda.io", "console-api"),
        _of_organization("hub", "https://hub.cloud.camunda.io", None),
        _of_organization("modeler", "https://modeler.cloud.camunda.io/api", None),
    )
}


def is_saas(host: str) -> bool:
    """Tell whether a host is Camunda SaaS's."""
    return host == "camunda.io" or host.endswith(".camunda.io")
