import asyncio
import json
import socket

import pytest

from sidecar.admin.client import AdminError, NotRunningError, get, get_status
from sidecar.admin.readiness import Readiness
from sidecar.config.settings import TcpAddress, UnixAddress
from tests.admin.support import serving, status


async def answering(raw: bytes):
    """A server that sends `raw` to whoever connects."""

    async def answer(reader, writer):
        writer.write(raw)
        if raw:
            await reader.read(1)
        writer.close()

    return await asyncio.start_server(answer, "127.0.0.1", 0)


async def test_the_status_travels_whole(tmp_path):
    """What the server says is what the commands read, over TCP and over a Unix socket."""
    for listen in (TcpAddress("127.0.0.1", 0), UnixAddress(tmp_path / "admin.sock")):
        async with serving(listen) as running:
            assert await asyncio.to_thread(get_status, running.address) == status()


async def test_a_wildcard_address_is_asked_on_loopback():
    """0.0.0.0 is where it listens, not where one can connect."""
    async with serving(TcpAddress("0.0.0.0", 0)) as running:
        assert await asyncio.to_thread(get_status, running.address) == status()


async def test_readiness_is_a_status_code():
    """`get` gives the code and the reason as they are."""
    async with serving(readiness=Readiness("listeners")) as running:
        assert await asyncio.to_thread(get, running.address, "/readyz") == (503, b"waiting for: listeners\n")


async def test_nobody_there_says_so_and_how_to_cure_it(tmp_path):
    """A refused connection, a missing socket and an empty answer are: not running."""
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    closing = await answering(b"")
    ports = [sock.getsockname()[1] for sock in (bound, *closing.sockets)]
    for address in (UnixAddress(tmp_path / "none.sock"), *(TcpAddress("127.0.0.1", port) for port in ports)):
        with pytest.raises(NotRunningError) as caught:
            await asyncio.to_thread(get_status, address)
        assert str(address) in caught.value.detail
        assert "camunda-sidecar run" in caught.value.hint
    closing.close()
    bound.close()


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "not HTTP"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno", "with 404."),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "no sidecar's status"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", "no sidecar.s status"),
    ],
)
async def test_another_program_there_is_no_sidecar(raw, said):
    """Somebody else's port ends in a message, not in a traceback."""
    server = await answering(raw)
    address = TcpAddress("127.0.0.1", server.sockets[0].getsockname()[1])
    with pytest.raises(AdminError, match=said):
        await asyncio.to_thread(get_status, address, timeout=2.0)
    server.close()


async def test_a_refusal_is_told_with_its_detail():
    """A problem document's detail reaches the person."""
    detail = json.dumps({"detail": "Host is not a local name."}).encode()
    head = b"HTTP/1.1 421 X\r\nContent-Length: %d\r\n\r\n" % len(detail)
    server = await answering(head + detail)
    with pytest.raises(AdminError, match=r"421: Host is not a local name\."):
        await asyncio.to_thread(get_status, TcpAddress("127.0.0.1", server.sockets[0].getsockname()[1]))
    server.close()


def test_port_zero_cannot_be_asked():
    """A port that only the sidecar knows is a configuration that these commands cannot use."""
    with pytest.raises(AdminError, match="name a port"):
        get(TcpAddress("127.0.0.1", 0), "/livez")
