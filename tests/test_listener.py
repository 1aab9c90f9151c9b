"""Binding: every address of a name, one port for several processes, Unix sockets; whatever is in use stays so."""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path

import pytest

from sidecar.config.settings import Address, TcpAddress, UnixAddress
from sidecar.errors import ListenError
from sidecar.listener import listening, reserved


def refusal(address: Address, count: int = 1) -> ListenError:
    """Why the address cannot be listened on."""
    with pytest.raises(ListenError) as raised, listening("listen", address, count):
        pass
    return raised.value


@pytest.mark.parametrize("count", [1, 3])
def test_one_port_for_every_process_and_address(count: int) -> None:
    """Port 0: the first bind decides; a name with several addresses is bound to each of them, for each process."""
    found = socket.getaddrinfo("localhost", 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    with listening("listen", TcpAddress("localhost", 0), count) as listeners:
        port = listeners[0].address.port
        assert port != 0
        assert [listener.address for listener in listeners] == [TcpAddress("localhost", port)] * count
        for listener in listeners:
            assert {sock.getsockname()[0] for sock in listener.sockets} == {where[0] for *_, where in found}
            assert {sock.getsockname()[1] for sock in listener.sockets} == {port}
        assert len({sock.fileno() for listener in listeners for sock in listener.sockets}) == count * len(found)


def test_an_address_of_a_family_that_is_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """`localhost` may have one in /etc/hosts: the others are enough, and none is an error."""
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    nowhere = (socket.AF_INET, None, None, None, ("192.0.2.1", 0))
    found = [nowhere, (socket.AF_INET, None, None, None, ("127.0.0.1", 0))]
    with listening("listen", TcpAddress("name", 0)) as [listener]:
        assert [sock.getsockname()[0] for sock in listener.sockets] == ["127.0.0.1"]
    found = [nowhere]
    assert "Cannot assign requested address" in refusal(TcpAddress("name", 0)).detail


@pytest.mark.parametrize("count", [1, 2])
def test_a_port_in_use(count: int) -> None:
    """It is not shared with whoever has it, another sidecar's workers included; the error names key and address."""
    with listening("listen", TcpAddress("127.0.0.1", 0), 2) as [first, _]:
        error = refusal(first.address, count)
        assert error.detail == f"listen: {first.address} cannot be listened on: Address already in use."
        assert error.taken == str(first.address)
    with listening("listen", first.address, count):
        pass


def test_a_name_that_is_none() -> None:
    """The resolver's reason is told."""
    assert refusal(TcpAddress("name.invalid", 0)).detail.startswith("listen: name.invalid:0 cannot be listened on: ")


# --- Unix sockets ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2])
def test_a_unix_socket(tmp_path: Path, count: int) -> None:
    """Created 0660 whatever the process's mask is, shared by all processes, and removed at the end."""
    path = tmp_path / "proxy.sock"
    before = os.umask(0o027)
    try:
        with listening("listen", UnixAddress(path), count) as listeners:
            assert stat.S_IMODE(path.stat().st_mode) == 0o660
            assert len({listener.sockets for listener in listeners}) == 1
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)
    assert not path.exists()


def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    """What a killed sidecar left behind does not keep the next one from starting."""
    path = tmp_path / "proxy.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    with listening("listen", UnixAddress(path)), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_a_socket_in_use_is_not_taken_away(tmp_path: Path) -> None:
    """The second sidecar fails, and the first goes on."""
    path = tmp_path / "proxy.sock"
    with listening("listen", UnixAddress(path)):
        assert "another process is listening on it" in refusal(UnixAddress(path)).detail
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))


def test_a_socket_that_may_not_be_asked_is_somebodys(tmp_path: Path) -> None:
    """One of another type, such as a log daemon's, refuses to be connected to; it stays."""
    path = tmp_path / "log"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as daemon:
        daemon.bind(str(path))
        assert "another process is listening on it" in refusal(UnixAddress(path)).detail
    assert path.is_socket()


@pytest.mark.parametrize("kind", ["file", "directory", "link"])
def test_what_is_no_socket_is_not_removed(tmp_path: Path, kind: str) -> None:
    """A mistyped path costs nobody a file."""
    path, target = tmp_path / "proxy.sock", tmp_path / "target"
    if kind == "file":
        path.write_text("precious")
    elif kind == "directory":
        path.mkdir()
    else:
        target.write_text("precious")
        path.symlink_to(target)
    refusal(UnixAddress(path))
    assert path.is_symlink() or path.exists()
    if kind != "directory":
        assert path.read_text() == "precious"


def test_a_reserved_address() -> None:
    """Nobody is connected to what only holds it; when it is served, it is taken, as a listener's is."""
    with reserved("grpc.listen", TcpAddress("127.0.0.1", 0)) as address, socket.socket() as server:
        with socket.socket() as client:
            assert client.connect_ex((address.host, address.port)) == errno.ECONNREFUSED
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        server.bind((address.host, address.port))
        server.listen()
        for _ in range(20):
            with socket.create_connection((address.host, address.port)), server.accept()[0]:
                pass
        with pytest.raises(ListenError) as raised, reserved("grpc.listen", address):
            pass
        assert raised.value.detail == f"grpc.listen: {address} cannot be listened on: Address already in use."
        assert "in use" in refusal(address).detail
