"""`clients` and `token_endpoint`: what is refused, and what is only warned of."""

from __future__ import annotations

import pytest

from tests.config.support import MINIMAL, loaded, mistakes

ROUTES = MINIMAL.replace(
    "credential: cluster}}",
    "credential: cluster, audience: a}, t: {upstream: 'http://x', prefix: /t, credential: open}}",
)
ROUTES = ROUTES.replace("credentials: {", "credentials: {open: {type: none}, ")
KNOWN = "clients: {c: {secret: s, audiences: [a]}}\n"


@pytest.mark.parametrize(
    ("text", "path", "told"),
    [
        ("token_endpoint: {}", "token_endpoint", "gives a token to nobody"),
        ("token_endpoint: {allow_any_client: true, path: /t}", "token_endpoint.path", "is the prefix of route t"),
        (
            "listen: 0.0.0.0:1\nguard: {allow_remote: true}\ntoken_endpoint: {allow_any_client: true}",
            "token_endpoint.allow_any_client",
            "gives tokens to everybody",
        ),
        ("clients: {c: {audiences: [a]}}", "clients.c", "has nothing to show"),
        ("clients: {c: {secret: s, routes: [x]}}", "clients.c.routes", "a route that does not exist"),
        ("clients: {c: {secret: s, allow: {x: [/y]}}}", "clients.c.allow", "a route that does not exist"),
        ("clients: {c: {secret: s, allow: {api: [y]}}}", "clients.c.allow.api[0]", "is not a rule"),
        ("clients: {c: {certificate: {subject: CN=c}, routes: [api]}}", "clients.c.certificate", "is never asked for"),
        (
            "listen: unix:/tmp/x\nlisten_tls: {certificate_file: config.yaml}",
            "listen_tls",
            "is no use on a Unix socket",
        ),
        ("listen_tls: {}", "listen_tls.certificate_file", "is missing"),
        *(
            (
                f"guard: {{allow_remote: true}}\nclients: {{c: {{secret: s}}}}\n{section}",
                f"{section.partition(':')[0]}.listen",
                "knows no clients",
            )
            for section in (
                "authorize: {listen: '0.0.0.0:8602'}",
                "grpc: {listen: '0.0.0.0:26500', credential: cluster, upstream: 'http://x'}",
            )
        ),
        ("clients: {c: {secret: s, audiences: [b]}}", "clients.c.audiences", "no route's audience"),
        ("clients: {c: {secret_file: missing, audiences: [a]}}", "clients.c.secret_file", "cannot be read"),
        ("clients: {-: {secret: s, audiences: [a]}}", "clients.-", "is not a valid name"),
    ],
)
def test_what_is_refused(tmp_path, text, path, told):
    """Each with its place; a client that nobody can be, or that may do nothing, is a mistake and no surprise."""
    found = mistakes(tmp_path, ROUTES + text)
    assert list(found) == [path]
    assert told in found[path]


def test_what_is_warned_of(tmp_path):
    """Audiences without an endpoint, and secrets and tokens that cross a network in plain text."""
    assert loaded(tmp_path, ROUTES + KNOWN + "token_endpoint: {}").warnings == ()
    [warning] = loaded(tmp_path, ROUTES + KNOWN).warnings
    assert (warning.path, "without token_endpoint" in warning.message) == ("clients.c.audiences", True)
    remote = "token_endpoint: {}\nlisten: 0.0.0.0:1\nguard: {allow_remote: true, hosts: [h]}"
    found = {each.path for each in loaded(tmp_path, ROUTES + KNOWN + remote).warnings}
    assert found == {"token_endpoint", "clients"}


def test_who_may_use_routes(tmp_path):
    """Where there are clients, they alone; on loopback they may be the token endpoint's, and routes everybody's."""
    remote = "listen: 0.0.0.0:1\nguard: {allow_remote: true, hosts: [h]}\n"
    with_routes = "clients: {c: {secret: s, routes: [api]}}\n"
    tls = f"listen_tls: {{certificate_file: {tmp_path}/config.yaml}}\n"
    endpoint = "token_endpoint: {}\n"
    assert not loaded(tmp_path, ROUTES).clients_only
    assert loaded(tmp_path, ROUTES + KNOWN).clients_only
    assert not loaded(tmp_path, ROUTES + KNOWN + endpoint).clients_only
    assert loaded(tmp_path, ROUTES + with_routes + endpoint).clients_only
    assert loaded(tmp_path, ROUTES + KNOWN + remote + endpoint).clients_only
    assert not loaded(tmp_path, ROUTES + remote).clients_only
    assert loaded(tmp_path, ROUTES + with_routes + remote + tls).warnings == ()
    assert {each.path for each in loaded(tmp_path, ROUTES + remote).warnings} == {"listen"}


def test_one_subject_is_one_client(tmp_path):
    """In whatever spelling it is written: two clients with it would be one."""
    tls = f"listen_tls: {{certificate_file: {tmp_path}/config.yaml, client_ca_file: {tmp_path}/config.yaml}}\n"
    for one, other, path in [
        ("CN=x,O=y", "CN=x, O=y", "clients.b.certificate.subject"),
        ("x", "CN=x", "clients.a.certificate.subject"),
        ("", "CN=x", "clients.a.certificate.subject"),
    ]:
        each = "{{certificate: {{subject: '{}'}}, routes: [api]}}"
        clients = f"clients: {{a: {each.format(one)}, b: {each.format(other)}}}"
        assert list(mistakes(tmp_path, ROUTES + tls + clients)) == [path]
