"""PEM as people's tools write it: `openssl pkcs12` puts names around the blocks, in whatever encoding they have."""

from __future__ import annotations

import ssl
import time
from pathlib import Path

import pytest

from sidecar.clock import SystemClock
from sidecar.config.settings import ClientCredentials, Tls
from sidecar.credentials import pem
from sidecar.credentials.client_credentials import client_key
from sidecar.credentials.tls import client_context
from sidecar.errors import SecretUnavailableError
from sidecar.secret import SecretSource
from tests.credentials import pki

BAG = """Bag Attributes
    friendlyName: Schlüssel für Zeebe
    localKeyID: 01 02
subject=CN = Größe-----
Key Attributes: <No Attributes>
"""
UNSUPPORTED = b"""-----BEGIN EC PRIVATE KEY-----
MD4CAQEEDtmqisMxC2l8vkVjGqiooAcGBSuBBAAGoSADHgAEuekV+GpEjr7ZvL4n
gXE8LvdcBYhH4TwZ/YGAog==
-----END EC PRIVATE KEY-----
"""
"""On secp112r1."""
KEY = pki.new_key()
CERTIFICATE, KEY_PEM = pki.pem(pki.certificate(KEY)), pki.key_pem(KEY)


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8"])
@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
def test_text_around_the_blocks_does_not_count(tmp_path: Path, encoding: str, newline: bytes) -> None:
    """For a client's certificate and key, a key that signs, its certificate, and a CA bundle, as OpenSSL has it."""
    bag = BAG.encode(encoding)
    content = (bag + KEY_PEM + bag + CERTIFICATE + bag).replace(b"\n", newline)
    file = pki.write(tmp_path / "all.pem", content)
    context = client_context(Tls(ca_file=file, client_certificate_file=file), time.time())
    assert len(context.get_ca_certs()) == 1
    signing = ClientCredentials(
        name="jwt",
        token_url="https://i/t",
        client_id="client",
        client_authentication="private_key_jwt",
        private_key=SecretSource(file=file),
        certificate_file=file,
    )
    signer = client_key(signing, SystemClock()).value.signer
    assert signer is not None
    assert "x5t" in signer.header


def test_the_first_block_of_a_kind_counts() -> None:
    """Other blocks, parameters and what is cut off do not; white space at a line's end does not either."""
    first, second = "".join(KEY_PEM.decode()), pki.key_pem(pki.new_key()).decode()
    text = f"-----BEGIN EC PARAMETERS-----\nBgUrgQQABg==\n-----END EC PARAMETERS-----\n{first}{second}{first[:60]}"
    assert pem.blocks(text.replace("\n", " \t\r\n"), "PRIVATE KEY") == [first, second]


def test_many_open_blocks_cost_one_look_at_each_line() -> None:
    """A megabyte of beginnings without an end is read in passing."""
    began = time.process_time()
    assert pem.blocks("-----BEGIN PRIVATE KEY-----\n" * 40_000, "PRIVATE KEY") == []
    assert time.process_time() - began < 1


@pytest.mark.parametrize("content", [UNSUPPORTED, UNSUPPORTED.replace(b"MD4CAQ", b"MD4CAA"), b"-----BEGIN PRIVATE KEY"])
def test_whatever_a_library_raises_over_a_key_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    """A curve that nobody supports included: at the start, and while the sidecar runs."""
    file = pki.write(tmp_path / "key.pem", content)
    with pytest.raises(SecretUnavailableError, match=r"not supported|cannot be read"):
        pem.private_key(content.decode(), None, "The private key")
    certificate = pki.write(tmp_path / "c.pem", CERTIFICATE)
    with pytest.raises(SecretUnavailableError, match=r"key\.pem"):
        client_context(Tls(client_certificate_file=certificate, client_key_file=file), time.time())


def test_openssl_reads_what_we_read(tmp_path: Path) -> None:
    """The oracle: the ssl module takes the same files."""
    file = pki.write(tmp_path / "all.pem", BAG.encode("latin-1") + CERTIFICATE + BAG.encode("latin-1") + KEY_PEM)
    ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(file, file)
