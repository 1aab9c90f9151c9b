"""With no file at all: Camunda's own environment variables are the configuration."""

from __future__ import annotations

import fcntl
import json
import socket
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.acceptance.peers import standin
from tests.acceptance.support import ask, command, ending, spawn, until

LISTEN, ADMIN = "127.0.0.1:8600", "127.0.0.1:8601"
DEFAULT_FILE = Path("/etc/camunda-sidecar/config.yaml")
CLUSTER = {"ZEEBE_CLIENT_ID": "c-id", "ZEEBE_CLIENT_SECRET": "c-secret"}
CONSOLE = {"CAMUNDA_CONSOLE_CLIENT_ID": "o-id", "CAMUNDA_CONSOLE_CLIENT_SECRET": "o-secret"}
HUB = {"CAMUNDA_HUB_CLIENT_ID": "h-id", "CAMUNDA_HUB_CLIENT_SECRET": "h-secret"}
LOGIN = "https://login.cloud.camunda.io/oauth/token"
ISSUER = {"CAMUNDA_OAUTH_URL": "https://issuer.example.com/token"}
SAAS = "https://bru-2.operate.camunda.io/id"

pytestmark = pytest.mark.skipif(DEFAULT_FILE.exists(), reason=f"{DEFAULT_FILE} exists, and comes before the variables")


def resolved(**variables: str) -> dict:
    """What `check` says that the sidecar would do with nothing but these variables."""
    result = command("check", "--json", env={"HOME": "/nonexistent", **variables})
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)["settings"]


def routes(**variables: str) -> dict[str, tuple[str, str, str]]:
    """Each route's upstream, audience, and credential."""
    return {
        name: (route["upstream"], route["audience"], route["credential"])
        for name, route in resolved(**variables)["routes"].items()
    }


ADDRESSES = {
    "operate": "CAMUNDA_OPERATE_BASE_URL",
    "optimize": "CAMUNDA_OPTIMIZE_BASE_URL",
    "tasklist": "CAMUNDA_TASKLIST_BASE_URL",
    "zeebe": "ZEEBE_REST_ADDRESS",
    "console": "CAMUNDA_CONSOLE_BASE_URL",
    "hub": "CAMUNDA_HUB_REST_URL",
    "modeler": "CAMUNDA_MODELER_BASE_URL",
}
AUDIENCES = {
    name: f"CAMUNDA_{name.upper()}_OAUTH_AUDIENCE"
    for name in ("operate", "optimize", "tasklist", "zeebe", "console", "hub", "modeler")
}


def test_a_product_exists_with_its_address_and_a_client():
    """Each documented address variable makes its product's route, with the documented audience and the right client."""
    variables = {name: f"https://example.com/{product}" for product, name in ADDRESSES.items()}
    assert routes(**CLUSTER, **CONSOLE, **ISSUER, **variables) == {
        "operate": ("https://example.com/operate", "operate.camunda.io", "cluster"),
        "optimize": ("https://example.com/optimize", "optimize.camunda.io", "cluster"),
        "tasklist": ("https://example.com/tasklist", "tasklist.camunda.io", "cluster"),
        "zeebe": ("https://example.com/zeebe", "zeebe.camunda.io", "cluster"),
        "console": ("https://example.com/console", "api.cloud.camunda.io", "console"),
        "hub": ("https://example.com/hub", "api.cloud.camunda.io", "console"),
        "modeler": ("https://example.com/modeler", "api.cloud.camunda.io", "console"),
    }


def test_without_an_address_or_a_client_there_is_no_route():
    """A cluster's API needs its address, an organization's has one; Hub's own client goes before Console's."""
    assert routes(**CLUSTER, **CONSOLE, **HUB, **ISSUER, CAMUNDA_TASKLIST_BASE_URL="https://example.com") == {
        "tasklist": ("https://example.com", "tasklist.camunda.io", "cluster"),
        "console": ("https://api.cloud.camunda.io", "api.cloud.camunda.io", "console"),
        "hub": ("https://hub.cloud.camunda.io", "api.cloud.camunda.io", "hub"),
        "modeler": ("https://modeler.cloud.camunda.io/api", "api.cloud.camunda.io", "console"),
    }
    assert set(routes(**CLUSTER, **ISSUER, ZEEBE_REST_ADDRESS="https://example.com")) == {"zeebe"}


def test_every_audience_variable_is_heeded():
    """An audience of one's own, for each product; Zeebe's older variable too."""
    addresses = dict.fromkeys(ADDRESSES.values(), "https://example.com")
    found = routes(**CLUSTER, **CONSOLE, **ISSUER, **addresses, **{name: f"of-{name}" for name in AUDIENCES.values()})
    assert {product: audience for product, (_, audience, _) in found.items()} == {
        product: f"of-{name}" for product, name in AUDIENCES.items()
    }
    older = routes(**CLUSTER, **ISSUER, ZEEBE_REST_ADDRESS="https://example.com", ZEEBE_TOKEN_AUDIENCE="older")
    assert older["zeebe"][1] == "older"


@pytest.mark.parametrize(
    ("variables", "client_id", "token_url"),
    [
        (CLUSTER, "c-id", LOGIN),
        ({"CAMUNDA_CLIENT_ID": "d-id", "CAMUNDA_CLIENT_SECRET": "s"}, "d-id", LOGIN),
        (CLUSTER | {"ZEEBE_AUTHORIZATION_SERVER_URL": "https://i.example/t"}, "c-id", "https://i.example/t"),
        (CLUSTER | {"CAMUNDA_OAUTH_URL": "https://i.example/t"}, "c-id", "https://i.example/t"),
    ],
)
def test_the_clusters_client_and_its_issuer(variables, client_id, token_url):
    """Both spellings of the client, both of the issuer, and Camunda SaaS's issuer without one."""
    credential = resolved(**variables, CAMUNDA_OPERATE_BASE_URL=SAAS)["credentials"]["cluster"]
    assert (credential["client_id"], credential["token_url"]) == (client_id, token_url)


def test_consoles_and_hubs_issuer_is_camunda_oauth_url():
    """The cluster's issuer variable is not theirs."""
    variables = {"CAMUNDA_OAUTH_URL": "https://b.example/t", "ZEEBE_AUTHORIZATION_SERVER_URL": "https://a.example/t"}
    found = resolved(**CLUSTER, **CONSOLE, **HUB, **variables, ZEEBE_REST_ADDRESS="https://z.example")["credentials"]
    assert {name: credential["token_url"] for name, credential in found.items()} == {
        "cluster": "https://a.example/t",
        "console": "https://b.example/t",
        "hub": "https://b.example/t",
    }


def test_todays_clients_variables_are_a_configuration():
    """What the clients for Java, JavaScript, Python and C# name, and the Spring starter: address, issuer, audience."""
    today = {
        "CAMUNDA_REST_ADDRESS": "https://camunda.example.com/v2",
        "CAMUNDA_AUTHORIZATION_SERVER_URL": "https://keycloak.example.com/token",
        "CAMUNDA_TOKEN_AUDIENCE": "orchestration-api",
        "CAMUNDA_CLIENT_ID": "id",
        "CAMUNDA_CLIENT_SECRET": "s",
    }
    spring = {
        "CAMUNDA_CLIENT_RESTADDRESS": "https://camunda.example.com/v2/",
        "CAMUNDA_CLIENT_AUTH_TOKENURL": "https://keycloak.example.com/token",
        "CAMUNDA_CLIENT_AUTH_AUDIENCE": "orchestration-api",
        "CAMUNDA_CLIENT_AUTH_CLIENTID": "id",
        "CAMUNDA_CLIENT_AUTH_CLIENTSECRET": "s",
    }
    assert resolved(**today) == resolved(**spring)
    assert routes(**today) == {"zeebe": ("https://camunda.example.com", "orchestration-api", "cluster")}
    assert resolved(**today)["credentials"]["cluster"]["token_url"] == "https://keycloak.example.com/token"


def test_a_self_managed_secret_never_goes_to_the_saas_login():
    """An address that is not Camunda SaaS's, and no variable that names its issuer: exit code 2, and both named."""
    result = command("check", env={**CLUSTER, "ZEEBE_REST_ADDRESS": "http://localhost:8080"})
    assert result.returncode == 2
    assert "ZEEBE_REST_ADDRESS" in result.stderr
    assert "CAMUNDA_OAUTH_URL" in result.stderr


def test_two_variables_that_contradict_each_other_are_both_named():
    """Nobody guesses which of two addresses is meant."""
    addresses = {"ZEEBE_REST_ADDRESS": "http://a", "CAMUNDA_REST_ADDRESS": "http://b"}
    result = command("check", env={**CLUSTER, **ISSUER, **addresses})
    assert result.returncode == 2
    assert all(name in result.stderr for name in addresses)


def test_an_unknown_variable_is_warned_of_by_name():
    """It works without it, and its value is shown nowhere."""
    environment = {**CLUSTER, "CAMUNDA_OPERATE_BASE_URL": SAAS, "CAMUNDA_OPERATE_URL": "hunter2"}
    result = command("check", env=environment)
    assert result.returncode == 0
    assert "warning: environment: CAMUNDA_OPERATE_URL" in result.stderr
    assert "hunter2" not in result.stdout + result.stderr


def test_half_a_client_is_a_mistake_by_its_variables_name(tmp_path):
    """A secret that is missing is told by the name that it should have."""
    result = command("check", env={"ZEEBE_CLIENT_ID": "x", "CAMUNDA_OPERATE_BASE_URL": "https://example.com"})
    assert result.returncode == 2
    assert "ZEEBE_CLIENT_SECRET" in result.stderr


@pytest.mark.parametrize("name", ["run", "check"])
def test_nothing_at_all_is_one_clear_mistake(name):
    """No file, no variable: exit code 2, and what to do."""
    result = command(name)
    assert (result.returncode, len(result.stderr.splitlines())) == (2, 1)
    assert "ZEEBE_CLIENT_ID" in result.stderr
    assert "--config" in result.stderr


def test_the_file_that_the_variable_names_comes_before_the_others(tmp_path):
    """`CAMUNDA_SIDECAR_CONFIG` before Camunda's variables, `--config` before both."""
    text = "credentials: {none: {type: none}}\nroutes: {%s: {upstream: 'http://127.0.0.1:1', credential: none}}\n"
    named, given = tmp_path / "named.yaml", tmp_path / "given.yaml"
    named.write_text(text % "from-variable")
    given.write_text(text % "from-option")
    environment = {"CAMUNDA_SIDECAR_CONFIG": str(named), **CONSOLE}
    assert "from-variable" in command("check", env=environment).stdout
    assert "from-option" in command("check", "--config", given, env=environment).stdout


@pytest.fixture
def default_ports() -> Iterator[None]:
    """8600 and 8601, which only one test at a time can have."""
    with (Path(tempfile.gettempdir()) / "camunda-sidecar-default-ports.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        until(lambda: _is_free(8600) and _is_free(8601), "ports 8600 and 8601 are free", 60.0)
        yield


def _is_free(port: int) -> bool:
    with closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@pytest.mark.usefixtures("default_ports")
def test_it_serves_every_product_with_nothing_but_variables(tmp_path):
    """The seven products on their default prefixes, each with its audience's token, on the documented ports.

    The issuer has the real rate limit, and refuses nothing.
    """
    with standin() as camunda:
        variables = {
            "HOME": str(tmp_path),
            "ZEEBE_CLIENT_ID": camunda.cluster_client.client_id,
            "ZEEBE_CLIENT_SECRET": camunda.cluster_client.secret,
            "CAMUNDA_CONSOLE_CLIENT_ID": camunda.organization_client.client_id,
            "CAMUNDA_CONSOLE_CLIENT_SECRET": camunda.organization_client.secret,
            "CAMUNDA_HUB_CLIENT_ID": camunda.hub_client.client_id,
            "CAMUNDA_HUB_CLIENT_SECRET": camunda.hub_client.secret,
            "CAMUNDA_OAUTH_URL": camunda.token_url,
            "CAMUNDA_OPERATE_BASE_URL": camunda.upstream("operate"),
            "CAMUNDA_OPTIMIZE_BASE_URL": camunda.upstream("optimize"),
            "CAMUNDA_TASKLIST_BASE_URL": camunda.upstream("tasklist"),
            "ZEEBE_REST_ADDRESS": camunda.upstream("zeebe"),
            "CAMUNDA_CONSOLE_BASE_URL": camunda.upstream("console"),
            "CAMUNDA_HUB_REST_URL": camunda.upstream("hub"),
            "CAMUNDA_MODELER_BASE_URL": camunda.upstream("modeler"),
        }
        with ending(spawn("run", env=variables, cwd=tmp_path)) as sidecar:
            assert command("wait", env=variables).returncode == 0
            sidecar.address, sidecar.admin = LISTEN, ADMIN
            json_body = {"headers": {"Content-Type": "application/json"}, "body": b"{}"}
            answers = [
                ask(LISTEN, "/operate/v1/process-definitions/search", "POST", **json_body).status,
                ask(LISTEN, "/console/clusters").status,
                ask(LISTEN, "/hub/api/v2/info").status,
                ask(LISTEN, "/modeler/v1/info").status,
                ask(LISTEN, "/optimize/api/readyz").status,
            ]
            assert answers == [200, 200, 200, 200, 200]
            assert (len(camunda.token_requests), camunda.refused()) == (3, 0)
            assert sidecar.status()["configuration"] == "environment"
            assert (tmp_path / ".local/state/camunda-sidecar").is_dir()
            assert sidecar.end() == 0
