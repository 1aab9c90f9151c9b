"""TLS sessions that are resumed (RFC 8446, 2.2): cheaper, and never a way round the certificate."""

from __future__ import annotations

import ssl
from collections.abc import Iterable

import pytest

from sidecar.config.settings import Timeouts
from sidecar.proxy.tls import MAX_RESUMPTION_SECONDS, Verified, resumable
from tests.proxy.certificates import OTHER_CA, client_context, server_context
from tests.proxy.lab import Lab, lab, request, response, says
from tests.proxy.origin import Connection, Origin
from tests.proxy.test_tls import BareTls, bare

BYE = response(b"200 OK", b"Connection: close", body=b"bye")
CLOSES = says(BYE)
"""Each request needs a connection of its own."""
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


async def asked_at(it: Lab, seconds: Iterable[float]) -> list[bool]:
    """For a request at each of these times: whether the upstream resumed a session for it."""
    start = it.clock.now
    for at in seconds:
        it.clock.now = start + at
        assert (await it.ask(request())).body == b"bye"
    return [connection.transport.get_extra_info("ssl_object").session_reused for connection in it.origin.connections]


@pytest.mark.parametrize("version", VERSIONS)
async def test_the_second_handshake_is_short(version: ssl.TLSVersion) -> None:
    """A server that was verified a moment ago need not show its certificate again."""
    async with lab(
        origin=Origin(CLOSES, tls=server_context(version=version)), contexts={"app": client_context()}
    ) as it:
        assert await asked_at(it, [0, 1, 2]) == [False, True, True]


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_session_grows_old(version: ssl.TLSVersion) -> None:
    """It counts from the last look at the certificate, not from the last time that it was resumed."""
    edge = MAX_RESUMPTION_SECONDS
    async with lab(
        origin=Origin(CLOSES, tls=server_context(version=version)), contexts={"app": client_context()}
    ) as it:
        asked = await asked_at(it, [0, edge - 1, edge, edge + 1, 2 * edge, 2 * edge + 2])
        assert asked == [False, True, True, False, True, False]


async def test_a_server_that_knows_nothing_of_it() -> None:
    """Restarted, it has lost its keys: the handshake is a whole one, and nobody notices."""
    contexts = [server_context(), server_context()]
    async with lab(origin=Origin(CLOSES, tls=contexts[0]), contexts={"app": client_context()}) as it:
        assert await asked_at(it, [0]) == [False]
        await it.origin.stop()
        it.origin.tls = contexts[1]
        await it.origin.start()
        assert await asked_at(it, [1, 2]) == [False, False, True]


async def test_another_server_in_its_place_is_verified() -> None:
    """Whoever does not know the session has to show a certificate, and a wrong one ends it there."""
    impostor = server_context(OTHER_CA.issue_cert("localhost"))
    hellos: list[str | None] = []
    impostor.sni_callback = lambda _tls, name, _context: hellos.append(name)
    async with lab(origin=Origin(CLOSES, tls=server_context()), contexts={"app": client_context()}) as it:
        assert await asked_at(it, [0]) == [False]
        await it.origin.stop()
        it.origin.tls = impostor
        await it.origin.start()
        answer = await it.ask(request())
        assert (answer.status, answer.value(b"sidecar-error")) == (502, b"upstream_unreachable")
        assert len(it.origin.requests) == 1
        assert hellos == ["localhost"], "it has shown what it is, and is not asked twice"


async def test_a_server_that_breaks_off_over_it() -> None:
    """It gets a whole handshake at once, and its clients see nothing of that; what was a mishap is forgotten."""
    context = server_context()
    resumed: list[bool] = []

    async def breaks_off_once(connection: Connection) -> None:
        if len(connection.origin.connections) == 2:
            await connection.received(1)
            connection.reset()
            return
        tls = BareTls(connection, context)
        await tls.request()
        resumed.append(tls.session_reused)
        await tls.send(BYE)
        connection.finish()

    async with bare(breaks_off_once) as it:
        for _ in range(3):
            assert (await it.ask(request())).body == b"bye"
        assert len(it.origin.connections) == 4
        assert resumed == [False, False, True]


async def test_a_server_that_says_nothing_more() -> None:
    """Whoever gives up waiting for it leaves no session that the next one would offer, to wait as long."""
    context = server_context()
    resumed: list[bool] = []

    async def falls_silent_once(connection: Connection) -> None:
        if len(connection.origin.connections) == 2:
            await connection.lost
            return
        tls = BareTls(connection, context)
        await tls.request()
        resumed.append(tls.session_reused)
        await tls.send(BYE)
        connection.finish()

    async with bare(falls_silent_once, timeouts=Timeouts(connect=0.5)) as it:
        assert [(await it.ask(request())).status for _ in range(4)] == [200, 502, 200, 200]
        assert resumed == [False, False, True]


def test_when_a_session_may_be_resumed() -> None:
    """Within its time, and under the context that verified it: another one may trust somebody else."""
    context, other = client_context(), client_context()
    layer_tls = context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="localhost")
    verified = Verified(layer_tls, 1000.0)
    assert resumable(None, context, 1000.0) is None
    assert resumable(verified, context, 1000.0) is verified
    assert resumable(verified, context, 1000.0 + MAX_RESUMPTION_SECONDS) is verified
    assert resumable(verified, context, 1000.1 + MAX_RESUMPTION_SECONDS) is None
    assert resumable(verified, other, 1000.0) is None
