"""One request at a time, for checks: what the load's own answers are compared with."""

import http.client
import ssl
from dataclasses import dataclass

from bench.peers.kind import Target
from bench.processes import BenchError
from bench.site import HOST, NAME, SMALL


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes
    head_length: int
    """Bytes of the head, as a client counts them."""


def fetch(
    target: Target,
    method: str,
    path: str,
    *,
    headers: dict[str, str] | None = None,
    body: bytes | None = None,
    ca_file: str | None = None,
    timeout: float = 30.0,
) -> Answer:
    """
    Raises:
        OSError: no connection, or it broke.
    """
    if target.tls:
        context = ssl.create_default_context(cafile=ca_file)
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            NAME, target.port, timeout=timeout, context=context
        )
    else:
        connection = http.client.HTTPConnection(HOST, target.port, timeout=timeout)
    try:
        connection.request(method, target.base + path, body=body, headers=target.headers | (headers or {}))
        response = connection.getresponse()
        lines = [f"{name}: {value}" for name, value in response.getheaders()]
        head = f"HTTP/1.1 {response.status} {response.reason}\r\n" + "".join(f"{line}\r\n" for line in lines) + "\r\n"
        return Answer(response.status, response.read(), len(head.encode("latin-1")))
    except http.client.HTTPException as error:
        raise OSError(f"not a whole answer: {error!r}") from error
    finally:
        connection.close()


def check_small(who: str, answer: Answer) -> None:
    """
    Raises:
        BenchError: it is not the origin's small answer.
    """
    if answer.status != 200:
        raise BenchError(f"{who} answered {answer.status}: {answer.body[:300]!r}")
    if answer.body != SMALL:
        raise BenchError(f"{who}: the body is not the origin's: {answer.body[:300]!r}")
