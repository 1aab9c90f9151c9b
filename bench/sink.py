"""The origin of uploads: takes a body whole, then says how long it was and what its CRC-32 is.

Threads and blocking sockets: nothing that Python has takes in bytes faster.
"""

import json
import socket
import ssl
import sys
import threading
import zlib
from contextlib import suppress
from pathlib import Path

from bench.site import BASE_PATH, HOST

_CHUNK = 1 << 20


def _head_of(connection: socket.socket) -> tuple[list[bytes], bytes] | None:
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            return None
        data += more
    head, _, rest = data.partition(b"\r\n\r\n")
    return head.split(b"\r\n"), rest


def _field(head: list[bytes], name: bytes) -> bytes:
    return next((line.partition(b":")[2].strip() for line in head if line.lower().startswith(name + b":")), b"")


def _body(connection: socket.socket, length: int, rest: bytes, *, checksum: bool) -> tuple[int, int]:
    buffer = memoryview(bytearray(_CHUNK))
    taken, crc = len(rest), zlib.crc32(rest) if checksum else 0
    while taken < length:
        count = connection.recv_into(buffer, min(_CHUNK, length - taken))
        if not count:
            break
        taken += count
        if checksum:
            crc = zlib.crc32(buffer[:count], crc)
    return taken, crc


def _answer(status: str, body: bytes) -> bytes:
    return b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
        status.encode(),
        len(body),
        body,
    )


def _serve(connection: socket.socket, context: ssl.SSLContext | None, authorization: bytes) -> None:
    with suppress(OSError), connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream = context.wrap_socket(connection, server_side=True) if context else connection
        while (start := _head_of(stream)) is not None:
            head, rest = start
            if _field(head, b"authorization") != authorization or f" {BASE_PATH}/".encode() not in head[0]:
                stream.sendall(_answer("401 Unauthorized", b""))
                return
            length = int(_field(head, b"content-length") or b"-1")
            if length < 0:
                stream.sendall(_answer("411 Length Required", b""))
                return
            if _field(head, b"expect"):
                stream.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            taken, crc = _body(stream, length, rest, checksum=b"checksum" in head[0])
            stream.sendall(_answer("200 OK", json.dumps({"length": taken, "crc32": crc}).encode()))


def _listen(port: int, context: ssl.SSLContext | None, authorization: bytes) -> None:
    with socket.create_server((HOST, port), backlog=128) as listener:
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=_serve, args=(connection, context, authorization), daemon=True).start()


def main(facts: dict[str, str]) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(facts["certificate_file"], facts["key_file"])
    authorization = f"Bearer {facts['token']}".encode()
    threading.Thread(target=_listen, args=(int(facts["tls_port"]), context, authorization), daemon=True).start()
    _listen(int(facts["port"]), None, authorization)


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
