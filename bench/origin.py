"""The origin: an nginx of its own, which answers 200 only to the right token under the right path, and counts.

Its answers are a small JSON body, the same for any path, and one file of 100 MB.
"""

import re
from pathlib import Path

from bench.fetch import fetch
from bench.machine import has_ipv6
from bench.peers.kind import Target
from bench.processes import Command
from bench.site import BASE_PATH, HOST, SMALL, Site

_CONFIGURATION = """
daemon off;
master_process off;
pid {directory}/pid;
error_log stderr warn;
worker_rlimit_nofile 20000;
events {{ worker_connections 19000; }}
http {{
  access_log off;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  keepalive_requests 1000000000;
  keepalive_timeout 1h;
  client_max_body_size 0;
  large_client_header_buffers 4 16k;
  sendfile on;
  ssl_certificate {certificate_file};
  ssl_certificate_key {key_file};
  ssl_protocols TLSv1.2 TLSv1.3;
  ssl_session_cache shared:sessions:10m;
  server {{
{listens}
    location = /count {{ stub_status; }}
    location {base}/ {{
      if ($http_authorization != "Bearer {token}") {{ return 401 "the token is missing or wrong"; }}
      default_type application/json;
      # What Camunda's own answers carry; the trace comes back, so that answers differ where requests do.
      add_header Cache-Control "no-cache, no-store, max-age=0, must-revalidate";
      add_header X-Content-Type-Options nosniff;
      add_header X-Frame-Options SAMEORIGIN;
      add_header Trace-Response $http_traceparent;
      return 200 '{small}';
    }}
    location = {base}/big {{
      if ($http_authorization != "Bearer {token}") {{ return 401 "the token is missing or wrong"; }}
      default_type application/octet-stream;
      alias {big};
    }}
  }}
}}
"""


def command(site: Site, program: Path, env: dict[str, str], directory: Path, big: Path) -> Command:
    """Write the configuration for the routes that lead to this origin."""
    hosts = [HOST, "[::1]"] if has_ipv6() else [HOST]
    listens = [
        f"    listen {host}:{site.route(name).port}{' ssl' if site.route(name).tls else ''} backlog=4096;"
        for name in ("plain", "tls")
        for host in hosts
    ]
    configuration = directory / "origin.conf"
    configuration.write_text(
        _CONFIGURATION.format(
            directory=directory,
            certificate_file=site.certificate_file,
            key_file=site.key_file,
            listens="\n".join(listens),
            base=BASE_PATH,
            token=site.token,
            small=SMALL.decode(),
            big=big,
        )
    )
    return Command([str(program), "-e", "stderr", "-p", str(directory), "-c", str(configuration)], env)


def parse_count(text: str) -> int:
    """How many requests nginx has handled, from its stub_status page."""
    found = re.search(r"^ \d+ \d+ (\d+)", text, re.MULTILINE)
    if found is None:
        message = f"not nginx's stub_status: {text[:80]!r}"
        raise ValueError(message)
    return int(found.group(1))


def count(site: Site) -> int:
    """How many requests have reached the origin; asking is one of them."""
    return parse_count(fetch(Target(site.route("plain").port, "", {}), "GET", "/count").body.decode())
