"""The whole cache key."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.urls import origin
from sidecar.secret import Secret
from sidecar.tokens.identity import Identity, canonical, label
from tests.tokens.support import FakeIssuer, ManualClock

BASE = ("https://login.example/token", (("audience", "a"), ("client_id", "c"), ("scope", "s")), "secret", b"print")


def digest(issuer=BASE[0], parameters=BASE[1], secret=BASE[2], fingerprint=BASE[3]) -> str:
    return Identity(issuer, tuple(parameters), Secret(secret)).digest(fingerprint)


def test_whatever_reaches_the_issuer_tells_identities_apart() -> None:
    """Keys that left something out have crossed tenants and products."""
    variants = [
        digest(),
        digest(issuer="https://login.example/token2"),
        digest(issuer="https://login.example:8443/token"),
        digest(parameters=(("audience", "b"), ("client_id", "c"), ("scope", "s"))),
        digest(parameters=(("audience", "a"), ("client_id", "d"), ("scope", "s"))),
        digest(parameters=(("audience", "a"), ("client_id", "c"), ("scope", "t"))),
        digest(parameters=(("audience", "a"), ("client_id", "c"))),
        digest(parameters=(("audience", "a"), ("client_id", "c"), ("resource", "s"))),
        digest(parameters=(("audience", "ac"), ("lient_id", "c"), ("scope", "s"))),
        digest(parameters=(*BASE[1], ("client_authentication", "basic"))),
        digest(fingerprint=b"another"),
    ]
    assert all(one != other for one, other in combinations(variants, 2))


def test_the_order_of_parameters_does_not_matter() -> None:
    """They are a set of fields to the issuer."""
    assert digest() == digest(parameters=reversed(BASE[1]))


def test_the_secret_reaches_the_name_only_through_its_fingerprint() -> None:
    """A name on the store is no cheap oracle for guessing it."""
    assert digest(secret="one") == digest(secret="two")


@given(st.lists(st.binary(max_size=9), max_size=5), st.lists(st.binary(max_size=9), max_size=5))
def test_no_two_sequences_are_encoded_alike(one, other) -> None:
    """Whatever bytes they hold."""
    assert (canonical(one) == canonical(other)) == (one == other)


def test_an_identity_follows_its_source() -> None:
    """Another secret is another identity; and none is shown by its repr."""
    source = FakeIssuer(ManualClock())
    before = Identity.of(source)
    assert Identity.of(source) == before
    source.password = Secret("another")
    assert Identity.of(source) != before
    assert "another" not in repr(Identity.of(source))


@pytest.mark.parametrize(
    ("url", "expected", "shown"),
    [
        ("https://login.example/oauth/token", "https://login.example", "https://login.example/oauth/token"),
        ("HTTPS://Login.Example:443/Oauth", "https://login.example", "https://login.example/Oauth"),
        ("https://login.example.:443", "https://login.example", "https://login.example"),
        ("http://keycloak:18080/realms/x", "http://keycloak:18080", "http://keycloak:18080/realms/x"),
        ("http://[::1]:80/t", "http://[::1]", "http://[::1]/t"),
        ("https://user:pass@h:8443/t?a=b#c", "https://h:8443", "https://h:8443/t"),
    ],
)
def test_origins_and_labels(url, expected, shown) -> None:
    """A budget belongs to scheme, host and port; a label has no user, query or fragment."""
    assert (origin(url), label(url)) == (expected, shown)
