import pytest

from sidecar.config import load
from sidecar.config.products import SAAS_TOKEN_URL
from sidecar.config.settings import FileStore
from sidecar.errors import ConfigurationError

CLUSTER = {"ZEEBE_CLIENT_ID": "zeebe", "ZEEBE_CLIENT_SECRET": "z-secret"}
CAMUNDA = {"CAMUNDA_CLIENT_ID": "camunda", "CAMUNDA_CLIENT_SECRET": "c-secret"}
CONSOLE = {"CAMUNDA_CONSOLE_CLIENT_ID": "console", "CAMUNDA_CONSOLE_CLIENT_SECRET": "o-secret"}
HUB = {"CAMUNDA_HUB_CLIENT_ID": "hub", "CAMUNDA_HUB_CLIENT_SECRET": "h-secret"}
OPERATE = {"CAMUNDA_OPERATE_BASE_URL": "https://operate.example"}
API = "api.cloud.camunda.io"


@pytest.fixture(autouse=True)
def no_file(monkeypatch, tmp_path):
    monkeypatch.setattr("sidecar.config.source.DEFAULT_FILE", tmp_path / "none.yaml")


def routes(environ):
    """What matters of each route: credential's client, upstream, audience."""
    settings = load(None, environ)
    return {
        route.name: (settings.credentials[route.credential].client_id, str(route.upstream), route.audience)
        for route in settings.routes
    }


TABLE = [
    (CLUSTER | OPERATE, {"operate": ("zeebe", "https://operate.example", "operate.camunda.io")}),
    (CAMUNDA | OPERATE, {"operate": ("camunda", "https://operate.example", "operate.camunda.io")}),
    (CLUSTER | CAMUNDA | OPERATE, {"operate": ("zeebe", "https://operate.example", "operate.camunda.io")}),
    (
        CLUSTER | OPERATE | {"CAMUNDA_OPERATE_OAUTH_AUDIENCE": "mine"},
        {"operate": ("zeebe", "https://operate.example", "mine")},
    ),
    (
        CLUSTER | {"CAMUNDA_OPTIMIZE_BASE_URL": "http://o:8083", "CAMUNDA_TASKLIST_BASE_URL": "http://t:8082"},
        {
            "optimize": ("zeebe", "http://o:8083", "optimize.camunda.io"),
            "tasklist": ("zeebe", "http://t:8082", "tasklist.camunda.io"),
        },
    ),
    (
        CLUSTER | {"ZEEBE_REST_ADDRESS": "https://bru-2.zeebe.camunda.io:443/id"},
        {"zeebe": ("zeebe", "https://bru-2.zeebe.camunda.io/id", "zeebe.camunda.io")},
    ),
    (
        CLUSTER | {"ZEEBE_REST_ADDRESS": "http://z", "ZEEBE_TOKEN_AUDIENCE": "token"},
        {"zeebe": ("zeebe", "http://z", "token")},
    ),
    (
        CLUSTER
        | {"ZEEBE_REST_ADDRESS": "http://z", "ZEEBE_TOKEN_AUDIENCE": "t", "CAMUNDA_ZEEBE_OAUTH_AUDIENCE": "first"},
        {"zeebe": ("zeebe", "http://z", "first")},
    ),
    (
        CONSOLE,
        {
            "console": ("console", "https://api.cloud.camunda.io", API),
            "hub": ("console", "https://hub.cloud.camunda.io", API),
            "modeler": ("console", "https://modeler.cloud.camunda.io/api", API),
        },
    ),
    (HUB, {"hub": ("hub", "https://hub.cloud.camunda.io", API)}),
    (
        CONSOLE | HUB | {"CAMUNDA_CONSOLE_BASE_URL": "http://c", "CAMUNDA_HUB_REST_URL": "http://h/"},
        {
            "console": ("console", "http://c", API),
            "hub": ("hub", "http://h", API),
            "modeler": ("console", "https://modeler.cloud.camunda.io/api", API),
        },
    ),
    (
        CLUSTER | {"CAMUNDA_MODELER_BASE_URL": "http://m:8070/api", "CAMUNDA_MODELER_OAUTH_AUDIENCE": "m"},
        {"modeler": ("zeebe", "http://m:8070/api", "m")},
    ),
    (
        CLUSTER | OPERATE | {"CAMUNDA_TASKLIST_BASE_URL": ""},
        {"operate": ("zeebe", "https://operate.example", "operate.camunda.io")},
    ),
]


@pytest.mark.parametrize(("environ", "expected"), TABLE)
def test_a_route_for_each_product_with_an_address_and_a_credential(environ, expected):
    """Camunda's own variables are a whole configuration."""
    assert routes(environ) == expected


ISSUERS = [
    (CLUSTER, SAAS_TOKEN_URL),
    (CLUSTER | {"CAMUNDA_OAUTH_URL": "https://oauth.example/t"}, "https://oauth.example/t"),
    (
        CLUSTER
        | {"CAMUNDA_OAUTH_URL": "https://oauth.example/t", "ZEEBE_AUTHORIZATION_SERVER_URL": "https://z.example/t"},
        "https://z.example/t",
    ),
]


@pytest.mark.parametrize(("environ", "url"), ISSUERS)
def test_the_issuer(environ, url):
    """ZEEBE_AUTHORIZATION_SERVER_URL, else CAMUNDA_OAUTH_URL, else Camunda SaaS."""
    settings = load(None, environ | OPERATE)
    assert settings.source == "environment"
    assert settings.credentials["cluster"].token_url == url


def test_a_value_of_the_environment_is_not_expanded():
    """A secret with ${ in it is taken as it is."""
    settings = load(None, CLUSTER | OPERATE | {"ZEEBE_CLIENT_SECRET": "a${b}$${"})
    assert settings.credentials["cluster"].client_secret.read().reveal() == "a${b}$${"


MISTAKES = [
    ({}, "", "camunda-sidecar init"),
    (CLUSTER, "", "CAMUNDA_OPERATE_BASE_URL"),
    ({"ZEEBE_CLIENT_ID": "id"} | OPERATE, "ZEEBE_CLIENT_SECRET", "is missing"),
    ({"CAMUNDA_CLIENT_SECRET": "s3cr3t"} | OPERATE, "CAMUNDA_CLIENT_ID", "is missing"),
    (CLUSTER | {"CAMUNDA_OPERATE_BASE_URL": "s3cr3t"}, "CAMUNDA_OPERATE_BASE_URL", "is not an http or https URL"),
    (CLUSTER | OPERATE | {"CAMUNDA_OAUTH_URL": "x"}, "CAMUNDA_OAUTH_URL", "is not an http or https URL"),
]


@pytest.mark.parametrize(("environ", "path", "says"), MISTAKES)
def test_mistakes_name_the_variable(environ, path, says):
    """A mistake is told by the name of the variable, not by a key that the user never wrote."""
    with pytest.raises(ConfigurationError) as error:
        load(None, environ)
    (mistake,) = error.value.mistakes
    assert (mistake.source, mistake.path) == ("environment", path)
    assert says in str(mistake)
    assert "s3cr3t" not in str(mistake)


STORES = [
    ({"HOME": "/home/u"}, "/home/u/.local/state/camunda-sidecar"),
    ({"HOME": "/home/u", "XDG_STATE_HOME": "/state"}, "/state/camunda-sidecar"),
    ({"HOME": "/home/u", "XDG_STATE_HOME": "relative"}, "/home/u/.local/state/camunda-sidecar"),
]


@pytest.mark.parametrize(("environ", "directory"), STORES)
def test_where_tokens_are_kept(environ, directory):
    """The file store is on by default, in the user's state directory."""
    store = load(None, CLUSTER | OPERATE | environ).token_store
    assert isinstance(store, FileStore)
    assert str(store.directory) == directory


def test_a_user_without_a_home_is_no_mistake(monkeypatch):
    """A container's user need not exist in /etc/passwd; the store copes with what cannot be written."""
    monkeypatch.setattr("os.getuid", lambda: 4294967000)
    store = load(None, CLUSTER | OPERATE).token_store
    assert store == FileStore(store.directory)
    assert store.directory.is_absolute()


def test_a_file_comes_before_the_environment(tmp_path, monkeypatch):
    """--config, then CAMUNDA_SIDECAR_CONFIG, then /etc's, then the variables."""
    files = {}
    for name in ("option", "variable", "default"):
        files[name] = tmp_path / f"{name}.yaml"
        files[name].write_text(
            f"credentials: {{c: {{type: none}}}}\nroutes: {{{name}: {{upstream: 'https://h', credential: c}}}}\n"
        )
    environ = CLUSTER | OPERATE
    assert load(None, environ).source == "environment"
    monkeypatch.setattr("sidecar.config.source.DEFAULT_FILE", files["default"])
    assert load(None, environ).source == str(files["default"])
    assert load(None, environ | {"CAMUNDA_SIDECAR_CONFIG": ""}).source == str(files["default"])
    environ |= {"CAMUNDA_SIDECAR_CONFIG": str(files["variable"])}
    assert load(None, environ).source == str(files["variable"])
    assert load(files["option"], environ).source == str(files["option"])
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load(None, environ | {"CAMUNDA_SIDECAR_CONFIG": str(tmp_path / "none.yaml")})
