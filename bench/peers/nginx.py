"""nginx: a static Authorization header."""

from pathlib import Path

from bench.machine import output_of
from bench.peers.kind import HttpKind
from bench.processes import Command
from bench.site import BASE_PATH, HOST, NAME, Route, Site
from bench.tools import Toolbox

_UPSTREAM = """
  upstream {name} {{
    server {host}:{port};
    keepalive 1024;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
  }}"""

_LOCATION = """
    location {prefix}/ {{
      proxy_pass {scheme}://{name}{base}/;
      proxy_set_header Host {authority};
      proxy_set_header Connection "";
      proxy_set_header Authorization "Bearer {token}";
      proxy_set_header Cookie "";
      proxy_hide_header Set-Cookie;
    }}"""

_CONFIGURATION = """
daemon off;
pid {directory}/pid;
error_log stderr warn;
worker_processes {workers};
worker_rlimit_nofile {files};
events {{ worker_connections {connections}; }}
http {{
  access_log off;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  client_max_body_size 0;
  keepalive_requests 1000000000;
  keepalive_timeout 1h;
  # nginx's default tells of 8 kB buffers; with these it is at its best with large bodies.
  proxy_buffers 8 64k;
  proxy_buffer_size 16k;
  proxy_busy_buffers_size 128k;
  proxy_max_temp_file_size 0;
  proxy_request_buffering off;
  client_body_buffer_size 128k;
  proxy_http_version 1.1;
  proxy_ssl_verify on;
  proxy_ssl_verify_depth 2;
  proxy_ssl_trusted_certificate {ca_file};
  proxy_ssl_server_name on;
  proxy_ssl_name {name};
  proxy_ssl_protocols TLSv1.2 TLSv1.3;{upstreams}
  server {{
    listen {host}:{port} backlog=4096 reuseport;{locations}
  }}
}}
"""


class Nginx(HttpKind):
    name = "nginx"
    label = "nginx"

    def __init__(self) -> None:
        self._program = Path()
        self._env: dict[str, str] = {}

    def find(self, tools: Toolbox) -> str | None:
        program = tools.debian("nginx")
        if program is None:
            return None
        self._program, self._env = program, tools.libraries(program)
        return output_of([str(program), "-v"]).partition("nginx/")[2]

    def command(self, site: Site, directory: Path, port: int, workers: int) -> Command:
        configuration = directory / "nginx.conf"
        configuration.write_text(
            _CONFIGURATION.format(
                directory=directory,
                workers=workers,
                files=20_000,
                connections=19_000,
                ca_file=site.ca_file,
                name=NAME,
                host=HOST,
                port=port,
                upstreams="".join(_UPSTREAM.format(name=r.name, host=HOST, port=r.port) for r in site.routes),
                locations="".join(self._location(site, route) for route in site.routes),
            )
        )
        return Command(
            [str(self._program), "-e", "stderr", "-p", str(directory), "-c", str(configuration)],
            self._env,
        )

    @staticmethod
    def _location(site: Site, route: Route) -> str:
        return _LOCATION.format(
            prefix=route.prefix,
            scheme="https" if route.tls else "http",
            name=route.name,
            base=BASE_PATH,
            authority=route.authority,
            token=site.token,
        )
