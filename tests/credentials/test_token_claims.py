"""What a token's claims explain, as tables."""

from __future__ import annotations

import math

import pytest

from sidecar.credentials.explanations import CLUSTER_CLAIM, audience_fault, clock_fault, cluster_fault

ONE, TWO = "11111111-1111-1111-1111-111111111111", "22222222-2222-2222-2222-222222222222"


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ({"iat": 10_000, "exp": 13_600}, None),
        ({"iat": 9_945, "exp": 13_600}, None),
        (
            {"iat": 4_000, "exp": 7_600},
            "`exp` is 40 min ago by this machine's clock: the clock is off. Set it (NTP).",
        ),
        ({"iat": 9_640, "exp": 96_040}, "This machine's clock is 6 min fast against the issuer's. Set it (NTP)."),
        ({"iat": 17_200, "exp": 96_040}, "This machine's clock is 2 h slow against the issuer's. Set it (NTP)."),
        ({}, None),
        ({"iat": "10", "exp": True}, None),
        ({"iat": 10**400, "exp": -(10**400)}, None),
        ({"iat": 1e300, "exp": math.inf}, None),
    ],
)
def test_a_wrong_clock_is_told(claims: dict[str, object], said: str | None) -> None:
    """From a token that was issued this moment, now being 10,000."""
    assert clock_fault(claims, 10_000.0) == said


@pytest.mark.parametrize(
    ("aud", "audience", "fault"),
    [
        ("operate-api", "operate-api", False),
        (["account", "operate-api"], "operate-api", False),
        ("account", "operate-api", True),
        (["account"], "operate-api", True),
        (None, "operate-api", False),
        ("account", None, False),
    ],
)
def test_a_token_for_something_else_is_told(aud: object, audience: str | None, fault: bool) -> None:
    """Keycloak ignores the audience of a request; its token then is for nobody that checks."""
    said = audience_fault({} if aud is None else {"aud": aud}, audience)
    assert (said is not None) is fault
    assert said is None or "not for operate-api" in said


@pytest.mark.parametrize(
    ("claim", "upstream", "fault"),
    [
        (ONE, f"https://bru-2.operate.camunda.io/{ONE}", False),
        (ONE.upper(), f"https://bru-2.operate.camunda.io/{ONE}", False),
        (ONE, f"https://bru-2.operate.camunda.io/{TWO}", True),
        (ONE, "https://operate.example.com", False),
        (None, f"https://bru-2.operate.camunda.io/{TWO}", False),
    ],
)
def test_another_clusters_client_is_told(claim: str | None, upstream: str, fault: bool) -> None:
    """The claim that Camunda's own ClusterValidator looks at; a token without it says nothing."""
    said = cluster_fault({CLUSTER_CLAIM: claim} if claim else {}, upstream)
    assert (said is not None) is fault


def test_what_is_quoted_of_a_token_is_plain_text() -> None:
    """The table goes to a terminal: an issuer neither steers it nor fills it."""
    nasty = "\x1b[2J\u202e" + "x" * 5000
    told = [audience_fault({"aud": [nasty]}, "operate"), cluster_fault({CLUSTER_CLAIM: nasty}, f"https://h/{ONE}")]
    assert all(said is not None and said.isprintable() and said.isascii() and len(said) < 500 for said in told)
