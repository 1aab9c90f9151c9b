"""The section `grpc`, from a file and from the environment."""

from __future__ import annotations

import pytest

from sidecar.config import load
from sidecar.config.describe import describe
from sidecar.config.report import Report
from sidecar.config.scaffold import scaffold
from sidecar.config.settings import TcpAddress
from sidecar.errors import ConfigurationError
from tests.config.support import ENVIRON, written

CREDENTIALS = """
credentials:
  cluster: {type: client_credentials, client_id: c, client_secret: s3cr3t, token_url: "https://issuer/token"}
"""
SAAS = "saas: {region: bru-2, cluster_id: 11111111-1111-1111-1111-111111111111}\n"
CLIENT = {"CAMUNDA_CLIENT_ID": "c", "CAMUNDA_CLIENT_SECRET": "s3cr3t", "CAMUNDA_OAUTH_URL": "https://issuer/token"}


def loaded(tmp_path, text, environ=ENVIRON):
    return load(written(tmp_path, CREDENTIALS + text), environ)


def mistakes(tmp_path, text):
    with pytest.raises(ConfigurationError) as raised:
        loaded(tmp_path, text)
    return [(each.path, each.message) for each in raised.value.mistakes]


def test_off_by_default(tmp_path):
    """Without the section there is no listener."""
    assert loaded(tmp_path, SAAS + "routes: {operate: {credential: cluster}}").grpc is None


def test_the_least_on_saas(tmp_path):
    """A credential is enough: the rest is what Camunda documents for SaaS. HTTP's routes may be missing."""
    settings = loaded(tmp_path, SAAS + "grpc: {credential: cluster}")
    grpc = settings.grpc
    assert str(grpc.listen) == "127.0.0.1:26500"
    assert str(grpc.upstream) == "https://11111111-1111-1111-1111-111111111111.bru-2.zeebe.camunda.io"
    assert (grpc.audience, grpc.max_message) == ("zeebe.camunda.io", 16 << 20)
    assert settings.warnings == ()
    assert [route.name for route in settings.all_routes] == ["grpc"]


def test_everything(tmp_path):
    """Every key, and what `check` shows of it is what was written."""
    text = (
        "grpc: {listen: '[::1]:0', upstream: 'https://zeebe:26500', credential: cluster, audience: zeebe-api,"
        " max_message: 1MiB, tls: {ca_file: ca.pem}}"
    )
    (tmp_path / "ca.pem").write_text("PEM")
    settings = loaded(tmp_path, text)
    assert settings.grpc.listen == TcpAddress("::1", 0)
    assert describe(settings)["grpc"] == {
        "listen": "[::1]:0",
        "upstream": "https://zeebe:26500",
        "credential": "cluster",
        "audience": "zeebe-api",
        "tls": {"ca_file": str(tmp_path / "ca.pem")},
        "max_message": "1MiB",
    }


@pytest.mark.parametrize(
    ("given", "upstream"),
    [
        ("https://zeebe.example.com", "https://zeebe.example.com"),
        ("grpcs://zeebe.example.com:443", "https://zeebe.example.com"),
        ("zeebe.example.com:443", "https://zeebe.example.com"),
        ("http://zeebe:26500", "http://zeebe:26500"),
        ("grpc://zeebe:26500/", "http://zeebe:26500"),
        ("[::1]:26501", "https://[::1]:26501"),
    ],
)
def test_addresses(tmp_path, given, upstream):
    """The forms in which Camunda's clients write the gateway's address."""
    assert str(loaded(tmp_path, f"grpc: {{credential: cluster, upstream: '{given}'}}").grpc.upstream) == upstream


@pytest.mark.parametrize(
    ("section", "path", "message"),
    [
        ("{upstream: 'http://z:1'}", "grpc.credential", "is missing"),
        ("{credential: nobody, upstream: 'http://z:1'}", "grpc.credential", "nobody is not the name of a credential"),
        ("{credential: cluster}", "grpc.upstream", "is missing"),
        ("{credential: cluster, upstream: 'http://z:1/path'}", "grpc.upstream", "has a path"),
        ("{credential: cluster, upstream: 'ftp://z:1'}", "grpc.upstream", "is not an http or https URL"),
        ("{credential: cluster, upstream: 'http://z:1', listen: 'unix:/s'}", "grpc.listen", "is a Unix socket"),
        ("{credential: cluster, upstream: 'http://z:1', listen: '0.0.0.0:1'}", "grpc.listen", "other machines reach"),
        ("{credential: cluster, upstream: 'http://z:1', listen: '127.0.0.1:8600'}", "grpc.listen", "same address as"),
        ("{credential: cluster, upstream: 'http://localhost:26500'}", "grpc.upstream", "is the sidecar's own grpc"),
        ("{credential: cluster, upstream: 'http://z:1', max_message: 0}", "grpc.max_message", "more than zero"),
        ("{credential: cluster, upstream: 'http://z:1', prefix: /x}", "grpc.prefix", "is not a known key"),
    ],
)
def test_mistakes(tmp_path, section, path, message):
    """Each mistake names its key."""
    [(where, what)] = mistakes(tmp_path, f"grpc: {section}")
    assert where == path
    assert message in what


def test_a_route_may_not_have_its_name(tmp_path):
    """In metrics, in the log and in `status` the two would be one."""
    routes = "routes: {grpc: {credential: cluster, upstream: 'http://a'}}\n"
    assert mistakes(tmp_path, routes + "grpc: {credential: cluster, upstream: 'http://z:1'}") == [
        ("routes.grpc", "has the name of the section grpc")
    ]


@pytest.fixture
def without_grpcio(monkeypatch):
    monkeypatch.setattr("sidecar.config.resolve.has_grpc", lambda: False)
    monkeypatch.setattr("sidecar.config.environment.has_grpc", lambda: False)


@pytest.mark.usefixtures("without_grpcio")
def test_where_grpcio_is_missing(tmp_path):
    """One line says what to install."""
    with pytest.raises(ConfigurationError) as raised:
        loaded(tmp_path, SAAS + "grpc: {credential: cluster}")
    [mistake] = raised.value.mistakes
    assert (mistake.path, mistake.message) == ("grpc", "needs grpcio, which is not installed")
    assert mistake.cure == "pip install 'camunda-sidecar[grpc]'"


@pytest.mark.parametrize(
    ("variables", "upstream"),
    [
        ({"ZEEBE_ADDRESS": "abc.bru-2.zeebe.camunda.io:443"}, "https://abc.bru-2.zeebe.camunda.io"),
        ({"ZEEBE_GRPC_ADDRESS": "grpcs://zeebe:443"}, "https://zeebe"),
        ({"CAMUNDA_GRPC_ADDRESS": "http://zeebe:26500"}, "http://zeebe:26500"),
        ({"ZEEBE_ADDRESS": "zeebe:26500", "ZEEBE_INSECURE_CONNECTION": "true"}, "http://zeebe:26500"),
        ({"ZEEBE_ADDRESS": "zeebe:26500", "CAMUNDA_GRPC_ADDRESS": "http://zeebe:26500"}, "http://zeebe:26500"),
        ({"CAMUNDA_CLIENT_GRPCADDRESS": "https://zeebe:26500"}, "https://zeebe:26500"),
    ],
)
def test_environment(variables, upstream):
    """The address that every gRPC client is told by a variable is enough, beside the cluster's client."""
    settings = load(None, ENVIRON | CLIENT | variables)
    assert str(settings.grpc.upstream) == upstream
    assert settings.grpc.audience == "zeebe.camunda.io"
    assert settings.routes == {}


def test_the_audience_of_the_environment():
    """The variable that names Zeebe's audience holds for its gRPC too."""
    environ = CLIENT | {"ZEEBE_ADDRESS": "zeebe:443", "ZEEBE_TOKEN_AUDIENCE": "zeebe-api"}
    assert load(None, ENVIRON | environ).grpc.audience == "zeebe-api"


REST = {"CAMUNDA_REST_ADDRESS": "https://zeebe.example.com"}


@pytest.mark.parametrize(
    "variables",
    [
        {"ZEEBE_ADDRESS": "zeebe:443", "CAMUNDA_CREDENTIALS_SCOPES": "Operate"},
        {},
    ],
)
def test_no_grpc_from_the_environment(variables):
    """It is served only where its address is given and the client may use it."""
    assert load(None, ENVIRON | CLIENT | REST | variables).grpc is None


def test_the_sidecars_own_address_in_the_environment():
    """Variables that this sidecar's clients need are no loop: HTTP's routes do without gRPC, with a warning."""
    settings = load(None, ENVIRON | CLIENT | REST | {"ZEEBE_ADDRESS": "localhost:26500"})
    assert settings.grpc is None
    assert [(each.path, each.message[:47]) for each in settings.warnings] == [
        ("ZEEBE_ADDRESS", "is where the sidecar's own clients go: nothing is"[:47])
    ]


@pytest.mark.usefixtures("without_grpcio")
def test_where_grpcio_is_missing_and_the_environment_names_an_address():
    """A variable that many environments have does not stop the sidecar: HTTP's routes do without gRPC."""
    settings = load(None, ENVIRON | CLIENT | REST | {"ZEEBE_ADDRESS": "zeebe:443"})
    assert settings.grpc is None
    [warning] = settings.warnings
    assert str(warning).endswith("which is not installed (pip install 'camunda-sidecar[grpc]')")


def test_addresses_that_contradict_each_other():
    """Two variables that lead to two places are a mistake, as for every other address."""
    with pytest.raises(ConfigurationError, match="contradicts"):
        load(None, ENVIRON | CLIENT | {"ZEEBE_ADDRESS": "a:443", "CAMUNDA_GRPC_ADDRESS": "https://b"})


def test_init_writes_the_section(tmp_path):
    """What the Console's file says of gRPC becomes the section, without what is the default."""
    variables = CLIENT | {
        "ZEEBE_ADDRESS": "11111111-1111-1111-1111-111111111111.bru-2.zeebe.camunda.io:443",
        "CAMUNDA_OAUTH_URL": "https://login.cloud.camunda.io/oauth/token",
    }
    made = scaffold(variables, Report("file"), references=False)
    assert "grpc:\n  credential: cluster\n" in made.text
    for name, secret in made.secrets.items():
        (tmp_path / name).write_text(secret)
    assert load(written(tmp_path, made.text), ENVIRON).grpc.upstream.host.endswith("bru-2.zeebe.camunda.io")
