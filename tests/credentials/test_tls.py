"""TLS files: what works, and one sentence for each way in which they do not."""

from __future__ import annotations

import ssl
import time
from pathlib import Path

import pytest
import trustme

from sidecar.config.settings import Tls
from sidecar.credentials.tls import client_context
from sidecar.errors import SecretUnavailableError
from sidecar.secret import Secret, SecretSource
from tests.credentials import pki
from tests.credentials.support import CountingGate, answers, credential, issuer, source

KEY, OTHER = pki.new_key(), pki.new_key()
CERTIFICATE = pki.pem(pki.certificate(KEY))


def secret(text: str) -> SecretSource:
    return SecretSource(value=Secret(text))


def test_tls_1_2_is_the_least_and_the_server_is_verified() -> None:
    """The default: the system's roots, names checked."""
    context = client_context(Tls(), time.time())
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname


def test_an_own_bundle_replaces_the_systems_roots(tmp_path: Path) -> None:
    """As curl's --cacert does; comments in other alphabets do not matter."""
    bundle = pki.write(tmp_path / "ca.pem", "# Főtanúsítvány\n".encode() + CERTIFICATE)
    assert len(client_context(Tls(ca_file=bundle), time.time()).get_ca_certs()) == 1


@pytest.mark.parametrize("in_one_file", [True, False])
@pytest.mark.parametrize("password", [None, "sésame"])
def test_client_certificates_load(tmp_path: Path, in_one_file: bool, password: str | None) -> None:
    """Certificate and key in one file or two, encrypted or not."""
    key = pki.key_pem(KEY, password)
    certificate = pki.write(tmp_path / "c.pem", CERTIFICATE + key if in_one_file else CERTIFICATE)
    key_file = None if in_one_file else pki.write(tmp_path / "k.pem", key)
    tls = Tls(
        client_certificate_file=certificate,
        client_key_file=key_file,
        client_key_password=secret(password) if password else None,
    )
    assert client_context(tls, time.time()).cert_store_stats() is not None


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"ca": b"no certificate"}, "holds no certificates in PEM"),
        ({"ca": b""}, "holds no certificates in PEM"),
        ({"ca": None}, "file .*ca cannot be read: No such file"),
        ({"certificate": None, "key": pki.key_pem(KEY)}, "file .*certificate cannot be read: No such file"),
        ({"certificate": b"\x30\x82\x01\x00\xff", "key": pki.key_pem(KEY)}, "not UTF-8 text"),
        ({"certificate": b"nothing", "key": pki.key_pem(KEY)}, "no certificate in PEM"),
        ({"certificate": CERTIFICATE, "key": None}, "file .*key cannot be read: No such file"),
        ({"certificate": CERTIFICATE, "key": b"nothing"}, "no PEM private key"),
        ({"certificate": CERTIFICATE}, "no PEM private key"),
        ({"certificate": CERTIFICATE, "key": pki.key_pem(OTHER)}, "does not belong to the private key"),
        ({"certificate": CERTIFICATE, "key": pki.key_pem(KEY, "right")}, "encrypted: give its password"),
        ({"certificate": CERTIFICATE, "key": pki.key_pem(KEY, "right"), "password": b"wrong"}, "password is wrong"),
        (
            {"certificate": CERTIFICATE, "key": pki.key_pem(KEY, "right"), "password": "right".encode("utf-16")},
            "not UTF-8 text",
        ),
        (
            {"certificate": CERTIFICATE, "key": pki.key_pem(KEY, "right"), "password": b"right\n\n"},
            "line breaks",
        ),
        ({"certificate": pki.pem(pki.certificate(KEY, begins=-9, ends=-1)), "key": pki.key_pem(KEY)}, "expired on"),
        ({"certificate": pki.pem(pki.certificate(KEY, begins=1, ends=9)), "key": pki.key_pem(KEY)}, "not valid before"),
    ],
)
def test_what_is_wrong_with_tls_files_is_said(tmp_path: Path, files: dict[str, bytes | None], said: str) -> None:
    """One sentence each, with the file and the cure; never OpenSSL's prompt for a password."""
    paths = {}
    for name, content in files.items():
        paths[name] = tmp_path / name
        if content is not None:
            pki.write(paths[name], content)
    password = SecretSource(file=paths["password"]) if "password" in paths else None
    tls = Tls(paths.get("ca"), paths.get("certificate"), paths.get("key"), password)
    with pytest.raises(SecretUnavailableError, match=said) as caught:
        client_context(tls, time.time())
    assert "right" not in caught.value.detail


async def test_mutual_tls_authenticates_the_client(tmp_path: Path) -> None:
    """RFC 8705: the issuer sees the client's certificate; the body carries the id and no secret."""
    authority = trustme.CA()
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=CERTIFICATE.decode())
    tls = Tls(
        ca_file=bundle,
        client_certificate_file=pki.write(tmp_path / "c.pem", CERTIFICATE),
        client_key_file=pki.write(tmp_path / "k.pem", pki.key_pem(KEY)),
    )
    async with issuer(answers(), context=context) as fake:
        settings = credential(fake.url, client_authentication="tls", client_secret=None, tls=tls)
        await source(settings).fetch(CountingGate(), attempts=1)
    assert fake.received[0].form == {
        "grant_type": "client_credentials",
        "client_id": "the-client",
        "audience": "operate.camunda.io",
    }
