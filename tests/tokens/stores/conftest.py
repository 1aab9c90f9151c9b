"""One Redis server for a run of the tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.tokens.stores.support import redis_server


@pytest.fixture(scope="session")
def redis_port(tmp_path_factory) -> Iterator[int]:
    """The server's port."""
    with redis_server(tmp_path_factory.mktemp("redis")) as port:
        yield port
