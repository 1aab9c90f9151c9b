"""The field, in the order of the tables."""

from bench.peers.aiohttp_proxy import AiohttpProxy
from bench.peers.caddy import Caddy
from bench.peers.direct import Direct
from bench.peers.envoy import Envoy
from bench.peers.haproxy import HAProxy
from bench.peers.kind import Kind
from bench.peers.nginx import Nginx
from bench.peers.relay import Relay
from bench.peers.sidecar import CompiledSidecar, Sidecar

KINDS: tuple[type[Kind], ...] = (Direct, Relay, Nginx, HAProxy, Envoy, Caddy, AiohttpProxy, Sidecar, CompiledSidecar)
