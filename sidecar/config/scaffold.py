"""Writes a configuration from Camunda's variables: what `init` puts into the file, and which secrets beside it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from sidecar.config.environment import FromEnvironment, from_environment
from sidecar.config.products import PRODUCTS, SAAS_TOKEN_URL
from sidecar.config.report import Path

_REST_ADDRESS = re.compile(r"https://(?P<region>[a-z0-9-]+)\.[a-z]+\.camunda\.io(?::443)?/(?P<cluster_id>[\w-]+)/?")
_GRPC_ADDRESS = re.compile(
    r"(?:grpcs://)?(?P<cluster_id>[\w-]+)\.(?P<region>[a-z0-9-]+)\.zeebe\.camunda\.io(?::443)?/?"
)
_PLAIN = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_./:@~+-]*[A-Za-z0-9_./@~+-])?")
_SPECIAL = {"null", "true", "false", "yes", "no", "on", "off", "~"}

HEADER = """\
# camunda-sidecar: programs on this host call http://127.0.0.1:8600/<route>/… with no credentials.
# `camunda-sidecar check` prints what this resolves to; every key is in docs/configuration.md.
"""


@dataclass(slots=True)
class Scaffold:
    """A configuration's text, and the files that it names."""

    text: str
    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    """Each secret by the name of the file that it goes into."""


@dataclass(frozen=True, slots=True)
class _Cluster:
    region: str
    cluster_id: str
    by_reference: bool
    """Whether both stand in the environment's variables of these very names."""


def scaffold(variables: Mapping[str, str], *, references: bool) -> Scaffold:
    """A configuration for what `variables` hold.

    Args:
        variables: Camunda's environment variables, from a file or the environment.
        references: write `${NAME}` instead of values; else values, and secrets into files.
    """
    cluster = _cluster(variables)
    found = from_environment({**_derived(variables, cluster), **variables})
    result = Scaffold("")
    lines = [HEADER]
    if cluster:
        region, cluster_id = _literal(cluster.region), _literal(cluster.cluster_id)
        if references and cluster.by_reference:
            region, cluster_id = "${CAMUNDA_CLUSTER_REGION}", "${CAMUNDA_CLUSTER_ID}"
        lines += ["saas:", _line(2, "region", region), _line(2, "cluster_id", cluster_id), ""]
    lines.append("credentials:")
    for name in found.raw["credentials"]:
        lines += [f"  {name}:", *_credential(name, found, result.secrets, references=references)]
    lines += ["", "routes:"]
    for name in found.raw["routes"]:
        lines += [f"  {name}:", *_route(name, found, variables, cluster, references=references)]
    result.text = "\n".join(lines) + "\n"
    return result


def _cluster(variables: Mapping[str, str]) -> _Cluster | None:
    """The SaaS cluster, from its own variables or from an address."""
    region, cluster_id = variables.get("CAMUNDA_CLUSTER_REGION"), variables.get("CAMUNDA_CLUSTER_ID")
    if region and cluster_id:
        return _Cluster(region, cluster_id, by_reference=True)
    for name, pattern in (("ZEEBE_REST_ADDRESS", _REST_ADDRESS), ("ZEEBE_ADDRESS", _GRPC_ADDRESS)):
        if match := pattern.fullmatch(variables.get(name, "")):
            return _Cluster(match["region"], match["cluster_id"], by_reference=False)
    return None


def _derived(variables: Mapping[str, str], cluster: _Cluster | None) -> dict[str, str]:
    """Base URLs of the SaaS cluster's APIs that the client may use, as far as it says which."""
    if cluster is None:
        return {}
    scopes = {scope.strip().lower() for scope in variables.get("CAMUNDA_CREDENTIALS_SCOPES", "").split(",")}
    named = {name for name in PRODUCTS if name in scopes}
    return {
        product.base_url_variables[0]: _saas_upstream(product.name, cluster)
        for product in PRODUCTS.values()
        if product.of_cluster and (not named or product.name in named)
    }


def _saas_upstream(product: str, cluster: _Cluster | None) -> str:
    region, cluster_id = (cluster.region, cluster.cluster_id) if cluster else ("", "")
    return PRODUCTS[product].saas_upstream.format(region=region, cluster_id=cluster_id)


def _credential(name: str, found: FromEnvironment, secrets: dict[str, str], *, references: bool) -> list[str]:
    credential = found.raw["credentials"][name]
    lines = [_line(4, "type", "client_credentials")]
    for key in ("token_url", "client_id", "client_secret"):
        value = credential.get(key)
        variable = found.names.get(("credentials", name, key))
        if variable is None or value == SAAS_TOKEN_URL:
            continue
        if references or not isinstance(value, str):
            lines.append(_line(4, key, "${" + variable + "}"))
        elif key == "client_secret":
            file = f"{name}-client-secret"
            secrets[file] = value
            lines.append(_line(4, "client_secret_file", file))
        else:
            lines.append(_line(4, key, _literal(value)))
    return lines


def _route(
    name: str, found: FromEnvironment, variables: Mapping[str, str], cluster: _Cluster | None, *, references: bool
) -> list[str]:
    route = found.raw["routes"][name]
    lines = [_line(4, "credential", str(route["credential"]))]
    defaults = {"upstream": _saas_upstream(name, cluster), "audience": PRODUCTS[name].audience}
    for key, default in defaults.items():
        value = route.get(key)
        if not isinstance(value, str) or value.rstrip("/") == default:
            continue
        path: Path = ("routes", name, key)
        by_reference = references and found.names[path] in variables
        lines.append(_line(4, key, "${" + found.names[path] + "}" if by_reference else _literal(value)))
    return lines


def _literal(value: str) -> str:
    """A value that is not to be expanded."""
    return value.replace("${", "$${")


def _line(indent: int, key: str, value: str) -> str:
    plain = (_PLAIN.fullmatch(value) or value.startswith("${")) and value.lower() not in _SPECIAL
    return f"{' ' * indent}{key}: {value if plain else json.dumps(value, ensure_ascii=False)}"
