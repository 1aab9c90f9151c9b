"""The other ends: issuers and upstreams that do as they are told, over real sockets, in threads of their own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from sidecar.demo.standin import StandIn

PATIENCE = 30.0


@dataclass
class Request:
    """One request as the peer saw it."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    at: float

    @property
    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode(), keep_blank_values=True, strict_parsing=True))

    @property
    def bearer(self) -> str | None:
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        return token if scheme == "Bearer" else None


Behaviour = Callable[[Request, socket.socket], None]


def response(status: int = 200, body: bytes | dict[str, Any] = b"", **headers: str) -> bytes:
    """A whole response; an underscore in a field's name is a hyphen."""
    content = json.dumps(body).encode() if isinstance(body, dict) else body
    fields = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    head = f"HTTP/1.1 {status} Status\r\nContent-Length: {len(content)}\r\n{fields}\r\n"
    return head.encode() + content


def says(status: int = 200, body: bytes | dict[str, Any] = b"", **headers: str) -> Behaviour:
    """Answer so."""
    whole = response(status, body, **headers)
    head = whole[: whole.index(b"\r\n\r\n") + 4]
    return lambda request, client: client.sendall(head if request.method == "HEAD" else whole)


def grants(token: str = "", **answer: Any) -> Behaviour:
    """An issuer's answer: a token that nobody else has, unless it is given; `None` leaves a member out."""
    count = iter(range(1, 1_000_000))

    def grant(_request: Request, client: socket.socket) -> None:
        members = {"access_token": token or f"token-{next(count)}", "token_type": "Bearer", "expires_in": 3600} | answer
        client.sendall(
            response(200, {k: v for k, v in members.items() if v is not None}, Content_Type="application/json")
        )

    return grant


def refuses(status: int = 401, error: str = "access_denied", description: str = "Unauthorized") -> Behaviour:
    """An issuer's refusal (RFC 6749, 5.2)."""
    return says(status, {"error": error, "error_description": description}, Content_Type="application/json")


class Hang:
    """Say nothing until told to; `entered` tells that a request is here."""

    def __init__(self, then: Behaviour | None = None) -> None:
        self.entered = threading.Semaphore(0)
        self.release = threading.Event()
        self._then = then

    def __call__(self, request: Request, client: socket.socket) -> None:
        self.entered.release()
        self.release.wait(PATIENCE)
        if self._then is not None:
            self._then(request, client)

    def wait_for_one(self) -> None:
        assert self.entered.acquire(timeout=PATIENCE), "no request came"


def resets(_request: Request, client: socket.socket) -> None:
    """Break off."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    socket.close(client.detach())  # close() alone waits for the stream that reads from it


class Peer:
    """An HTTP server of a few lines: keeps every request that came, answers by `behaviour`, which may be replaced."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.requests: list[Request] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._clients: set[socket.socket] = set()
        self._news = threading.Condition()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._clients.add(client)
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client, client.makefile("rb") as stream:
            while request := _read(stream, client):
                with self._news:
                    self.requests.append(request)
                    self._news.notify_all()
                self.behaviour(request, client)
        self._clients.discard(client)

    def wait_for(self, count: int) -> None:
        """Until so many requests have come."""
        with self._news:
            assert self._news.wait_for(lambda: len(self.requests) >= count, PATIENCE), f"{len(self.requests)} came"

    def close(self) -> None:
        """Gone: from now on the port refuses."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for client in list(self._clients):
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)


def _arrived(client: socket.socket) -> float:
    """When the kernel took the last bytes, in monotonic seconds: this thread may have its turn a good deal later."""
    info = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    (milliseconds,) = struct.unpack_from("=I", info, 52)  # linux/tcp.h: tcpi_last_data_recv
    return time.monotonic() - milliseconds / 1000


def _read(stream: Any, client: socket.socket) -> Request | None:
    first = stream.readline().decode("latin-1").split()
    if len(first) != 3:
        return None
    headers: dict[str, str] = {}
    while line := stream.readline().decode("latin-1").rstrip("\r\n"):
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while size := int(stream.readline(), 16):
            body += stream.read(size)
            stream.readline()
        stream.readline()
    else:
        body = stream.read(int(headers.get("content-length", 0)))
    return Request(first[0], first[1], headers, body, _arrived(client))


@contextlib.contextmanager
def peer(behaviour: Behaviour) -> Iterator[Peer]:
    running = Peer(behaviour)
    try:
        yield running
    finally:
        running.close()


@contextlib.contextmanager
def standin(interval: float = 1.0) -> Iterator[StandIn]:
    """The embedded Camunda on a loop and a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def call(coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(PATIENCE)

    camunda = StandIn(interval)
    call(camunda.start())
    try:
        yield camunda
    finally:
        call(camunda.close())
        loop.call_soon_threadsafe(loop.stop)
        thread.join(PATIENCE)
        loop.close()


@contextlib.contextmanager
def request_under_way(start):
    """A request that its upstream has not answered yet: sidecar, upstream's gate, the future answer.

    `start` gives a sidecar whose route `api` leads to the URL that it is given.
    """
    hang = Hang(says(200, b"finished"))
    with peer(hang) as upstream, start(upstream.url) as sidecar, ThreadPoolExecutor() as pool:
        try:
            future = pool.submit(sidecar.ask, "/api/slow")
            hang.wait_for_one()
            yield sidecar, hang, future
        finally:
            hang.release.set()
