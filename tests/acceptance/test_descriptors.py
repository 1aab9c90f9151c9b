"""A process that may have few file descriptors, and more clients than it has descriptors for."""

from __future__ import annotations

import contextlib
import socket

import pytest

from tests.acceptance.peers import peer, says
from tests.acceptance.support import PATIENCE, ask, ending, plain, spawn, until, write

UNREACHABLE = "limits.connections cannot be reached with this process's file descriptors: raise their limit"
REQUEST = b"GET /api/x HTTP/1.1\r\nHost: localhost\r\n\r\n"


def few_descriptors(command: list[str]) -> list[str]:
    """Run it with so few that they are soon used up."""
    return ["/bin/sh", "-c", 'ulimit -n 256; exec "$@"', "sh", *command]


def connect(stack: contextlib.ExitStack, address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    return stack.enter_context(socket.create_connection((host, int(port)), PATIENCE))


def answer(client: socket.socket) -> bytes:
    """What comes back, the end included."""
    try:
        return client.recv(65536)
    except ConnectionResetError:
        return b""


@pytest.mark.parametrize("workers", ["1", "2"])
def test_clients_cannot_take_the_last_descriptor(tmp_path, workers):
    """The admin listener answers, idle clients that come to life are served, and one line says that it is full."""
    file = tmp_path / "config.yaml"
    with peer(says(200, b"ok")) as upstream, contextlib.ExitStack() as stack:
        write(file, plain(tmp_path, upstream.url))
        sidecar = spawn("run", "--config", str(file), "--workers", workers, file=file, wrap=few_descriptors)
        stack.enter_context(ending(sidecar))
        warned = sidecar.logged(UNREACHABLE)
        assert warned["in_force"] < 256
        sidecar.started()
        clients = [connect(stack, sidecar.address) for _ in range(400 * int(workers))]
        until(lambda: sidecar.operate("/readyz").status == 200, "it is ready")
        assert sidecar.operate("/livez").status == 200
        assert sidecar.operate("/metrics").status == 200
        for client in clients:
            with contextlib.suppress(OSError):
                client.sendall(REQUEST)
        answers = [answer(client) for client in clients]
        served = [each for each in answers if each.startswith(b"HTTP/1.1 200 ")]
        refused = [each for each in answers if b"Sidecar-Error: overloaded" in each]
        assert len(served) == warned["in_force"] * int(workers)
        assert refused
        for client in clients:
            client.close()
        until(lambda: ask(sidecar.address, "/api/x").status == 200, "there is room again")
        assert sidecar.end() == 0
        said = [line for line in sidecar.events if line["event"] == "connections are refused"]
        assert len(said) == int(workers)
