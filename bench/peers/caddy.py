"""Caddy: a static Authorization header."""

from pathlib import Path

from bench.machine import output_of
from bench.peers.kind import HttpKind
from bench.processes import Command
from bench.site import BASE_PATH, HOST, NAME, Route, Site
from bench.tools import Toolbox

_HANDLE = """
	handle_path {prefix}/* {{
		rewrite * {base}{{uri}}
		reverse_proxy {host}:{port} {{
			flush_interval -1
			header_up Host {authority}
			header_up Authorization "Bearer {token}"
			header_up -Cookie
			header_down -Set-Cookie
			transport http {{
				keepalive 1h
				keepalive_idle_conns 0
				keepalive_idle_conns_per_host 1024
				compression off{tls}
			}}
		}}
	}}"""

_TLS = """
				tls
				tls_server_name {name}
				tls_trusted_ca_certs {ca_file}"""

_CONFIGURATION = """{{
	admin off
	auto_https off
	log default {{
		level ERROR
	}}
}}
http://:{port} {{
	bind {host}{handles}
}}
"""


class Caddy(HttpKind):
    name = "caddy"
    label = "Caddy"

    def __init__(self) -> None:
        self._program = Path()

    def find(self, tools: Toolbox) -> str | None:
        program = tools.debian("caddy")
        if program is None:
            return None
        self._program = program
        return output_of([str(program), "version"]).split()[0]

    def command(self, site: Site, directory: Path, port: int, workers: int) -> Command:
        configuration = directory / "Caddyfile"
        handles = "".join(self._handle(site, route) for route in site.routes)
        configuration.write_text(_CONFIGURATION.format(port=port, host=HOST, handles=handles))
        home = {name: str(directory) for name in ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME")}
        argv = [str(self._program), "run", "--config", str(configuration), "--adapter", "caddyfile"]
        return Command(argv, home | {"GOMAXPROCS": str(workers)})

    @staticmethod
    def _handle(site: Site, route: Route) -> str:
        return _HANDLE.format(
            prefix=route.prefix,
            base=BASE_PATH,
            host=HOST,
            port=route.port,
            authority=route.authority,
            token=site.token,
            tls=_TLS.format(name=NAME, ca_file=site.ca_file) if route.tls else "",
        )
