"""Binding for several workers."""

import socket
from contextlib import ExitStack
from dataclasses import replace
from types import SimpleNamespace

from sidecar.config.settings import Limits, TcpAddress
from sidecar.errors import Mistake
from sidecar.workers.sockets import bind_listeners
from sidecar.workers.worker import share_of
from tests.config.support import MINIMAL, loaded


def settings(listen, admin):
    return SimpleNamespace(listen=listen, admin_listen=admin)


def test_one_port_for_every_worker_and_address():
    """Port 0: the first bind decides; a name with several addresses is bound to each of them, for each worker."""
    found = socket.getaddrinfo("localhost", 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    with ExitStack() as stack:
        made = bind_listeners(settings(TcpAddress("localhost", 0), TcpAddress("127.0.0.1", 0)), 3, stack)
        assert made.listen.port != 0
        assert made.admin == TcpAddress("127.0.0.1", made.admin_sockets[0].getsockname()[1])
        assert len(made.shares) == 3
        for share in made.shares:
            assert {sock.getsockname()[0] for sock in share} == {where[0] for *_, where in found}
            assert {sock.getsockname()[1] for sock in share} == {made.listen.port}


def test_the_limit_of_connections_is_for_all_together(tmp_path):
    """Each gets its share, rounded up; warnings are told once."""
    made = replace(loaded(tmp_path, MINIMAL), warnings=(Mistake("file", "key", "is weak"),))
    assert [len(share_of(made, index, 2).warnings) for index in (0, 1)] == [1, 0]
    for connections, workers, share in ((10_000, 2, 5_000), (10, 3, 4), (1, 4, 1)):
        whole = replace(made, limits=Limits(connections=connections))
        assert [share_of(whole, index, workers).limits.connections for index in range(workers)] == [share] * workers
