"""The Camunda APIs that a route can be named after, with the names and defaults that Camunda documents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sidecar.config.settings import Rule

SAAS_TOKEN_URL = "https://login.cloud.camunda.io/oauth/token"  # noqa: S105 (an address)

ProductName = Literal["operate", "optimize", "tasklist", "zeebe", "console", "hub", "modeler"]


@dataclass(frozen=True, slots=True)
class Product:
    """One API's defaults."""

    name: str
    audience: str
    """On Camunda SaaS."""
    saas_upstream: str
    """May refer to `{region}` and `{cluster_id}`."""
    base_url_variables: tuple[str, ...]
    """Environment variables, the first that is set wins."""
    audience_variables: tuple[str, ...]
    identity_audience: str | None
    """On self-managed Identity; None where the token request has none."""
    public: tuple[Rule, ...] = ()

    @property
    def of_cluster(self) -> bool:
        """Whether the upstream is a cluster's, and not the organization's."""
        return "{cluster_id}" in self.saas_upstream


def _of_cluster(name: str, public: tuple[Rule, ...] = ()) -> Product:
    upper = name.upper()
    return Product(
        name=name,
        audience=f"{name}.camunda.io",
        saas_upstream=f"https://{{region}}.{name}.camunda.io/{{cluster_id}}",
        base_url_variables=("ZEEBE_REST_ADDRESS",) if name == "zeebe" else (f"CAMUNDA_{upper}_BASE_URL",),
        audience_variables=(f"CAMUNDA_{upper}_OAUTH_AUDIENCE",)
        + (("ZEEBE_TOKEN_AUDIENCE",) if name == "zeebe" else ()),
        identity_audience=f"{name}-api",
        public=public,
    )


def _of_organization(name: str, saas_upstream: str, base_url_variable: str, identity_audience: str | None) -> Product:
    return Product(
        name=name,
        audience="api.cloud.camunda.io",
        saas_upstream=saas_upstream,
        base_url_variables=(base_url_variable,),
        audience_variables=(f"CAMUNDA_{name.upper()}_OAUTH_AUDIENCE",),
        identity_audience=identity_audience,
    )


PRODUCTS: dict[str, Product] = {
    product.name: product
    for product in (
        _of_cluster("operate"),
        # Optimize refuses its readiness probe when an Authorization header is there.
        _of_cluster("optimize", (Rule("GET", "/api/readyz"),)),
        _of_cluster("tasklist"),
        _of_cluster("zeebe"),
        _of_organization("console", "https://api.cloud.camunda.io", "CAMUNDA_CONSOLE_BASE_URL", "console-api"),
        _of_organization("hub", "https://hub.cloud.camunda.io", "CAMUNDA_HUB_REST_URL", None),
        _of_organization("modeler", "https://modeler.cloud.camunda.io/api", "CAMUNDA_MODELER_BASE_URL", None),
    )
}
