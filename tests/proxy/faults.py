"""Faults, each with a name: what an upstream may do to an answer, and what a client may do to its request."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.proxy.client import RawClient
from tests.proxy.lab import Lab, request
from tests.proxy.origin import OK, Answer, Connection
from tests.proxy.strict import Message

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
UNTIL_END = b"HTTP/1.1 200 OK\r\n\r\n"
TURNS = 30
"""Of the loop: enough for bytes on the loopback to arrive and be looked at."""


async def arrive() -> None:
    """What was written is with the other side, and it has looked at it."""
    for _ in range(TURNS):
        await asyncio.sleep(0)


# --- upstreams -------------------------------------------------------------------------------------------------------


def resets_after(raw: bytes) -> Answer:
    """Sends so much of an answer, then a RST."""

    async def resets(connection: Connection, _: Message) -> None:
        await connection.send(raw)
        await arrive()
        connection.reset()

    return resets


def ends_after(raw: bytes) -> Answer:
    """Sends so much of an answer, then a FIN."""

    async def ends(connection: Connection, _: Message) -> None:
        await connection.send(raw)
        await arrive()
        connection.finish()

    return ends


def hangs_after(raw: bytes) -> Answer:
    """Sends so much of an answer, and no more; the connection stays open."""

    async def hangs(connection: Connection, _: Message) -> None:
        await connection.send(raw)

    return hangs


async def resets_at_once(connection: Connection) -> None:
    """Accepts, and resets before a request could be read."""
    connection.reset()


async def ends_at_once(connection: Connection) -> None:
    """Accepts, and closes before a request could be read."""
    connection.finish()


async def never_reads(connection: Connection) -> None:
    """Accepts, and takes nothing."""
    connection.transport.pause_reading()


async def never_answers(connection: Connection) -> None:
    """Accepts, reads, and says nothing: a handshake with it never ends."""


def closes_at_reuse(how: Callable[[Connection], None]) -> Answer:
    """Answers the first request of each connection, and closes when the second comes."""

    async def closes(connection: Connection, _: Message) -> None:
        if len(connection.reader.done) == 1:
            await connection.send(OK)
        else:
            how(connection)

    return closes


def answers_early(
    raw: bytes, *, then: Callable[[Connection], None] | None = None
) -> Callable[[Connection], Awaitable[None]]:
    """Answers at the request's head, while its body still comes; may end the connection right after."""

    async def early(connection: Connection) -> None:
        while b"\r\n\r\n" not in connection.raw:
            connection.arrived.clear()
            await connection.arrived.wait()
        await connection.send(raw)
        if then is not None:
            await arrive()
            then(connection)

    return early


def drips(raw: bytes, lab: Callable[[], Lab], seconds: float) -> Answer:
    """A byte, then so much time, and so on."""

    async def dripping(connection: Connection, _: Message) -> None:
        for index in range(len(raw)):
            await connection.send(raw[index : index + 1])
            await arrive()
            await lab().passes(seconds)

    return dripping


# --- clients ---------------------------------------------------------------------------------------------------------

GET = request()
POST = request(b"POST", body=b"x" * 1000)


@dataclass(frozen=True)
class ClientFault:
    """Sends `raw` and then does `then`; the origin answers with `answer`."""

    raw: bytes
    then: Callable[[Lab, RawClient], Awaitable[None]]


async def resets(_: Lab, client: RawClient) -> None:
    """A RST."""
    await arrive()
    client.break_off()


async def leaves(_: Lab, client: RawClient) -> None:
    """Closes both ways, with a FIN: what it has not read is reset."""
    await arrive()
    client.transport.close()


async def half_closes(_: Lab, client: RawClient) -> None:
    """Sends nothing more, and reads on."""
    client.finish()


def hangs(seconds: float) -> Callable[[Lab, RawClient], Awaitable[None]]:
    """Sends nothing more, and time passes."""

    async def hanging(lab: Lab, _: RawClient) -> None:
        await arrive()
        await lab.passes(seconds)

    return hanging
