"""What a refusal or an upstream's answer means, as tables."""

from __future__ import annotations

import pytest

from sidecar.credentials.explanations import (
    PROBES,
    kind_of_client,
    refusal_cure,
    unexpected_login,
    unexpected_status,
    upstream_fault,
)

SAAS = "https://login.cloud.camunda.io/oauth/token"
KEYCLOAK = "http://keycloak:18080/auth/realms/camunda-platform/protocol/openid-connect/token"


def refusal(
    status: int, code: str, description: str = "", issuer: str = KEYCLOAK, audience: str | None = None
) -> tuple[int, str, str, str, str | None]:
    return status, code, description, issuer, audience


@pytest.mark.parametrize(
    ("refused", "said"),
    [
        (refusal(401, "access_denied", "Unauthorized", SAAS, "operate.camunda.io"), "deleted"),
        (refusal(403, "access_denied", "Client is not authorized", SAAS, "optimize.camunda.io"), "add the Optimize"),
        (refusal(403, "access_denied", "", SAAS, "zeebe.camunda.io"), "Orchestration Cluster API"),
        (refusal(403, "access_denied", "", SAAS, "api.cloud.camunda.io"), "wants a client of the organization"),
        (refusal(403, "access_denied", "Service not enabled within domain", SAAS, "typo"), "has none of that name"),
        (refusal(400, "invalid_target", audience="x"), "has none of that name"),
        (refusal(401, "invalid_client", "Invalid client or Invalid client credentials"), "id or its secret"),
        (refusal(401, "unauthorized_client", "Client not enabled to retrieve service account"), "service accounts"),
        (refusal(401, "invalid_client", "AADSTS7000222: The provided client secret keys are expired"), "has expired"),
        (refusal(401, "invalid_client", "AADSTS700027: Client assertion failed signature"), "registered key"),
        (refusal(400, "invalid_scope", "AADSTS70011"), "/.default"),
        (refusal(400, "invalid_request"), "misses or dislikes a field"),
        (refusal(400, "unsupported_grant_type"), "token_url"),
        (refusal(401, "something_new"), "id or its secret"),
        (refusal(400, "something_new"), "would not help"),
    ],
)
def test_a_refusal_names_its_cure(refused: tuple[int, str, str, str, str | None], said: str) -> None:
    """Auth0's (SaaS), Keycloak's and Entra ID's own words, and what to do about each."""
    assert said in refusal_cure(*refused)


@pytest.mark.parametrize(
    ("audience", "granted", "said"),
    [
        ("operate.camunda.io", ["api.cloud.camunda.io"], "this is an organization client, the route wants a cluster"),
        ("api.cloud.camunda.io", ["zeebe.camunda.io"], "this is a cluster client, the route wants an organization"),
        ("operate.camunda.io", ["zeebe.camunda.io"], ""),
        ("operate.camunda.io", [], ""),
        (None, [None], ""),
    ],
)
def test_the_kind_of_client_is_told_where_it_is_known(
    audience: str | None, granted: list[str | None], said: str
) -> None:
    """What the same credential is granted tells whose it is."""
    hint = kind_of_client(audience, granted)
    assert said in hint
    assert bool(said) is bool(hint)


@pytest.mark.parametrize(
    ("status", "location", "said"),
    [
        (200, "", None),
        (404, "", None),
        (302, "/processes", None),
        (302, "/login", "/login:"),
        (401, "", "refuses the credential"),
        (403, "", "permission"),
        (503, "", "look at the upstream"),
    ],
)
def test_what_an_upstream_answers_to_a_probe(status: int, location: str, said: str | None) -> None:
    """What got in is well, whatever it found there."""
    fault = upstream_fault(status, location, PROBES["zeebe"], "zeebe.camunda.io")
    assert (fault is None) if said is None else (fault is not None and said in fault)


@pytest.mark.parametrize("status", [204, 301, 400, 401, 404, 405, 410, 413, 415, 418])
def test_no_status_goes_without_a_word(status: int) -> None:
    """Every unexpected answer has a sentence that ends."""
    assert unexpected_status(status, "").endswith(".")
    assert unexpected_login(status).endswith(".")
