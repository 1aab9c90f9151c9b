import pytest

from sidecar.config import load
from sidecar.config.credentials_file import decode, read_credentials
from sidecar.config.report import Report
from sidecar.config.scaffold import scaffold
from sidecar.config.settings import Basic, ClientCredentials, SessionLogin
from sidecar.errors import ConfigurationError
from tests.config.support import ENVIRON, written

ID, CLUSTER_ID = "4TST-DF5Myx~TASVos-iIDzoz12", "a6c3e854-376f-456b-b7d2-508291ed5f05"
SECRET = "tSi'N#m: ${x} \"y\\z=~"

SHELL = f"""\
export ZEEBE_ADDRESS='{CLUSTER_ID}.syd-1.zeebe.camunda.io:443'
export ZEEBE_CLIENT_ID='{ID}'
export ZEEBE_CLIENT_SECRET='{SECRET}'
export ZEEBE_AUTHORIZATION_SERVER_URL='https://login.cloud.camunda.io/oauth/token'
export ZEEBE_REST_ADDRESS='https://syd-1.zeebe.camunda.io/{CLUSTER_ID}'
export ZEEBE_TOKEN_AUDIENCE='zeebe.camunda.io'
export CAMUNDA_CLUSTER_ID='{CLUSTER_ID}'
export CAMUNDA_CLUSTER_REGION='syd-1'
export CAMUNDA_CREDENTIALS_SCOPES='Zeebe,Tasklist,Operate,Optimize,Secrets'
export CAMUNDA_OAUTH_URL='https://login.cloud.camunda.io/oauth/token'
"""
DOTENV = SHELL.replace("export ", "").replace("'\n", "\n").replace("='", "=")
POWERSHELL = SHELL.replace("export ", "$env:").replace("='", " = '")
PROPERTIES = f"""\
# Spring
camunda.client.mode=saas
camunda.client.auth.client-id={ID}
camunda.client.auth.client-secret={SECRET}
camunda.client.cloud.cluster-id={CLUSTER_ID}
camunda.client.cloud.region=syd-1
"""
OLD_PROPERTIES = PROPERTIES.replace("camunda.client.", "zeebe.client.").replace(".auth.", ".cloud.")
YAML = f"""\
camunda:
  client:
    mode: saas
    auth:
      client-id: {ID}
      clientSecret: '{SECRET.replace("'", "''")}'
    cloud:
      clusterId: {CLUSTER_ID}
      region: syd-1
"""
FORMS = {
    "shell": SHELL,
    "dotenv": DOTENV,
    "powershell": POWERSHELL,
    "properties": PROPERTIES,
    "old properties": OLD_PROPERTIES,
    "yaml": YAML,
}


def settings_of(tmp_path, text):
    made = scaffold(read_credentials(text, Report("file")), Report("file"), references=False)
    for name, secret in made.secrets.items():
        (tmp_path / name).write_text(secret)
    assert SECRET not in made.text
    assert SECRET not in repr(made)
    return load(written(tmp_path, made.text), ENVIRON)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_the_consoles_file(tmp_path, form):
    """What the Console offers for a cluster's client becomes the same configuration in each of its forms."""
    settings = settings_of(tmp_path, FORMS[form])
    (credential,) = settings.credentials.values()
    assert credential.client_id == ID
    assert credential.client_secret.read().reveal() == SECRET
    assert {route.name: str(route.upstream) for route in settings.routes.values()} == {
        name: f"https://syd-1.{name}.camunda.io/{CLUSTER_ID}" for name in ("operate", "optimize", "tasklist", "zeebe")
    }


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_how_the_file_is_saved(encoding):
    """Windows tools add a byte order mark, or save UTF-16."""
    report = Report("file")
    assert read_credentials(decode(SHELL.encode(encoding), report), report)["ZEEBE_CLIENT_ID"] == ID
    assert not report.mistakes


def test_only_what_the_client_may_use_becomes_a_route(tmp_path):
    """A route to an API that the client has no permission for would only be refused."""
    text = SHELL.replace("Zeebe,Tasklist,Operate,Optimize,Secrets", "Operate,Secrets").replace("ZEEBE_REST", "X")
    assert [route.name for route in settings_of(tmp_path, text).routes.values()] == ["operate"]


ORGANIZATION = f"""\
export CAMUNDA_CONSOLE_CLIENT_ID='{ID}'
export CAMUNDA_CONSOLE_CLIENT_SECRET='{SECRET}'
export CAMUNDA_OAUTH_URL='https://login.cloud.camunda.io/oauth/token'
export CAMUNDA_CONSOLE_BASE_URL='https://api.cloud.camunda.io'
export CAMUNDA_CONSOLE_OAUTH_AUDIENCE='api.cloud.camunda.io'
"""


def test_an_organizations_client(tmp_path):
    """The Administration API's client serves Console, Hub and Modeler; what is the default is not repeated."""
    settings = settings_of(tmp_path, ORGANIZATION)
    assert [route.name for route in settings.routes.values()] == ["console", "hub", "modeler"]
    text = scaffold(read_credentials(ORGANIZATION, Report("file")), Report("file"), references=False).text
    assert "upstream" not in text
    assert "token_url" not in text


def test_both_clients_in_one_file(tmp_path):
    """Two downloads put together are one configuration."""
    settings = settings_of(tmp_path, SHELL + ORGANIZATION)
    assert len(settings.routes) == 7
    assert set(settings.credentials) == {"cluster", "console"}


SELF_MANAGED = f"""\
ZEEBE_CLIENT_ID=zeebe
ZEEBE_CLIENT_SECRET={SECRET}
CAMUNDA_OAUTH_URL=http://localhost:18080/auth/realms/camunda-platform/protocol/openid-connect/token
CAMUNDA_OPERATE_BASE_URL=http://localhost:8081
CAMUNDA_OPERATE_OAUTH_AUDIENCE=operate-api
"""


def test_a_self_managed_setup(tmp_path):
    """Addresses and audiences that are no defaults are written down."""
    (route,) = settings_of(tmp_path, SELF_MANAGED).routes.values()
    assert (str(route.upstream), route.audience) == ("http://localhost:8081", "operate-api")


BASIC = f"""\
CAMUNDA_REST_ADDRESS=http://localhost:8080/v2
CAMUNDA_AUTH_STRATEGY=BASIC
CAMUNDA_BASIC_AUTH_USERNAME={ID}
CAMUNDA_BASIC_AUTH_PASSWORD='{SECRET}'
"""
COOKIE = BASIC.replace("BASIC", "COOKIE") + "CAMUNDA_COOKIE_AUTH_URL=http://localhost:8080/api/login\n"


@pytest.mark.parametrize(("text", "type_"), [(BASIC, Basic), (COOKIE, SessionLogin)])
def test_other_strategies(tmp_path, text, type_):
    """What a client library's strategy says becomes the credential of that type, with its secret in a file."""
    settings = settings_of(tmp_path, text)
    assert isinstance(settings.credentials["cluster"], type_)
    assert settings.credentials["cluster"].password.read().reveal() == SECRET


@pytest.mark.parametrize("text", [SHELL, SHELL + ORGANIZATION, SELF_MANAGED, BASIC, COOKIE])
def test_from_the_environment_values_stay_there(tmp_path, text):
    """Without a file, the configuration refers to the variables: to secrets always, and to what may change."""
    variables = read_credentials(text, Report("file"))
    made = scaffold(variables, Report("file"), references=True)
    assert made.secrets == {}
    assert ID not in made.text
    direct = settings_of(tmp_path, text)
    by_reference = load(written(tmp_path, made.text), ENVIRON | variables)
    assert by_reference.routes == direct.routes
    assert {name: _who(each) for name, each in by_reference.credentials.items()} == {
        name: _who(each) for name, each in direct.credentials.items()
    }


def _who(credential):
    return credential.client_id if isinstance(credential, ClientCredentials) else credential.username


def test_a_mistake_in_a_credentials_file_names_the_file():
    """By the variable that the file sets, or that its property stands for."""
    report = Report("the file")
    with pytest.raises(ConfigurationError) as error:
        scaffold(read_credentials(SHELL.replace("ZEEBE_CLIENT_SECRET", "X"), report), report, references=False)
    assert [(each.source, each.path) for each in error.value.mistakes] == [("the file", "ZEEBE_CLIENT_SECRET")]


@pytest.mark.parametrize("text", ["", "hello", "{}", "[1, 2]", "PATH=/bin\n", "camunda.client.mode=saas", "\x00"])
def test_what_is_no_credentials_file(text):
    """Any other file is refused with the way to the right one."""
    report = Report("file")
    assert read_credentials(text, report) == {}
    assert "Console" in report.mistakes[0].cure
