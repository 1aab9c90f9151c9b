"""Issue by issue what a broken issuer does to one fetch: each fault by its name, over a real socket."""

from __future__ import annotations

import socket
import ssl
import threading
from pathlib import Path

import pytest
import trustme

from sidecar.errors import GrantError, GrantFailedError, GrantInterruptedError, GrantThrottledError
from tests.credentials.support import (
    GOOD,
    Behaviour,
    CountingGate,
    answers,
    credential,
    drips,
    hangs,
    interrupts,
    issuer,
    resets,
    sends,
    source,
    trusting,
)

BIG = b'{"access_token":"' + b"x" * (1 << 20) + b'"}'
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\n"
GZIPPED_NOISE = answers(b"not gzip at all", Content_Encoding="gzip")

FAULTS: dict[str, tuple[Behaviour, type[GrantError]]] = {
    "hang": (hangs, GrantInterruptedError),
    "slow drip": (drips(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n" + b" " * 9999), GrantInterruptedError),
    "slow drip in the head": (drips(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 999), GrantInterruptedError),
    "reset": (resets, GrantInterruptedError),
    "closed without an answer": (sends(b""), GrantInterruptedError),
    "closed in the head": (sends(b"HTTP/1.1 200 OK\r\nConte"), GrantInterruptedError),
    "closed in the body": (sends(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n" + GOOD[:20]), GrantInterruptedError),
    "chunked and cut": (sends(CHUNKED + b"ffff\r\n" + GOOD), GrantInterruptedError),
    "not HTTP": (sends(b"SSH-2.0-OpenSSH_9.6\r\n"), GrantInterruptedError),
    "a head without end": (
        sends(b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 100_000 + b"\r\n\r\n"),
        GrantInterruptedError,
    ),
    "very many header fields": (
        sends(b"HTTP/1.1 200 OK\r\n" + b"Set-Cookie: a=b\r\n" * 5000 + b"Content-Length: 0\r\n\r\n"),
        GrantInterruptedError,
    ),
    "a head of megabytes": (
        sends(b"HTTP/1.1 200 OK\r\n" + (b"X: " + b"y" * 60_000 + b"\r\n") * 50 + b"Content-Length: 0\r\n\r\n"),
        GrantInterruptedError,
    ),
    "redirect": (answers(status=307, Location="http://localhost:1/elsewhere"), GrantFailedError),
    "200 with HTML": (answers(b"<html>Welcome</html>", content_type="text/html"), GrantThrottledError),
    "truncated JSON": (answers(GOOD[:-5]), GrantInterruptedError),
    "huge body": (answers(BIG), GrantInterruptedError),
    "huge body in chunks": (
        sends(CHUNKED + b"".join(b"10000\r\n" + b"x" * 0x10000 + b"\r\n" for _ in range(8))),
        GrantInterruptedError,
    ),
    "wrong encoding": (GZIPPED_NOISE, GrantInterruptedError),
    "no access_token": (answers(b'{"token_type":"Bearer"}'), GrantInterruptedError),
    "empty access_token": (answers(b'{"access_token":""}'), GrantInterruptedError),
    "numeric access_token": (answers(b'{"access_token":12345}'), GrantInterruptedError),
    "multi-line access_token": (answers(b'{"access_token":"a\\r\\nX-Evil: 1"}'), GrantInterruptedError),
    "token_type mac": (answers(b'{"access_token":"a","token_type":"mac"}'), GrantInterruptedError),
    "expires_in zero": (answers(b'{"access_token":"a","expires_in":0}'), GrantInterruptedError),
    "expires_in negative": (answers(b'{"access_token":"a","expires_in":-60}'), GrantInterruptedError),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_fails_the_fetch_with_its_own_error(fault: str) -> None:
    """Every fault ends in an error of the tree, in the time of its attempts, and with the secret in no text."""
    behaviour, error = FAULTS[fault]
    gate = CountingGate()
    async with issuer(behaviour) as fake:
        with pytest.raises(GrantError) as caught:
            await source(credential(fake.url), timeout=0.3).fetch(gate, attempts=2)
    assert type(caught.value) is error
    assert "the secret" not in caught.value.detail
    assert "Evil" not in caught.value.detail
    tries = 2 if error is GrantInterruptedError else 1
    assert len(fake.received) == tries, "only what may be better next time is tried again"
    assert gate.seen == ["slot", "sent"] * tries


@pytest.mark.parametrize("fault", [name for name, (_, error) in FAULTS.items() if error is GrantInterruptedError])
async def test_a_transient_fault_is_forgotten_by_the_next_attempt(fault: str) -> None:
    """After the last fault ends, service returns: at once."""
    async with issuer(FAULTS[fault][0], answers()) as fake:
        grant = await source(credential(fake.url), timeout=0.3).fetch(CountingGate(), attempts=2)
    assert grant.header == b"Authorization: Bearer good-token\r\n"


@pytest.mark.parametrize(
    ("expires_in", "lifetime"),
    [
        (b"null", 60.0),
        (b'"3600"', 3600.0),
        (b'"soon"', 60.0),
        (b"1e999", 86400.0),
        (b"99999999", 86400.0),
        (b"[]", 60.0),
    ],
)
async def test_odd_lifetimes_are_understood(expires_in: bytes, lifetime: float) -> None:
    """A missing, null or odd lifetime counts as a minute, and none is longer than a day; through the wire."""
    async with issuer(answers(b'{"access_token":"a","expires_in":' + expires_in + b"}")) as fake:
        grant = await source(credential(fake.url)).fetch(CountingGate(), attempts=1)
    assert grant.lifetime == lifetime


async def test_header_fields_may_be_as_large_as_in_the_data_plane() -> None:
    """A long Content-Security-Policy beside hundreds of cookies: nothing that a token request should fail of."""
    large = answers(Content_Security_Policy="x" * 40_000)
    many = sends(
        b"HTTP/1.1 200 OK\r\n" + b"Set-Cookie: name=value; Path=/\r\n" * 500 + b"Content-Length: 69\r\n\r\n" + GOOD
    )
    for behaviour in (large, many):
        async with issuer(behaviour) as fake:
            grant = await source(credential(fake.url)).fetch(CountingGate(), attempts=1)
        assert grant.lifetime == 3600.0


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (b"X: " + b"y" * 70_000 + b"\r\n", "65536 bytes in one line"),
        (b"X: y\r\n" * 2000, "1000 header fields"),
        ((b"X: " + b"y" * 30_000 + b"\r\n") * 3, "65536 bytes in its answer"),
    ],
)
async def test_a_head_that_is_too_large_is_said_with_the_size(fields: bytes, said: str) -> None:
    """And with the key of the configuration that has it."""
    async with issuer(sends(b"HTTP/1.1 200 OK\r\n" + fields + b"Content-Length: 0\r\n\r\n")) as fake:
        with pytest.raises(GrantInterruptedError, match=rf"{said}.*limits\.header_bytes"):
            await source(credential(fake.url)).fetch(CountingGate(), attempts=1)


async def test_503_with_retry_after_is_left_alone_for_so_long() -> None:
    """Between the two attempts of one fetch, and for everybody else: the pause goes to the budget."""
    gate = CountingGate()
    async with issuer(answers(b"", status=503, Retry_After="7"), answers()) as fake:
        await source(credential(fake.url)).fetch(gate, attempts=2)
    assert gate.seen == ["slot", "sent", "postponed 7", "slot", "sent"]


async def test_the_secret_does_not_follow_a_redirect() -> None:
    """307 would repeat the body, secret and all, wherever it points."""
    async with issuer(answers()) as thief, issuer(answers(status=307, Location=thief.url)) as fake:
        with pytest.raises(GrantFailedError, match="never followed with a secret"):
            await source(credential(fake.url)).fetch(CountingGate(), attempts=3)
    assert thief.received == []


async def test_a_refused_connection_is_said_and_retried() -> None:
    """aiohttp-retry's defaults would not retry it; the slots are taken, and nothing was sent."""
    gate = CountingGate()
    async with issuer(answers()) as fake:
        pass
    with pytest.raises(GrantInterruptedError, match="refuses connections"):
        await source(credential(fake.url)).fetch(gate, attempts=3)
    assert gate.seen == ["slot"] * 3


async def test_a_name_that_does_not_resolve_is_said() -> None:
    """`.invalid` never exists (RFC 6761)."""
    with pytest.raises(GrantInterruptedError, match="cannot be resolved"):
        await source(credential("http://issuer.invalid/token")).fetch(CountingGate(), attempts=1)


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA(organization_name="Intercepting Firewall", organization_unit_name="Inspection CA")


def server_context(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return context


async def test_an_own_ca_bundle_is_trusted(authority: trustme.CA, tmp_path: Path) -> None:
    """`tls.ca_file` of the credential, with a certificate for the issuer's name."""
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    async with issuer(answers(), context=server_context(authority, "localhost")) as fake:
        grant = await source(credential(fake.url, tls=trusting(bundle))).fetch(CountingGate(), attempts=1)
    assert grant.lifetime == 3600.0


async def test_an_untrusted_certificate_is_told_from_a_refused_connection(authority: trustme.CA) -> None:
    """It names who signed it: that is how an intercepting firewall is found out. And it is not retried."""
    gate = CountingGate()
    async with issuer(answers(), context=server_context(authority, "localhost")) as fake:
        with pytest.raises(GrantFailedError, match=r"not trusted.*tls\.ca_file") as caught:
            await source(credential(fake.url)).fetch(gate, attempts=3)
    assert "Intercepting Firewall" in caught.value.detail
    assert gate.seen == ["slot"]
    assert fake.received == []


async def test_a_certificate_for_another_name_is_said(authority: trustme.CA, tmp_path: Path) -> None:
    """A wrong URL, or somebody in between."""
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    async with issuer(answers(), context=server_context(authority, "other.example")) as fake:
        with pytest.raises(GrantFailedError, match="for another name"):
            await source(credential(fake.url, tls=trusting(bundle))).fetch(CountingGate(), attempts=3)
    assert fake.received == []


async def test_tls_against_a_plain_port_is_said() -> None:
    """A URL with https:// for a port that speaks HTTP."""
    async with issuer(interrupts(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as fake:
        with pytest.raises(GrantFailedError, match="does not speak TLS"):
            await source(credential(fake.url.replace("http:", "https:"))).fetch(CountingGate(), attempts=1)


async def test_a_look_up_that_hangs_keeps_no_thread_of_the_executor(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process waits for the executor's threads when it ends; names are looked up in threads that it does not."""
    threads: list[threading.Thread] = []

    def look_up(host: str, port: int) -> list[tuple[object, ...]]:
        threads.append(threading.current_thread())
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)

    monkeypatch.setattr("sidecar.dial.look_up", look_up)
    async with issuer(answers()) as fake:
        await source(credential(fake.url)).fetch(CountingGate(), attempts=1)
    assert [thread.daemon for thread in threads] == [True]
