"""What `init` writes from Camunda's variables: a configuration, and files with secrets beside it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from sidecar.config.environment import from_environment
from sidecar.config.products import PRODUCTS, SAAS_GRPC, SAAS_TOKEN_URL
from sidecar.config.report import Path, Report

_REST = r"https://(?P<region>[a-z0-9-]+)\.[a-z]+\.camunda\.io(?::443)?/(?P<id>[\w-]+)(?:/v2)?/?"
_ADDRESSES = {
    "CAMUNDA_REST_ADDRESS": _REST,
    "ZEEBE_REST_ADDRESS": _REST,
    "ZEEBE_ADDRESS": r"(?:grpcs://)?(?P<id>[\w-]+)\.(?P<region>[a-z0-9-]+)\.zeebe\.camunda\.io(?::443)?/?",
}
"""Addresses on Camunda SaaS that have a cluster's region and id in them."""

_SECRETS = {"client_secret", "password", "token"}

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


def scaffold(variables: Mapping[str, str], report: Report, *, references: bool) -> Scaffold:
    """Make a configuration of what `variables` hold.

    Args:
        variables: Camunda's environment variables, from a file or the environment.
        report: gets the mistakes and the warnings.
        references: write `${NAME}` instead of values; else values, and secrets into files.

    Raises:
        ConfigurationError: the variables contradict each other, or hold too little.
    """
    import yaml  # noqa: PLC0415 (only `init` needs this)

    raw = from_environment({**_cluster(variables), **variables}, report)
    if not raw["credentials"]:
        cure = "name the credentials file from the Console, or set the variables"
        report.mistake((), "holds no client: no variable such as CAMUNDA_CLIENT_ID or ZEEBE_CLIENT_ID is set", cure)
    report.finish()
    result = Scaffold(HEADER)

    def written(path: Path, value: str) -> tuple[str, str]:
        """Return the key and the value as they are written."""
        key, variable = str(path[-1]), report.names.get(path, "")
        if references and variable in variables and key != "type":
            return key, f"${{{variable}}}"
        if key in _SECRETS:
            file = f"{path[1]}-{key.replace('_', '-')}"
            result.secrets[file] = value
            return f"{key}_file", file
        return key, value.replace("${", "$${")

    def entry(path: Path, values: Mapping[str, str]) -> dict[str, str]:
        defaults = _defaults(path, raw.get("saas", {}))
        return dict(
            written((*path, key), value) for key, value in values.items() if value.rstrip("/") != defaults.get(key)
        )

    sections: dict[str, object] = {"saas": entry(("saas",), raw["saas"])} if "saas" in raw else {}
    for section in ("credentials", "routes"):
        sections[section] = {name: entry((section, name), values) for name, values in raw[section].items()}
    if "grpc" in raw:
        sections["grpc"] = entry(("grpc",), raw["grpc"])
    for name, content in sections.items():
        result.text += "\n" + yaml.safe_dump({name: content}, sort_keys=False, allow_unicode=True, width=1000)
    return result


def _cluster(variables: Mapping[str, str]) -> dict[str, str]:
    """Return region and id of the cluster on Camunda SaaS, from an address that has both."""
    for name, pattern in _ADDRESSES.items():
        if match := re.fullmatch(pattern, variables.get(name, "")):
            return {"CAMUNDA_CLUSTER_REGION": match["region"], "CAMUNDA_CLUSTER_ID": match["id"]}
    return {}


def _defaults(path: Path, saas: Mapping[str, str]) -> dict[str, str]:
    """Return the values that need not be written."""
    if path[0] not in {"routes", "grpc"}:
        return {"token_url": SAAS_TOKEN_URL}
    product = PRODUCTS["zeebe" if path[0] == "grpc" else str(path[1])]
    template = SAAS_GRPC if path[0] == "grpc" else product.saas_upstream
    region, cluster_id = saas.get("region", ""), saas.get("cluster_id", "")
    return {"upstream": template.format(region=region, cluster_id=cluster_id), "audience": product.audience}
