"""Each kind of store, opened; and a Redis server where one can be found."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sidecar.config import settings
from sidecar.credentials.tls import client_context
from sidecar.secret import Secret, SecretSource
from sidecar.tokens.stores.redis import RedisStore
from tests import needs


@contextmanager
def redis_server(directory: Path, *more: str, port: int | None = None) -> Iterator[int]:
    """A server of its own, that keeps nothing; its port."""
    port = port or free_port()
    server = subprocess.Popen([*redis_command(directory, port), *more], stdout=subprocess.DEVNULL)
    try:
        answers(port)
        yield port
    finally:
        server.kill()
        server.wait()


def redis_command(directory: Path, port: int) -> list[str]:
    """What starts one."""
    program = needs.program("redis-server", "valkey-server", package="redis-server")
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(directory)]
    return [program, *options]


def free_port() -> int:
    """One that nobody listens at."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def redis_store(port: int, clock, database: int = 0, *, counted: bool = True, **keys) -> RedisStore:
    """A client of that server; `keys` are of `token_store`."""
    url = f"redis://127.0.0.1:{port}/{database}"
    return RedisStore(configured(**{"url": url, **keys}), clock, client_context, counted=counted)


def configured(url: str | None = None, **keys) -> settings.RedisStore:
    """Such a `token_store`."""
    return settings.RedisStore(url=None if url is None else SecretSource(value=Secret(url)), **keys)


def answers(port: int) -> None:
    """Wait until it does."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                if connection.recv(64).startswith(b"+PONG"):
                    return
        except OSError:
            time.sleep(0.01)
    raise AssertionError("the Redis server does not answer")
