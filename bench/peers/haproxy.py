"""HAProxy: a static Authorization header."""

from pathlib import Path

from bench.machine import output_of
from bench.peers.kind import HttpKind
from bench.processes import Command
from bench.site import BASE_PATH, HOST, NAME, Route, Site
from bench.tools import Toolbox

_BACKEND = """
backend {name}
  http-reuse always
  http-request set-path {base}/%[path,field(3,/,0)]
  http-request set-header Host {authority}
  http-request set-header Authorization "Bearer {token}"
  http-request del-header Cookie
  http-response del-header Set-Cookie
  server origin {host}:{port} pool-max-conn -1 pool-purge-delay 1h{tls}
"""

_CONFIGURATION = """
global
  nbthread {workers}
  maxconn 12000
  # Room for a token of 1 kB in a buffer that a body has filled; the default answers 500 there.
  tune.maxrewrite 4096
  no strict-limits
  ssl-server-verify required
  ssl-default-server-options ssl-min-ver TLSv1.2

defaults
  mode http
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  timeout http-keep-alive 1h

frontend local
  bind {host}:{port} backlog 4096
{uses}
{backends}"""


class HAProxy(HttpKind):
    name = "haproxy"
    label = "HAProxy"

    def __init__(self) -> None:
        self._program = Path()
        self._env: dict[str, str] = {}

    def find(self, tools: Toolbox) -> str | None:
        program = tools.debian("haproxy")
        if program is None:
            return None
        self._program, self._env = program, tools.libraries(program)
        return output_of(["env", *(f"{k}={v}" for k, v in self._env.items()), str(program), "-v"]).split()[2]

    def command(self, site: Site, directory: Path, port: int, workers: int) -> Command:
        configuration = directory / "haproxy.cfg"
        configuration.write_text(
            _CONFIGURATION.format(
                workers=workers,
                host=HOST,
                port=port,
                uses="\n".join(f"  use_backend {r.name} if {{ path_beg {r.prefix}/ }}" for r in site.routes),
                backends="".join(self._backend(site, route) for route in site.routes),
            )
        )
        return Command([str(self._program), "-q", "-db", "-f", str(configuration)], self._env)

    @staticmethod
    def _backend(site: Site, route: Route) -> str:
        return _BACKEND.format(
            name=route.name,
            base=BASE_PATH,
            authority=route.authority,
            token=site.token,
            host=HOST,
            port=route.port,
            tls=f" ssl verify required ca-file {site.ca_file} sni str({NAME}) verifyhost {NAME}" if route.tls else "",
        )
