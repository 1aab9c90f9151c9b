"""The network that enterprises have: a CONNECT proxy with credentials, a private CA, and both at once."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme

from sidecar.credentials.probe import explain
from sidecar.errors import GrantFailedError
from tests.credentials.forward_proxy import forward_proxy
from tests.credentials.support import CountingGate, answers, credential, issuer, source, trusting


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA(organization_name="Private CA of the test")


@pytest.fixture(scope="module")
def context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    return context


@pytest.fixture
def bundle(authority: trustme.CA, tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


async def test_a_token_comes_through_a_tunnel_with_credentials(context: ssl.SSLContext, bundle: Path) -> None:
    """CONNECT with Proxy-Authorization, then TLS to the issuer inside; one slot, and `sent` once: for the request."""
    gate = CountingGate()
    async with forward_proxy("user:p@ss") as proxy, issuer(answers(), context=context) as fake:
        settings = credential(fake.url, tls=trusting(bundle), proxy=proxy.url("user:p%40ss"))
        grant = await source(settings).fetch(gate, attempts=1)
        port = fake.url.split(":")[2].split("/")[0]
    assert grant.header == b"Authorization: Bearer good-token\r\n"
    assert proxy.seen == [f"CONNECT localhost:{port} HTTP/1.1"]
    assert gate.seen == ["slot", "sent"]
    assert "proxy-authorization" not in fake.received[0].headers


async def test_a_plain_issuer_is_asked_through_the_proxy_too() -> None:
    """HTTP_PROXY for http://: the absolute form."""
    async with forward_proxy() as proxy, issuer(answers()) as fake:
        await source(credential(fake.url, proxy=proxy.url())).fetch(CountingGate(), attempts=1)
    assert proxy.seen == [f"POST {fake.url} HTTP/1.1"]


async def test_wrong_proxy_credentials_are_said_and_not_retried(context: ssl.SSLContext, bundle: Path) -> None:
    """407 is the proxy's, not the issuer's; the password is in no text."""
    gate = CountingGate()
    async with forward_proxy("user:right") as proxy, issuer(answers(), context=context) as fake:
        settings = credential(fake.url, tls=trusting(bundle), proxy=proxy.url("user:wrong"))
        with pytest.raises(GrantFailedError, match="HTTPS_PROXY") as caught:
            await source(settings).fetch(gate, attempts=3)
    assert "wrong" not in caught.value.detail
    assert gate.seen == ["slot"]
    assert fake.received == []


async def test_a_proxy_that_does_not_allow_the_issuer_is_said(context: ssl.SSLContext, bundle: Path) -> None:
    """403 from the proxy itself is no firewall's page of the issuer: nobody cools down."""
    async with forward_proxy(refuses=True) as proxy, issuer(answers(), context=context) as fake:
        settings = credential(fake.url, tls=trusting(bundle), proxy=proxy.url())
        with pytest.raises(GrantFailedError, match="answered 403 to CONNECT"):
            await source(settings).fetch(CountingGate(), attempts=3)


async def test_who_signed_is_found_through_the_tunnel(context: ssl.SSLContext) -> None:
    """The interception that the explanation is for happens at the proxy: the question must go the same way."""
    async with forward_proxy("user:p@ss") as proxy, issuer(answers(), context=context) as fake:
        settings = credential(fake.url, proxy=proxy.url("user:p%40ss"))
        with pytest.raises(GrantFailedError, match=r"signed by: .*Private CA of the test"):
            await source(settings).fetch(CountingGate(), attempts=1)
    assert fake.received == []


async def test_who_signed_is_not_known_where_nobody_answers() -> None:
    """The explanation is best effort, and never an error of its own."""
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code, error.verify_message = 20, "unable to get local issuer certificate"
    async with issuer(answers()) as gone:
        pass
    async with forward_proxy(refuses=True) as proxy:
        for url, through in ((gone.url.replace("http:", "https:"), None), ("https://localhost:9/", proxy.url())):
            assert (await explain(error, url, through)).sentence.endswith("into tls.ca_file.")
