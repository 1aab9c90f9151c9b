"""How fast the sidecar is beside nginx, HAProxy, Envoy, Caddy and two in Python: `make bench`, docs/performance.md."""
