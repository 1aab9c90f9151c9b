import pytest

from sidecar.admin.access import decide
from sidecar.proxy.guard import Guard
from tests.admin.support import LocalhostOnly

LOCAL = [(b"Host", b"localhost:8601")]
FOREIGN = [(b"Host", b"evil.example")]
POD = [(b"Host", b"10.1.2.3:8601")]


def code(path, peer, fields, guard=None):
    refused = decide(path, peer, guard or Guard(), fields)
    return refused.code if refused else None


@pytest.mark.parametrize(
    ("path", "peer", "fields", "expected"),
    [
        ("/metrics", "10.1.2.3", POD, None),
        ("/livez", "10.1.2.3", POD, None),
        ("/readyz", "2001:db8::1", FOREIGN, None),
        ("/status", "10.1.2.3", LOCAL, "forbidden_by_policy"),
        ("/", "10.1.2.3", LOCAL, "forbidden_by_policy"),
        ("/nothing", "10.1.2.3", LOCAL, "forbidden_by_policy"),
        ("/metrics/", "10.1.2.3", LOCAL, "forbidden_by_policy"),
        ("/status", "127.0.0.1", LOCAL, None),
        ("/status", "::1", [(b"host", b"[::1]:8601")], None),
        ("/status", "::ffff:127.0.0.1", LOCAL, None),
        ("/status", "127.0.0.1", FOREIGN, "unknown_host"),
        ("/status", "127.0.0.1", [], "unknown_host"),
        ("/status", "127.0.0.1", [(b"Host", b"local[host")], "unknown_host"),
        ("/metrics", "127.0.0.1", FOREIGN, "unknown_host"),
        ("/readyz", "127.0.0.6", POD, None),
        ("/status", "127.0.0.1", [*LOCAL, (b"HOST", b"localhost")], "bad_request"),
        ("/status", "127.0.0.1", [*LOCAL, (b"Origin", b"http://evil.example")], "cross_site"),
        ("/status", "127.0.0.1", [*LOCAL, (b"Origin", b"http://localhost:8601")], None),
        ("/status", "127.0.0.1", [*LOCAL, (b"Sec-Fetch-Site", b"cross-site")], "cross_site"),
        ("/status", "127.0.0.1", [*LOCAL, (b"Sec-Fetch-Site", b"same-origin")], None),
    ],
)
def test_who_may_ask_for_what(path, peer, fields, expected):
    """Another host gets metrics and probes; this host gets the rest, but no web page does."""
    assert code(path, peer, fields) == expected


def test_a_unix_sockets_peer_is_this_host():
    """Its permissions say who connects, and the guard still has its say."""
    assert code("/status", None, LOCAL, LocalhostOnly()) is None
    assert code("/status", None, FOREIGN, LocalhostOnly()) == "unknown_host"
