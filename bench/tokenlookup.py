"""Time what the data plane does for a credential on every request: `Authorizer.current()` with a fresh token.

`python -m bench.tokenlookup FACTS.json`, with token_url and client_secret; the token comes from the real issuer path.
"""

import asyncio
import json
import os
import sys
import tempfile
import timeit
from pathlib import Path

import yaml

from sidecar.clock import SystemClock
from sidecar.config import load
from sidecar.listeners import bound
from sidecar.service import Service

_TIMES = 1_000_000


async def _measure(facts: dict[str, str], directory: Path) -> float:
    path = directory / "config.yaml"
    credential = {
        "type": "client_credentials",
        "token_url": facts["token_url"],
        "client_id": "bench-client",
        "client_secret": facts["client_secret"],
    }
    route = {"upstream": "http://127.0.0.1:9", "credential": "bench", "audience": "bench.example"}
    store = {"type": "file", "directory": str(directory / "store")}
    path.write_text(
        yaml.safe_dump({"credentials": {"bench": credential}, "routes": {"r": route}, "token_store": store})
    )
    settings = load(path, os.environ)
    with bound(settings) as [listeners]:
        service = Service(settings, lambda: settings, SystemClock(), listeners)
        await service._tokens.start()  # noqa: SLF001 (measured from inside, without a request around it)
        authorizer = service._authorizers(settings, service._credentials)["r"]  # noqa: SLF001
        await authorizer.obtain()
        current = authorizer.current
        if current() is None:
            sys.exit("no token is at hand after obtaining one")
        empty = min(timeit.repeat("f()", globals={"f": lambda: None}, number=_TIMES, repeat=5))
        spent = min(timeit.repeat("f()", globals={"f": current}, number=_TIMES, repeat=5))
        await service.close()
    print(json.dumps({"nanoseconds": spent / _TIMES * 1e9, "empty_call": empty / _TIMES * 1e9}))
    return spent


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        asyncio.run(_measure(json.loads(Path(sys.argv[1]).read_text()), Path(name)))
