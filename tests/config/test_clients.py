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
        ("clients: {c: {audiences: [a]}}", "clients.c.secret", "is missing"),
        ("clients: {c: {secret: s}}", "clients.c", "may do nothing"),
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
    """Clients without an endpoint, and tokens that cross a network in plain text."""
    assert loaded(tmp_path, ROUTES + KNOWN + "token_endpoint: {}").warnings == ()
    [warning] = loaded(tmp_path, ROUTES + KNOWN).warnings
    assert "has no effect without token_endpoint" in warning.message
    remote = "token_endpoint: {}\nlisten: 0.0.0.0:1\nguard: {allow_remote: true, hosts: [h]}"
    assert any(each.path == "token_endpoint" for each in loaded(tmp_path, ROUTES + KNOWN + remote).warnings)
