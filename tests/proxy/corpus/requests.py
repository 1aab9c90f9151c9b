"""Every request case, in its category's order."""

from tests.proxy.corpus import (
    chunks,
    headers,
    hops,
    hosts,
    lengths,
    lines,
    origins,
    pipelines,
    policy,
    targets,
    upgrades,
)

MODULES = (lengths, lines, headers, targets, hosts, origins, hops, upgrades, chunks, pipelines, policy)
CASES = [case for module in MODULES for case in module.CASES]
