"""What the client credentials grant sends, and what it makes of the answer, over real sockets."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from pathlib import Path
from urllib.parse import unquote_plus

import pytest
import trustme
from blockbuster import blockbuster_ctx

from sidecar.errors import GrantInterruptedError, GrantRefusedError, GrantThrottledError
from sidecar.secret import Secret, SecretSource
from tests.credentials import pki
from tests.credentials.support import (
    Behaviour,
    CountingGate,
    FakeIssuer,
    answers,
    credential,
    hangs,
    issuer,
    resets,
    source,
    trusting,
)


async def test_the_secret_travels_in_the_form_with_audience_and_scope() -> None:
    """`client_secret_post`, the default: everything is in a form body, and the grant is the issuer's token."""
    async with issuer(answers()) as fake:
        settings = credential(fake.url, scope="a b", resource="urn:x", extra={"tenant": "t"})
        grant = await source(settings).fetch(CountingGate(), attempts=1)
    assert grant.header == b"Authorization: Bearer good-token\r\n"
    assert grant.lifetime == 3600.0
    (request,) = fake.received
    assert (request.method, request.target) == ("POST", "/oauth/token")
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    assert request.form == {
        "grant_type": "client_credentials",
        "client_id": "the-client",
        "client_secret": "the secret/+=&é",
        "audience": "operate.camunda.io",
        "scope": "a b",
        "resource": "urn:x",
        "tenant": "t",
    }


async def test_json_body_without_an_audience() -> None:
    """Camunda SaaS documents a JSON body; a self-managed Web Modeler has no audience at all."""
    async with issuer(answers()) as fake:
        await source(credential(fake.url, request_format="json"), None).fetch(CountingGate(), attempts=1)
    (request,) = fake.received
    assert request.headers["content-type"] == "application/json"
    assert json.loads(request.body) == {
        "grant_type": "client_credentials",
        "client_id": "the-client",
        "client_secret": "the secret/+=&é",
    }


async def test_basic_authentication_encodes_both_parts_first() -> None:
    """RFC 6749, 2.3.1: id and secret are form-encoded, then joined, then Base64; neither is in the body."""
    async with issuer(answers()) as fake:
        settings = credential(fake.url, client_authentication="basic", client_id="a:b c")
        await source(settings).fetch(CountingGate(), attempts=1)
    (request,) = fake.received
    scheme, _, encoded = request.headers["authorization"].partition(" ")
    identity, _, secret = base64.b64decode(encoded).decode().partition(":")
    assert scheme == "Basic"
    assert (unquote_plus(identity), unquote_plus(secret)) == ("a:b c", "the secret/+=&é")
    assert request.form == {"grant_type": "client_credentials", "audience": "operate.camunda.io"}


async def test_every_attempt_takes_its_slot_and_says_when_it_was_sent() -> None:
    """No attempt is uncounted: aiohttp-retry's repetitions pass the gate as the first one does."""
    gate = CountingGate()
    async with issuer(resets, answers(b"", status=503), answers()) as fake:
        await source(credential(fake.url)).fetch(gate, attempts=3)
    assert gate.seen == ["slot", "sent", "slot", "sent", "slot", "sent"]
    assert len(fake.received) == 3


async def test_one_attempt_is_one_attempt() -> None:
    """A background refresh makes one attempt; its repetition is the lifecycle's decision."""
    gate = CountingGate()
    async with issuer(answers(b"", status=503), answers()) as fake:
        with pytest.raises(GrantInterruptedError, match="answered 503"):
            await source(credential(fake.url)).fetch(gate, attempts=1)
    assert gate.seen == ["slot", "sent"]


async def test_a_hanging_issuer_costs_the_timeout_and_no_more() -> None:
    """The attempt's own limit ends it, and the next attempt may succeed."""
    async with issuer(hangs, answers()) as fake:
        grant = await source(credential(fake.url), timeout=0.2).fetch(CountingGate(), attempts=2)
    assert grant.lifetime == 3600.0


class SlowGate(CountingGate):
    """A budget in which every slot is longer away than an attempt may last."""

    async def slot(self) -> None:
        await asyncio.sleep(0.3)
        await super().slot()


async def test_waiting_for_a_slot_is_no_part_of_the_attempts_time() -> None:
    """`token_requests.timeout` starts after the slot."""
    async with issuer(answers()) as fake:
        await source(credential(fake.url), timeout=0.2).fetch(SlowGate(), attempts=1)
    assert len(fake.received) == 1


async def test_a_refusal_is_never_retried_and_says_what_to_do() -> None:
    """400 to 403 with an OAuth error: one request, the issuer's own code, who and for what."""
    body = b'{"error":"access_denied","error_description":"Unauthorized"}'
    async with issuer(answers(body, status=401)) as fake:
        with pytest.raises(GrantRefusedError) as caught:
            await source(credential(fake.url)).fetch(CountingGate(), attempts=3)
    assert caught.value.oauth_error == "access_denied"
    assert "Credential cluster for audience operate.camunda.io" in caught.value.detail
    assert "deleted" in caught.value.detail
    assert "the secret" not in caught.value.detail
    assert len(fake.received) == 1


async def test_429_is_never_retried_and_carries_retry_after() -> None:
    """The cool-down is the token core's; the attempt only reports what the issuer said."""
    async with issuer(answers(b"slow", status=429, Retry_After="17")) as fake:
        with pytest.raises(GrantThrottledError) as caught:
            await source(credential(fake.url)).fetch(CountingGate(), attempts=3)
    assert caught.value.retry_after == 17.0
    assert len(fake.received) == 1


def quotes_what_it_received(fake: FakeIssuer) -> Behaviour:
    """Refuses with the whole request in the error's description."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = fake.received[-1]
        said = f"{request.body.decode()} {request.headers.get('authorization', '')}"
        await answers(json.dumps({"error": "invalid_client", "error_description": said}).encode(), status=401)(
            reader, writer
        )

    return behave


@pytest.mark.parametrize("authentication", ["body", "basic", "private_key_jwt"])
@pytest.mark.parametrize("request_format", ["form", "json"])
async def test_an_issuer_that_quotes_what_it_was_sent_tells_no_secret(authentication: str, request_format: str) -> None:
    """Neither the secret, nor a signed assertion, nor a field of one's own gets into a log by what the issuer says."""
    async with issuer(hangs) as fake:
        fake.script = [quotes_what_it_received(fake)]
        settings = credential(
            fake.url,
            client_secret=SecretSource(value=Secret("S3cr3t/+=&é-canary")),
            client_authentication=authentication,
            request_format=request_format,
            private_key=SecretSource(value=Secret(pki.key_pem(pki.new_key("rsa")).decode())),
            extra={"api_key": "field-of-ones-own"},
        )
        with pytest.raises(GrantRefusedError) as caught:
            await source(settings).fetch(CountingGate(), attempts=1)
    assert "***" in caught.value.detail
    assert "client_credentials" in caught.value.detail, "the rest of it is told"
    encoded = base64.b64encode(b"the-client:S3cr3t").decode()
    for secret in ("S3cr3t", "canary", "field-of", "eyJ", encoded[-8:]):
        assert secret not in caught.value.detail


@pytest.mark.parametrize("authentication", ["body", "private_key_jwt"])
async def test_nothing_blocks_the_event_loop(authentication: str, tmp_path: Path) -> None:
    """Files, certificates and keys are read before, or in a thread; an attempt itself only waits."""
    authority = trustme.CA()
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    key = SecretSource(value=Secret(pki.key_pem(pki.new_key("rsa")).decode()))
    async with issuer(answers(b"", status=503), answers(), context=context) as fake:
        settings = credential(fake.url, tls=trusting(bundle), client_authentication=authentication, private_key=key)
        ready = source(settings)
        with blockbuster_ctx("sidecar"):
            await ready.fetch(CountingGate(), attempts=2)
    assert len(fake.received) == 2
