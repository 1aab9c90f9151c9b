"""The events that status pages are sent."""

import asyncio
import json

import pytest

from sidecar.admin import live
from sidecar.admin.status_model import RouteStatus
from sidecar.telemetry.history import Recent
from tests.admin.support import ask, connect, serving, status

HEAD = b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def opened(running):
    """A stream: its reader and writer, and its first event."""
    reader, writer = await connect(running)
    writer.write(HEAD)
    head = await reader.readuntil(b"\r\n\r\n")
    return reader, writer, head, await event(reader)


async def event(reader) -> dict:
    """The next one."""
    async with asyncio.timeout(10):
        while not (line := await reader.readline()).startswith(b"data: "):
            assert line
    return json.loads(line[6:])


async def test_a_page_gets_everything_and_then_what_is_new(monkeypatch):
    """The first event has the whole hour; those after it have the newest frames, and the status as it is then."""
    monkeypatch.setattr(live, "PACE", 0.01)
    asked, uptimes = [], iter(range(1, 1000))

    def recent(since):
        asked.append(since)
        return Recent(routes={"operate": {60_000_000: [0] * 20}})

    async with serving(status=lambda: status(uptime=float(next(uptimes))), recent=recent) as running:
        reader, writer, head, first = await opened(running)
        second = await event(reader)
        writer.close()
    assert b"content-type: text/event-stream" in head.lower()
    assert b"no-store" in head
    assert first["status"]["uptime"] < second["status"]["uptime"]
    assert first["recent"]["routes"] == {"operate": {"60000000": [0] * 20}}
    assert asked[0] == 0
    assert asked[1] > 50_000_000


async def test_pages_share_what_is_built(monkeypatch):
    """Ten open pages cost hardly more than one: each event is built once."""
    monkeypatch.setattr(live, "PACE", 0.2)
    built = []

    def counted():
        built.append(1)
        return status()

    async with serving(status=counted) as running:
        streams = [await opened(running) for _ in range(10)]
        first = len(built)
        for _ in range(3):
            await asyncio.gather(*(event(reader) for reader, *_ in streams))
        for _, writer, *_ in streams:
            writer.close()
    assert first == 10
    assert len(built) - first <= 10


async def test_pages_are_bounded_and_their_end_is_noticed():
    """One page too many is refused; as soon as one is closed, there is room."""
    async with serving(connections=100) as running:
        streams = [await opened(running) for _ in range(live.MOST_STREAMS)]
        code, fields, _ = await ask(running, "GET /events HTTP/1.1\nHost: localhost")
        assert (code, fields["sidecar-error"]) == (503, "overloaded")
        assert (await ask(running, "GET /livez HTTP/1.1\nHost: localhost"))[0] == 200
        streams[0][1].close()
        async with asyncio.timeout(10):
            while True:
                reader, writer = await connect(running)
                writer.write(HEAD)
                first = await reader.readline()
                writer.close()
                if b" 200 " in first:
                    break
        for _, writer, *_ in streams[1:]:
            writer.close()


async def test_a_page_that_does_not_read_is_cut_off(monkeypatch):
    """What it does not take is not kept for it: its connection ends."""
    monkeypatch.setattr(live, "PACE", 0.0)
    monkeypatch.setattr(live, "PATIENCE", 0.2)
    routes = tuple(RouteStatus(name="x" * 1000, prefix="/x", upstream="u" * 60_000, credential="c") for _ in range(90))
    async with serving(status=lambda: status(routes=routes)) as running:
        reader, writer = await connect(running)
        writer.write(HEAD)
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.pause_reading()
        async with asyncio.timeout(10):
            await asyncio.gather(*running._feed._tasks, return_exceptions=True)
        writer.close()


async def test_the_end_of_the_sidecar_does_not_wait_for_pages():
    """An open page holds up no drain."""
    async with serving() as running:
        reader, writer, *_ = await opened(running)
        began = asyncio.get_running_loop().time()
        await running.close()
        assert asyncio.get_running_loop().time() - began < 0.9
        assert await reader.read() is not None
        writer.close()


@pytest.mark.parametrize("path", ["/events", "/recent", "/recent?since=5", "/recent?since=x"])
async def test_it_is_guarded_as_the_status_is(path):
    """A page of another name gets none of it; HEAD has no body, and does not hang."""
    async with serving() as running:
        assert (await ask(running, f"GET {path} HTTP/1.1\nHost: evil.example"))[0] == 421
        code, _, body = await ask(running, f"HEAD {path} HTTP/1.1\nHost: localhost")
    assert (code, body) == (200, b"")


async def test_a_fault_ends_the_stream_without_a_traceback_in_it():
    """As `/status` does, it tells nothing of what went wrong inside."""

    def broken(since):
        raise RuntimeError("hunter2")

    async with serving(recent=broken) as running:
        reader, writer = await connect(running)
        writer.write(HEAD)
        assert b"hunter2" not in await reader.read()
        writer.close()
