"""Client authentication against a server that really checks it: oidc-provider on Node.js."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import Encoding
from joserfc.jwk import RSAKey

from sidecar.config.settings import Tls
from sidecar.credentials.token_response import jwt_claims
from sidecar.errors import GrantFailedError, GrantRefusedError
from sidecar.secret import Secret, SecretSource
from sidecar.tokens.grant import Grant
from tests.credentials import pki
from tests.credentials.oidc import oidc_provider
from tests.credentials.support import CountingGate, credential, source

SECRET = "a secret/with:everything+in=it&%25~!"
RESOURCE = "urn:operate"
KEY = pki.new_key("rsa")
CERTIFICATE = pki.certificate(KEY)
THUMBPRINT = base64.urlsafe_b64encode(hashlib.sha256(CERTIFICATE.public_bytes(Encoding.DER)).digest())


@dataclass
class Server:
    """Where it is, and what a client needs for it."""

    url: str
    folder: Path

    @property
    def token_url(self) -> str:
        return f"{self.url}/token"

    @property
    def tls(self) -> Tls:
        return Tls(ca_file=self.folder / "ca.pem")

    def mutual(self, name: str) -> Tls:
        return Tls(self.folder / "ca.pem", self.folder / f"{name}.pem", self.folder / f"{name}.key")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("oidc")
    authority, foreign = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    own = authority.issue_cert("localhost")
    for name, signer, subject in (
        ("client", authority, "client.example"),
        ("other", authority, "other.example"),
        ("foreign", foreign, "client.example"),
    ):
        issued = signer.issue_cert(subject)
        issued.private_key_pem.write_to_path(str(folder / f"{name}.key"))
        issued.cert_chain_pems[0].write_to_path(str(folder / f"{name}.pem"))
    pki.write(folder / "signing.pem", pki.pem(CERTIFICATE))
    options = {
        "clients": [
            {"client_id": "post", "client_secret": SECRET, "token_endpoint_auth_method": "client_secret_post"},
            {"client_id": "ba:s ic", "client_secret": SECRET, "token_endpoint_auth_method": "client_secret_basic"},
            {
                "client_id": "signed",
                "token_endpoint_auth_method": "private_key_jwt",
                "jwks": {"keys": [RSAKey.import_key(KEY.public_key()).as_dict(private=False)]},
            },
            {
                "client_id": "mutual",
                "token_endpoint_auth_method": "tls_client_auth",
                "tls_client_auth_san_dns": "client.example",
            },
        ],
        "resources": [RESOURCE],
        "thumbprint": THUMBPRINT.rstrip(b"=").decode(),
        "tls": {
            "key": own.private_key_pem.bytes().decode(),
            "cert": own.cert_chain_pems[0].bytes().decode(),
            "ca": [authority.cert_pem.bytes().decode()],
        },
    }
    with oidc_provider(options) as url:
        yield Server(url, folder)


async def fetch(server: Server, **changes: object) -> Grant:
    settings = {"client_secret": SecretSource(value=Secret(SECRET)), "tls": server.tls} | changes
    return await source(credential(server.token_url, **settings), None).fetch(CountingGate(), attempts=1)


SIGNED = {
    "client_id": "signed",
    "client_secret": None,
    "client_authentication": "private_key_jwt",
    "private_key": SecretSource(value=Secret(pki.key_pem(KEY).decode())),
}


async def test_secret_in_the_body(server: Server) -> None:
    """`client_secret_post`."""
    grant = await fetch(server, client_id="post")
    assert grant.header.startswith(b"Authorization: Bearer ")
    assert grant.lifetime == 600.0


async def test_http_basic(server: Server) -> None:
    """`client_secret_basic`, with an id and a secret that need RFC 6749's own encoding."""
    grant = await fetch(server, client_id="ba:s ic", client_authentication="basic")
    assert grant.lifetime == 600.0


async def test_private_key_jwt_with_the_certificates_thumbprint(server: Server) -> None:
    """The server checks the signature, iss, aud, exp, the `jti`'s single use, and the registered thumbprint."""
    for _ in range(2):
        grant = await fetch(server, **SIGNED, certificate_file=server.folder / "signing.pem")
        assert grant.lifetime == 600.0


@pytest.mark.parametrize("algorithm", ["RS256", "PS256"])
async def test_private_key_jwt_with_other_algorithms(server: Server, algorithm: str) -> None:
    """What the key can, the server verifies."""
    await fetch(server, **SIGNED, certificate_file=server.folder / "signing.pem", assertion_algorithm=algorithm)


async def test_mutual_tls(server: Server) -> None:
    """`tls_client_auth` (RFC 8705, 2.1): the certificate's name is the proof."""
    grant = await fetch(
        server,
        client_id="mutual",
        client_secret=None,
        client_authentication="tls",
        tls=server.mutual("client"),
    )
    assert grant.lifetime == 600.0


async def test_scope_and_resource_reach_the_token(server: Server) -> None:
    """RFC 8707: a JWT for that resource; its life is what the issuer says."""
    grant = await fetch(server, client_id="post", resource=RESOURCE, scope="read")
    claims = jwt_claims(grant.header.split(b" ")[2].strip().decode())
    assert claims is not None
    assert (claims["aud"], claims["scope"], claims["client_id"]) == (RESOURCE, "read", "post")
    assert grant.lifetime == claims["exp"] - claims["iat"] == 1800.0


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"client_id": "post", "client_secret": SecretSource(value=Secret("wrong"))}, "invalid_client"),
        ({"client_id": "nobody"}, "invalid_client"),
        ({"client_id": "post", "resource": "urn:unknown"}, "invalid_target"),
        ({"client_id": "post", "request_format": "json"}, "invalid_request"),
        ({**SIGNED}, "invalid_client"),
        ({**SIGNED, "assertion_audience": "https://somebody.else"}, "invalid_client"),
        (
            {**SIGNED, "private_key": SecretSource(value=Secret(pki.key_pem(pki.new_key("rsa")).decode()))},
            "invalid_client",
        ),
    ],
)
async def test_what_the_server_refuses_is_a_refusal(server: Server, changes: dict[str, object], error: str) -> None:
    """Definite, with the server's own code and the name of our credential; the secret is not in the text."""
    with pytest.raises(GrantRefusedError) as caught:
        await fetch(server, **changes)
    assert caught.value.oauth_error == error
    assert "Credential cluster" in caught.value.detail
    assert SECRET not in caught.value.detail


@pytest.mark.parametrize("name", ["other", "foreign"])
async def test_another_certificate_is_refused(server: Server, name: str) -> None:
    """Another name, or another CA's: the server refuses, and says so as an OAuth error."""
    with pytest.raises(GrantRefusedError):
        await fetch(
            server, client_id="mutual", client_secret=None, client_authentication="tls", tls=server.mutual(name)
        )


async def test_a_wrong_path_is_no_refusal(server: Server) -> None:
    """A wrong token_url must not put a good credential into quarantine."""
    wrong = Server(f"{server.url}/nowhere", server.folder)
    with pytest.raises(GrantFailedError, match="correct token_url"):
        await fetch(wrong, client_id="post")
