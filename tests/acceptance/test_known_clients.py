"""A listener for other machines: mutual TLS, clients by name, files that change while it runs."""

from __future__ import annotations

import base64
import contextlib
import http.client
import signal
import ssl
from pathlib import Path

import pytest
import trustme
from cryptography import x509

from tests.acceptance.peers import grants, peer, says
from tests.acceptance.support import Sidecar, configuration, running, until


def put(leaf: trustme.LeafCert, name: Path) -> str:
    """Write certificate and key into one file; its subject."""
    name.write_bytes(leaf.private_key_and_cert_chain_pem.bytes())
    return x509.load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes()).subject.rfc4514_string()


def connect(sidecar: Sidecar, ca: trustme.CA, certificate: Path) -> http.client.HTTPSConnection:
    context = ssl.create_default_context(cadata=ca.cert_pem.bytes().decode())
    context.load_cert_chain(certificate)
    return http.client.HTTPSConnection(
        "localhost", int(sidecar.address.rpartition(":")[2]), context=context, timeout=20
    )


def status(client: http.client.HTTPSConnection, path: str = "/operate/x", **headers: str) -> int:
    client.request("GET", path, headers=headers)
    response = client.getresponse()
    response.read()
    return response.status


def once(sidecar: Sidecar, ca: trustme.CA, certificate: Path, path: str = "/operate/x", **headers: str) -> int:
    with contextlib.closing(connect(sidecar, ca, certificate)) as client:
        return status(client, path, **headers)


def refused(sidecar: Sidecar, ca: trustme.CA, certificate: Path) -> bool:
    """Whether the handshake fails now."""
    try:
        once(sidecar, ca, certificate)
    except (ssl.SSLError, ConnectionError, http.client.RemoteDisconnected):
        return True
    return False


def test_mutual_tls_and_its_files(tmp_path):
    """Certificate, key and authorities are read again when they change; the log and a metric name each client."""
    ours, theirs = trustme.CA(), trustme.CA()
    put(ours.issue_cert("localhost"), tmp_path / "server.pem")
    (tmp_path / "clients.pem").write_bytes(ours.cert_pem.bytes())
    subject = put(ours.issue_cert("r@example.com", common_name="reports"), tmp_path / "reports.pem")
    other = put(theirs.issue_cert("o@example.com", common_name="other"), tmp_path / "other.pem")
    (tmp_path / "billing").write_text("billing-secret")
    with peer(grants()) as issuer, peer(says(200, b"ok")) as upstream:
        written = configuration(
            tmp_path,
            issuer.url,
            {"operate": {"upstream": upstream.url}, "optimize": {"upstream": upstream.url}},
            listen_tls={"certificate_file": "server.pem", "client_ca_file": "clients.pem"},
            clients={
                "reports": {"certificate": {"subject": subject}, "routes": ["operate"]},
                "other": {"certificate": {"subject": other}, "allow": {"operate": ["GET /x"]}},
                "billing": {"secret_file": "billing", "routes": ["optimize"]},
            },
            logging={"access": "all"},
        )
        with (
            running(tmp_path, written) as sidecar,
            contextlib.closing(connect(sidecar, ours, tmp_path / "reports.pem")) as kept,
        ):
            assert [status(kept), status(kept, "/optimize/x"), status(kept, "/nothing")] == [200, 403, 404]
            basic = "Basic " + base64.b64encode(b"billing:billing-secret").decode()
            stranger = tmp_path / "stranger.pem"
            put(ours.issue_cert("s@example.com", common_name="stranger"), stranger)
            assert once(sidecar, ours, stranger, "/optimize/x") == 401
            assert once(sidecar, ours, stranger, "/optimize/x", Authorization=basic) == 200
            assert refused(sidecar, ours, tmp_path / "other.pem")
            assert sidecar.logged("request", client="billing")["route"] == "optimize"
            assert sidecar.logged("TLS handshake failed")
            assert sidecar.metric("client_requests_total", client="reports", outcome="refused") == 2
            assert sidecar.metric("client_requests_total", client="-", outcome="refused") == 1
            assert sidecar.metric("guard_rejections_total", reason="client") == 2

            put(theirs.issue_cert("localhost"), tmp_path / "server.pem")
            (tmp_path / "clients.pem").write_bytes(theirs.cert_pem.bytes())
            until(lambda: not refused(sidecar, theirs, tmp_path / "other.pem"), "the new files")
            assert refused(sidecar, theirs, tmp_path / "reports.pem")
            assert status(kept) == 200

            del written["clients"]["reports"]
            sidecar.write(written)
            sidecar.signal(signal.SIGHUP)
            sidecar.logged("configuration reloaded")
            assert status(kept) == 401


@pytest.mark.parametrize("content", ["", "no certificate", "-----BEGIN CERTIFICATE-----\n"])
def test_an_unusable_file_keeps_the_old_one(tmp_path, content):
    """A broken certificate is told of once, and shown; those that come are served with the old one."""
    ca = trustme.CA()
    put(ca.issue_cert("localhost"), tmp_path / "server.pem")
    with peer(says(200, b"ok")) as upstream:
        written = configuration(
            tmp_path, "http://127.0.0.1:1/t", {"operate": {"upstream": upstream.url, "credential": "open"}}
        )
        written |= {"credentials": {"open": {"type": "none"}}, "listen_tls": {"certificate_file": "server.pem"}}
        with running(tmp_path, written) as sidecar:
            (tmp_path / "server.pem").write_text(content)
            sidecar.logged("new secret file is unusable, the old one stays in use", setting="listen_tls")
            until(lambda: sidecar.metric("secret_file_errors", setting="listen_tls") == 1, "the gauge")
            put(ca.issue_cert("localhost"), tmp_path / "client.pem")
            assert once(sidecar, ca, tmp_path / "client.pem") == 200
