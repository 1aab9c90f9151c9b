"""Why a connection failed, as a table: from the exception to its sentence, its cure, and whether to try again."""

from __future__ import annotations

import errno
import socket
import ssl

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey

from sidecar.credentials.connection_errors import explain

KEY = ConnectionKey("login.example", 443, True, True, None, None, None, None)


def unverified(code: int, message: str) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code, error.verify_message = code, message
    return error


def tls(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, reason)
    error.reason = reason
    return error


def caused(outer: Exception, inner: Exception) -> Exception:
    outer.__cause__ = inner
    return outer


def proxied(status: int) -> aiohttp.ClientHttpProxyError:
    return aiohttp.ClientHttpProxyError(None, (), status=status)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "said", "transient"),
    [
        (unverified(20, "unable to get local issuer certificate"), "tls.ca_file", False),
        (unverified(18, "self-signed certificate"), "self-signed", False),
        (unverified(62, "Hostname mismatch"), "another name", False),
        (unverified(10, "certificate has expired"), "clock", False),
        (unverified(9, "certificate is not yet valid"), "clock", False),
        (tls("WRONG_VERSION_NUMBER"), "does not speak TLS", False),
        (tls("TLSV1_ALERT_UNKNOWN_CA"), "client_certificate_file", False),
        (tls("TLSV13_ALERT_CERTIFICATE_REQUIRED"), "CERTIFICATE_REQUIRED", False),
        (tls("UNSUPPORTED_PROTOCOL"), "UNSUPPORTED_PROTOCOL", True),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "cannot be resolved", True),
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), "nothing listens", True),
        (OSError(errno.ECONNREFUSED, "Multiple exceptions"), "nothing listens", True),
        (ConnectionResetError(errno.ECONNRESET, "reset"), "closed the connection", True),
        (BrokenPipeError(errno.EPIPE, "broken"), "closed the connection", True),
        (TimeoutError(), "in time", True),
        (OSError(errno.EHOSTUNREACH, "No route to host"), "No route to host", True),
        (aiohttp.ServerDisconnectedError(), "closed the connection", True),
        (aiohttp.ClientPayloadError(), "closed the connection", True),
        (proxied(407), "HTTPS_PROXY", False),
        (proxied(403), "allow this host", False),
        (proxied(503), "503", True),
        (ConnectionError("the forward proxy refused CONNECT with 407"), "HTTPS_PROXY", False),
        (ConnectionError("the forward proxy did not answer CONNECT"), "closed the connection", True),
        (aiohttp.ClientResponseError(None, ()), "valid HTTP", True),  # type: ignore[arg-type]
        (aiohttp.ClientConnectorError(KEY, socket.gaierror(-2, "Name or service not known")), "resolved", True),
        (aiohttp.ClientConnectorCertificateError(KEY, unverified(20, "no issuer")), "no issuer", False),
        (caused(RuntimeError("wrapped"), ConnectionRefusedError(111, "refused")), "nothing listens", True),
        (RuntimeError("secret details"), "RuntimeError", True),
    ],
)
def test_every_failure_has_a_sentence_and_a_cure(error: Exception, said: str, transient: bool) -> None:
    """An untrusted certificate is told from a refused connection, a proxy's answer from the server's."""
    fault = explain(error, "https://user:pa55@login.example/oauth/token?state=s3cr3t")
    assert fault.transient is transient
    assert said in fault.sentence
    assert "https://login.example" in fault.sentence
    assert [word for word in ("user", "pa55", "s3cr3t", "secret details") if word in fault.sentence] == []


def test_through_a_proxy_it_says_that_either_may_be_meant() -> None:
    """A name that is not resolved may be the proxy's own."""
    assert "or its proxy" in explain(socket.gaierror(-2, "unknown"), "https://a.example", proxied=True).sentence


def test_a_url_that_is_none_is_no_second_error() -> None:
    """The explanation never fails."""
    assert explain(TimeoutError(), "http://[").sentence.startswith("the address")
