"""Clients that have to be known: TLS on the listener, certificates and secrets, and what each client may do."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trustme
from cryptography import x509

from sidecar.config.model import Certificate, Client, ListenTls
from sidecar.config.settings import Rule
from sidecar.proxy.clients import Clients
from sidecar.proxy.tls import attributes
from tests.proxy.certificates import CA, OTHER_CA, client_context, server_context
from tests.proxy.lab import Lab, echo, lab, request, until
from tests.proxy.strict import Message, Reader
from tests.proxy.support import route, settings

BILLING = base64.b64encode(b"billing:s3cr\xc3\xa9t:+%41").decode()
REPORTS = CA.issue_cert("reports@example.com", common_name="reports")
NOBODY = CA.issue_cert("nobody@example.com", common_name="nobody")


def subject(certificate: trustme.LeafCert) -> str:
    return x509.load_pem_x509_certificate(certificate.cert_chain_pems[0].bytes()).subject.rfc4514_string()


CLIENTS = {
    "billing": Client("billing", routes=("app",)),
    "reports": Client(
        "reports", certificate=Certificate(subject(REPORTS)), allow={"app": (Rule("GET", "/x"), Rule(None, "/any/*"))}
    ),
    "token-only": Client("token-only", audiences=("a",), routes=()),
    "all": Client("all"),
}
SECRETS = {"billing": "s3cr\u00e9t:+%41", "token-only": "t", "all": "a"}


def serving(**more: Any) -> contextlib.AbstractAsyncContextManager[Lab]:
    return lab(echo, clients=CLIENTS, secrets=SECRETS, **more)


@contextlib.asynccontextmanager
async def mutual(**more: Any) -> AsyncIterator[Lab]:
    """The same over TLS, with certificates of our authority alone."""
    context = server_context(clients=CA)
    async with serving(tls=context, listen_tls=ListenTls(None), **more) as it:  # type: ignore[arg-type]
        yield it


async def ask(
    it: Lab, raw: bytes, certificate: trustme.LeafCert | None = None, *, tls: bool = False, ca: trustme.CA = CA
) -> Message:
    """One request on a connection of its own."""
    context = client_context(ca) if tls or certificate else None
    if context is not None and certificate is not None:
        certificate.configure_cert(context)
    port = it.proxy.port
    host = "localhost" if context else None
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=host)
    try:
        parser = Reader(requests=False)
        writer.write(raw)
        async with asyncio.timeout(20):
            while not parser.done:
                data = await reader.read(65536)
                if not data:
                    raise ConnectionResetError
                parser.feed(data)
        return parser.done[0]
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def outcomes(it: Lab) -> dict[tuple[str, str], int]:
    return {key: count for key, count in it.proxy.stats.clients.items() if count}


@pytest.mark.parametrize(
    ("authorization", "path", "status"),
    [
        ("Basic " + BILLING, b"/app/x", 200),
        ("basic   " + BILLING, b"/app/x", 200),
        ("Basic " + BILLING, b"/elsewhere", 404),
        ("Basic " + base64.b64encode(b"billing:wrong").decode(), b"/app/x", 401),
        ("Basic " + base64.b64encode(b"nobody:s").decode(), b"/app/x", 401),
        ("Basic " + base64.b64encode(b"reports:").decode(), b"/app/x", 401),
        ("Basic " + base64.b64encode(b"token-only:t").decode(), b"/app/x", 403),
        ("Basic " + base64.b64encode(b"all:a").decode(), b"/app/x", 200),
        ("Basic x", b"/app/x", 401),
        ("Bearer x", b"/app/x", 401),
        ("", b"/app/x", 401),
        (None, b"/app/x", 401),
        (None, b"http://localhost/app/x", 401),
    ],
)
async def test_by_secret(authorization: str | None, path: bytes, status: int) -> None:
    """HTTP Basic, as it is written (RFC 7617); whoever is not known learns nothing of the routes, in no form."""
    lines = () if authorization is None else (b"Authorization: " + authorization.encode(),)
    async with serving() as it:
        answers = [await ask(it, request(b"GET", path, *lines)) for _ in range(3)]  # heads are remembered
        assert [answer.status for answer in answers] == [status] * 3
        challenge = answers[0].value(b"www-authenticate")
        assert challenge == (b'Basic realm="camunda-sidecar"' if status == 401 else None)
        assert len(it.origin.connections) == (status == 200)


@pytest.mark.parametrize(
    ("certificate", "raw", "status"),
    [
        (REPORTS, request(), 200),
        (REPORTS, request(b"POST", body=b"x"), 403),
        (REPORTS, request(b"POST", b"/app/any/1", body=b"x" * 300_000), 200),
        (REPORTS, request(b"GET", b"/app/any/1%2F2"), 403),
        (REPORTS, request(b"GET", b"/app/x", b"Authorization: Basic " + BILLING.encode()), 200),
        (REPORTS, request(b"GET", b"/app/y", b"Authorization: Basic " + BILLING.encode()), 403),
        (NOBODY, request(), 401),
        (NOBODY, request(b"GET", b"/app/y", b"Authorization: Basic " + BILLING.encode()), 200),
    ],
)
async def test_by_certificate(certificate: trustme.LeafCert, raw: bytes, status: int) -> None:
    """The certificate's subject says who it is, before any Authorization; `allow` says what it may do."""
    async with mutual() as it:
        assert (await ask(it, raw, certificate)).status == status
        assert sum(outcomes(it).values()) == 1


async def test_who_shows_no_certificate_or_a_foreign_one() -> None:
    """The handshake fails, and is told of; nothing is asked of the upstream. HTTP on this port fails as well."""
    foreign = OTHER_CA.issue_cert("reports@example.com", common_name="reports")
    async with mutual() as it:
        for certificate in (None, foreign):
            with pytest.raises((ssl.SSLError, ConnectionResetError)):
                await ask(it, request(), certificate, tls=True)
        with pytest.raises(ConnectionResetError):
            await ask(it, request())
        assert it.origin.connections == []
        assert outcomes(it) == {}


async def test_the_listeners_origin_is_https() -> None:
    """A page of the plain address is another site's."""
    async with mutual() as it:
        own = await ask(it, request(b"GET", b"/app/x", b"Origin: https://localhost"), REPORTS)
        plain = await ask(it, request(b"GET", b"/app/x", b"Origin: http://localhost"), REPORTS)
        assert (own.status, plain.status) == (200, 403)


async def test_a_refusal_before_the_end_of_a_body_arrives_over_tls() -> None:
    """The client may still be sending: it gets its answer and no reset."""
    async with mutual(route_changes={"max_body": 10}) as it:
        for _ in range(5):
            answer = await ask(it, request(b"POST", b"/app/any/1", body=b"x" * 3_000_000), REPORTS)
            assert (answer.status, answer.value(b"connection")) == (413, b"close")


async def test_a_client_that_ends_its_side_gets_its_answer() -> None:
    """A close_notify is a half-close (RFC 8446, 6.1)."""
    context, incoming, outgoing = client_context(), ssl.MemoryBIO(), ssl.MemoryBIO()
    REPORTS.configure_cert(context)
    tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    async with mutual() as it:
        reader, writer = await asyncio.open_connection("127.0.0.1", it.proxy.port)

        async def step(call: Any, *arguments: Any) -> Any:
            while True:
                try:
                    return call(*arguments)
                except ssl.SSLWantReadError:
                    writer.write(outgoing.read())
                    incoming.write(await reader.read(65536))

        await step(tls.do_handshake)
        tls.write(request())
        with contextlib.suppress(ssl.SSLWantReadError):
            tls.unwrap()
        writer.write(outgoing.read())
        async with asyncio.timeout(20):
            assert (await step(tls.read, 1000)).startswith(b"HTTP/1.1 200 OK")
        writer.close()


async def test_a_silent_handshake_ends() -> None:
    """`limits.head_timeout` holds for it, and a drain waits for it no longer than that."""
    async with mutual() as it:
        it.server.head_timeout = 0.05
        reader, writer = await asyncio.open_connection("127.0.0.1", it.proxy.port)
        async with asyncio.timeout(20):
            assert await reader.read() == b""
        writer.close()


async def test_handshakes_are_bounded() -> None:
    """As connections are: one that is too many ends before it cost anything."""
    async with mutual() as it:
        it.server._max_connections = 1
        first = await asyncio.open_connection("127.0.0.1", it.proxy.port)
        await until(lambda: it.server._shaking)
        reader, writer = await asyncio.open_connection("127.0.0.1", it.proxy.port)
        with contextlib.suppress(ConnectionResetError):
            async with asyncio.timeout(5):
                assert await reader.read() == b""
        for each in (first[1], writer):
            each.close()


@pytest.mark.parametrize(
    ("client", "audiences"),
    [
        (Client("c"), {"a", "b", None}),
        (Client("c", routes=("one",)), {"a"}),
        (Client("c", routes=()), set()),
        (Client("c", routes=("one",), allow={"two": ()}), set()),
        (Client("c", audiences=("b",), allow={"one": ()}), {"b"}),
        (Client("c", audiences=()), set()),
    ],
)
def test_default_audiences(client: Client, audiences: set[str | None]) -> None:
    """A token goes around `allow`: whoever is narrowed by it has none, unless that is said."""
    routes = (
        route("one", "http://x", audience="a"),
        route("two", "http://x", audience="b"),
        route("three", "http://x"),
    )
    clients = Clients(settings(*routes, clients={"c": client}), {})
    assert {audience for audience in ("a", "b", None) if clients.may_have("c", audience)} == audiences


@pytest.mark.parametrize(
    ("shown", "name"),
    [
        ("CN=a,O=x", "a"),
        ("O=y,CN=b", "b"),
        ("CN=b", None),
        ("CN=A,O=x", None),
        ("CN=a+O=x", "a"),
        ("CN=a,CN=c", None),
        ("O=CN\\=a", None),
        ("", None),
    ],
)
def test_subjects(shown: str, name: str | None) -> None:
    """Every attribute that the configuration names has to be there, exactly; what fits two clients is nobody's."""
    wanted = {"a": "CN=a", "b": "CN=b,O=y", "c": "CN=c"}
    known = {each: Client(each, certificate=Certificate(subject)) for each, subject in wanted.items()}
    found = Clients(settings(clients=known), {}).by_certificate(attributes(x509.Name.from_rfc4514_string(shown)))
    assert (found.name if found else None) == name
