"""Large bodies by blocking sockets: `python -m bench.bulk FACTS.json` with port, base, headers, direction, count.

The first transfer is not timed: it checks the content, by CRC-32. Those that follow check the length.
"""

import json
import socket
import sys
import time
import zlib
from contextlib import suppress
from pathlib import Path

from bench.site import BIG, HOST

_CHUNK = 1 << 20
_PATTERN = bytes(range(256)) * 4096


def expected_checksum() -> int:
    crc, left = 0, BIG
    while left:
        part = _PATTERN[:left]
        crc, left = zlib.crc32(part, crc), left - len(part)
    return crc


def read_answer(connection: socket.socket, buffer: memoryview, *, checksum: bool) -> tuple[int, int, bytes]:
    """The body's length, its checksum, and, where one buffer holds it, the body itself.

    Raises:
        OSError: the answer is not whole, or is not 200.
    """
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(_CHUNK)
        if not more:
            raise ConnectionError(f"closed inside a head: {data[:200]!r}")
        data += more
    head, _, first = data.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200 "):
        raise OSError(f"not 200: {head[:200]!r} {first[:200]!r}")
    fields = {
        name.strip().lower(): value.strip()
        for name, _, value in (line.partition(b":") for line in head.split(b"\r\n")[1:])
    }
    length, taken = int(fields[b"content-length"]), len(first)
    crc = zlib.crc32(first) if checksum else 0
    small = bytearray(first)
    while taken < length:
        count = connection.recv_into(buffer)
        if not count:
            raise ConnectionError(f"closed after {taken} of {length} bytes")
        if checksum:
            crc = zlib.crc32(buffer[:count], crc)
        if length <= _CHUNK:
            small += buffer[:count]
        taken += count
    return taken, crc, bytes(small)


class Client:
    """Transfers over one connection."""

    def __init__(self, facts: dict[str, object]) -> None:
        port = int(str(facts["port"]))
        self._base = str(facts["base"])
        fixed = {"Host": f"{HOST}:{port}"} | dict(facts["headers"])  # type: ignore[call-overload]
        self._lines = "".join(f"{name}: {value}\r\n" for name, value in fixed.items())
        self._connection = socket.create_connection((HOST, port), timeout=60)
        self._buffer = memoryview(bytearray(_CHUNK))

    def down(self, *, checksum: bool) -> None:
        self._connection.sendall(f"GET {self._base}/big HTTP/1.1\r\n{self._lines}\r\n".encode())
        length, crc, _ = read_answer(self._connection, self._buffer, checksum=checksum)
        _must_be(length, crc, checksum=checksum)

    def up(self, *, checksum: bool) -> None:
        path = f"{self._base}/{'checksum' if checksum else 'big'}"
        head = f"PUT {path} HTTP/1.1\r\n{self._lines}Content-Length: {BIG}\r\n\r\n"
        self._connection.sendall(head.encode())
        left = BIG
        view = memoryview(_PATTERN)
        # An answer that comes before the whole body was sent is the reason why sending fails.
        with suppress(ConnectionError):
            while left:
                part = view[: min(left, len(view))]
                self._connection.sendall(part)
                left -= len(part)
        _, _, body = read_answer(self._connection, self._buffer, checksum=False)
        told = json.loads(body)
        _must_be(told["length"], told["crc32"], checksum=checksum)


def _must_be(length: int, crc: int, *, checksum: bool) -> None:
    if length != BIG or (checksum and crc != expected_checksum()):
        raise OSError(f"{length} bytes with CRC {crc:x} instead of {BIG}")


def main(facts: dict[str, object]) -> dict[str, object]:
    client = Client(facts)
    transfer = client.down if facts["direction"] == "down" else client.up
    if facts["checksum"]:
        transfer(checksum=True)
    start = time.perf_counter()
    for _ in range(int(str(facts["count"]))):
        transfer(checksum=False)
    return {"seconds": time.perf_counter() - start}


if __name__ == "__main__":
    try:
        print(json.dumps(main(json.loads(Path(sys.argv[1]).read_text()))))
    except OSError as error:
        sys.exit(f"{type(error).__name__}: {error}")
