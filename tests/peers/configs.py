"""nginx, HAProxy and Envoy, each told as well as it can be to do the sidecar's job for the corpus's world."""

from __future__ import annotations

import json
from pathlib import Path

NGINX = """
daemon off;
pid {directory}/pid;
error_log stderr crit;
worker_processes 1;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  large_client_header_buffers 4 32k;
  client_header_timeout 1s;
  client_body_timeout 1s;
  merge_slashes off;
  proxy_http_version 1.1;
  proxy_request_buffering off;
  proxy_buffering off;
  map $http_upgrade $up {{ default ""; "~*^websocket$" websocket; }}
  map $http_upgrade $hop {{ default ""; "~*^websocket$" upgrade; }}
  map "$http_origin|$http_host" $foreign_origin {{ default 1; "~^[|]" 0; "~^http://([^|]+)[|]\\1$" 0; }}
  map $http_sec_fetch_site $foreign_site {{ default 1; "" 0; none 0; same-origin 0; }}
  map $uri $token {{
    default "";
    /optimize/api/readyz "";
    ~^/operate(/|$) "Bearer TOKEN-OPERATE";
    ~^/console(/|$) "Bearer TOKEN-CONSOLE";
    ~^/optimize(/|$) "Bearer TOKEN-OPTIMIZE";
  }}
  upstream origin {{ server 127.0.0.1:{origin}; keepalive 16; }}
  server {{ listen 127.0.0.1:{port} default_server; return 421; }}
  server {{
    listen 127.0.0.1:{port};
    server_name localhost 127.0.0.1 [::1];
    if ($foreign_origin) {{ return 403; }}
    if ($foreign_site) {{ return 403; }}
    proxy_set_header Host 127.0.0.1:{origin};
    # Here only: a location with a proxy_set_header of its own would inherit none of these.
    proxy_set_header Authorization $token;
    proxy_set_header Connection $hop;
    proxy_set_header Upgrade $up;
    proxy_set_header Cookie "";
    proxy_set_header Forwarded "";
    proxy_set_header X-Real-IP "";
    proxy_set_header TE "";
    proxy_set_header Trailer "";
    proxy_set_header Keep-Alive "";
    proxy_set_header HTTP2-Settings "";
    proxy_set_header Proxy-Authorization "";
    proxy_set_header Proxy-Authenticate "";
    proxy_set_header Proxy-Connection "";
    proxy_set_header X-Forwarded-For "";
    proxy_set_header X-Forwarded-Host "";
    proxy_set_header X-Forwarded-Proto "";
    proxy_set_header X-Forwarded-Port "";
    proxy_set_header X-Forwarded-Prefix "";
{overrides}
    proxy_hide_header Set-Cookie;
    client_max_body_size 0;
    location = /operate {{ proxy_pass http://origin/op/base; }}
    location /operate/ {{ proxy_pass http://origin/op/base/; }}
    location = /console {{ proxy_pass http://origin/; }}
    location /console/ {{ proxy_pass http://origin/; }}
    location = /optimize/api/readyz {{
      limit_except GET {{ deny all; }}
      proxy_pass http://origin/opt/api/readyz;
    }}
    location /optimize/api/public/ {{
      client_max_body_size 1k;
      limit_except GET POST {{ deny all; }}
      proxy_pass http://origin/opt/api/public/;
    }}
    location = /op {{ proxy_pass http://origin/base; }}
    location /op/ {{ proxy_pass http://origin/base/; }}
    location /optimize {{ return 403; }}
    location / {{ return 404; }}
  }}
}}
"""

_OVERRIDES = (
    *("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "X-Original-URL", "X-Rewrite-URL"),
    *("X-Original-Host", "X-Host"),
)
_GONE = (
    *("Authorization", "Cookie", "Forwarded", "X-Real-IP", "X_Real_IP", "X-Real_IP", "HTTP2-Settings", "Trailer"),
    *("Proxy-Connection",),
)

HAPROXY = """
global
  nbthread 1
  maxconn 1000
  tune.bufsize 65536
defaults
  mode http
  timeout connect 5s
  timeout client 1s
  timeout server 5s
  timeout http-request 1s
frontend local
  bind 127.0.0.1:{port}
  acl local hdr(host),host_only -i localhost 127.0.0.1 ::1 [::1]
  acl origin_there req.hdr(origin) -m found
  acl origin_ours var(txn.want),strcmp(txn.origin) eq 0
  http-request set-var(txn.origin) req.fhdr(origin)
  http-request set-var(txn.want) req.fhdr(host),regsub(^,http://)
  http-request deny deny_status 501 if {{ method CONNECT TRACE }}
  http-request deny deny_status 400 if {{ path,url_dec -m reg '(^|/)\\.\\.?(;[^/]*)?(/|$)' }}
  http-request deny deny_status 400 if {{ path,url_dec,url_dec -m reg '(^|/)\\.\\.?(;[^/]*)?(/|$)' }}
  http-request deny deny_status 400 if {{ path,url_dec -m reg '[\\x00-\\x1f\\x7f\\\\]' }}
  http-request deny deny_status 421 unless local
  http-request deny deny_status 403 if origin_there !origin_ours
  acl site_there req.fhdr(sec-fetch-site) -m found
  acl site_ours req.fhdr(sec-fetch-site) -m str none same-origin
  http-request deny deny_status 403 if site_there !site_ours
{gone}
  http-request del-header ^x[-_]forwarded[-_] -m reg
  http-request del-header ^proxy[-_] -m reg
  http-request del-header ^x.(http.method|(http.)?method.override|(original|rewrite).(url|host)|host|real.ip)$ -m reg
  http-request del-header Upgrade unless {{ req.hdr(upgrade) -m str -i websocket }}
  http-request del-header TE
  http-request del-header Keep-Alive
  http-response del-header Set-Cookie
  http-response del-header Sidecar-Error
  acl narrow path /optimize
  acl narrow path_beg /optimize/
  acl readyz path /optimize/api/readyz
  http-request deny deny_status 403 if narrow !readyz !{{ path_beg /optimize/api/public/ }}
  http-request deny deny_status 403 if narrow !readyz !{{ method GET HEAD POST }}
  http-request deny deny_status 403 if readyz !{{ method GET HEAD }}
  http-request deny deny_status 413 if narrow {{ req.hdr_val(content-length) gt 1024 }}
  use_backend operate if {{ path /operate }} or {{ path_beg /operate/ }}
  use_backend console if {{ path /console }} or {{ path_beg /console/ }}
  use_backend mirror if {{ path /op }} or {{ path_beg /op/ }}
  use_backend readyz if readyz
  use_backend optimize if narrow
  default_backend none
backend none
  http-request deny deny_status 404
{backends}
"""

_BACKEND = """
backend {name}
  http-reuse always
  http-request set-uri {base}%[pathq,regsub(^{prefix},{root})]
  http-request set-header Host 127.0.0.1:{origin}
  {token}
  server origin 127.0.0.1:{origin}
"""


def nginx(directory: Path, port: int, origin: int) -> list[str]:
    """The arguments after the program."""
    path = directory / "nginx.conf"
    overrides = "\n".join(f'    proxy_set_header {name} "";' for name in _OVERRIDES)
    path.write_text(NGINX.format(directory=directory, port=port, origin=origin, overrides=overrides))
    return ["-e", "stderr", "-p", str(directory), "-c", str(path)]


def haproxy(directory: Path, port: int, origin: int) -> list[str]:
    """The arguments after the program."""
    routes = (
        ("operate", "/operate", "/op/base", "TOKEN-OPERATE"),
        ("console", "/console", "", "TOKEN-CONSOLE"),
        ("optimize", "/optimize", "/opt", "TOKEN-OPTIMIZE"),
        ("readyz", "/optimize", "/opt", ""),
        ("mirror", "/op", "/base", ""),
    )
    backends = [
        _BACKEND.format(
            name=name,
            prefix=prefix if base else f"{prefix}/?",
            root="" if base else "/",
            base=base,
            origin=origin,
            token=f'http-request set-header Authorization "Bearer {token}"' if token else "",
        )
        for name, prefix, base, token in routes
    ]
    gone = "\n".join(f"  http-request del-header {name}" for name in _GONE)
    path = directory / "haproxy.cfg"
    path.write_text(HAPROXY.format(port=port, gone=gone, backends="".join(backends)))
    return ["-q", "-db", "-f", str(path)]


_TYPES = "type.googleapis.com/envoy.extensions"


def _route(prefix: str, base: str, token: str, authority: str) -> list[dict]:
    action = {"cluster": "origin", "host_rewrite_literal": authority, "timeout": "5s"}
    headers = [{"header": {"key": "authorization", "value": f"Bearer {token}"}, "append_action": 2}] if token else []
    gone = ["cookie", "forwarded", "x-real-ip", "proxy-authorization", "http2-settings", "trailer", "te"]
    gone += [name.lower() for name in _OVERRIDES]
    gone += ["x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-forwarded-proto", "x-forwarded-prefix"]
    common = {
        "request_headers_to_remove": [*gone, *([] if token else ["authorization"])],
        "response_headers_to_remove": ["set-cookie", "sidecar-error"],
        "request_headers_to_add": headers,
    }
    return [
        {"match": {"path_separated_prefix": prefix}, "route": {**action, "prefix_rewrite": base}, **common},
    ]


def _foreign(name: str, pattern: str) -> dict:
    """403 where the field is there and does not match."""
    header = {"name": name, "string_match": {"safe_regex": {"regex": pattern}}, "invert_match": True}
    return {"match": {"prefix": "/", "headers": [header]}, "direct_response": {"status": 403}}


def envoy(directory: Path, port: int, origin: int) -> list[str]:
    """The arguments after the program."""
    authority = f"127.0.0.1:{origin}"
    routes = [
        *_route("/operate", "/op/base", "TOKEN-OPERATE", authority),
        *_route("/console", "/", "TOKEN-CONSOLE", authority),
        *_route("/optimize/api/public", "/opt/api/public", "TOKEN-OPTIMIZE", authority),
        *_route("/optimize/api/readyz", "/opt/api/readyz", "", authority),
        *_route("/op", "/base", "", authority),
        {"match": {"prefix": "/optimize"}, "direct_response": {"status": 403}},
        {"match": {"prefix": "/"}, "direct_response": {"status": 404}},
    ]
    pattern = r"http://(localhost|127\.0\.0\.1|\[::1\])(:[0-9]+)?"
    foreign = [_foreign("origin", pattern), _foreign("sec-fetch-site", "none|same-origin")]
    local = ["localhost", "localhost:*", "127.0.0.1", "127.0.0.1:*", "[::1]", "[::1]:*"]
    hosts = [
        {"name": "local", "domains": local, "routes": [*foreign, *routes]},
        {
            "name": "foreign",
            "domains": ["*"],
            "routes": [{"match": {"prefix": "/"}, "direct_response": {"status": 421}}],
        },
    ]
    manager = {
        "@type": f"{_TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "local",
        "codec_type": "HTTP1",
        "normalize_path": True,
        "merge_slashes": False,
        "path_with_escaped_slashes_action": "REJECT_REQUEST",
        "use_remote_address": False,
        "skip_xff_append": True,
        "max_request_headers_kb": 64,
        "request_headers_timeout": "1s",
        "common_http_protocol_options": {"headers_with_underscores_action": "REJECT_REQUEST"},
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{_TYPES}.filters.http.router.v3.Router", "suppress_envoy_headers": True},
            }
        ],
        "route_config": {"virtual_hosts": hosts},
    }
    address = {"socket_address": {"address": "127.0.0.1", "port_value": origin}}
    cluster = {
        "name": "origin",
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {
            "cluster_name": "origin",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
    }
    listener = {
        "name": "local",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }
    path = directory / "envoy.json"
    path.write_text(json.dumps({"static_resources": {"listeners": [listener], "clusters": [cluster]}}))
    return ["-c", str(path), "--concurrency", "1", "--disable-hot-restart", "--log-level", "critical"]
