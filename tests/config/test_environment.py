import pytest

from sidecar.config import load
from sidecar.config.products import SAAS_TOKEN_URL
from sidecar.config.settings import Basic, ClientCredentials, FileStore, NoCredential, SessionLogin, StaticToken
from sidecar.errors import ConfigurationError

ISSUER = {"CAMUNDA_OAUTH_URL": "https://issuer.example/t"}
CLUSTER = {"ZEEBE_CLIENT_ID": "zeebe", "ZEEBE_CLIENT_SECRET": "z-secret"}
CONSOLE = {"CAMUNDA_CONSOLE_CLIENT_ID": "console", "CAMUNDA_CONSOLE_CLIENT_SECRET": "o-secret"}
HUB = {"CAMUNDA_HUB_CLIENT_ID": "hub", "CAMUNDA_HUB_CLIENT_SECRET": "h-secret"}
OPERATE = {"CAMUNDA_OPERATE_BASE_URL": "https://operate.example"} | ISSUER
ZEEBE = {"ZEEBE_REST_ADDRESS": "http://z:8080"} | ISSUER
SAAS = {"CAMUNDA_CLUSTER_REGION": "bru-2", "CAMUNDA_CLUSTER_ID": "id"}
API = "api.cloud.camunda.io"


@pytest.fixture(autouse=True)
def no_file(monkeypatch, tmp_path):
    monkeypatch.setattr("sidecar.config.yaml_file.DEFAULT_FILE", tmp_path / "none.yaml")


def routes(environ):
    """What matters of each route: credential's client, upstream, audience."""
    settings = load(None, environ)
    return {
        route.name: (settings.credentials[route.credential].client_id, str(route.upstream), route.audience)
        for route in settings.routes.values()
    }


TABLE = [
    (CLUSTER | OPERATE, {"operate": ("zeebe", "https://operate.example", "operate.camunda.io")}),
    (
        CLUSTER | OPERATE | {"CAMUNDA_OPERATE_OAUTH_AUDIENCE": "mine"},
        {"operate": ("zeebe", "https://operate.example", "mine")},
    ),
    (
        CLUSTER | ISSUER | {"CAMUNDA_OPTIMIZE_BASE_URL": "http://o:8083", "CAMUNDA_TASKLIST_BASE_URL": "http://t:8082"},
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
        CONSOLE,
        {
            "console": ("console", "https://api.cloud.camunda.io", API),
            "hub": ("console", "https://hub.cloud.camunda.io", API),
            "modeler": ("console", "https://modeler.cloud.camunda.io/api", API),
        },
    ),
    (HUB, {"hub": ("hub", "https://hub.cloud.camunda.io", API)}),
    (
        CONSOLE | HUB | ISSUER | {"CAMUNDA_CONSOLE_BASE_URL": "http://c", "CAMUNDA_HUB_REST_URL": "http://h/"},
        {
            "console": ("console", "http://c", API),
            "hub": ("hub", "http://h", API),
            "modeler": ("console", "https://modeler.cloud.camunda.io/api", API),
        },
    ),
    (
        CLUSTER | ISSUER | {"CAMUNDA_MODELER_BASE_URL": "http://m:8070/api", "CAMUNDA_MODELER_OAUTH_AUDIENCE": "m"},
        {"modeler": ("zeebe", "http://m:8070/api", "m")},
    ),
    (
        CLUSTER | OPERATE | {"CAMUNDA_TASKLIST_BASE_URL": ""},
        {"operate": ("zeebe", "https://operate.example", "operate.camunda.io")},
    ),
    (
        CLUSTER | SAAS | {"CAMUNDA_CREDENTIALS_SCOPES": "Zeebe, Optimize,Secrets"},
        {
            "optimize": ("zeebe", "https://bru-2.optimize.camunda.io/id", "optimize.camunda.io"),
            "zeebe": ("zeebe", "https://bru-2.zeebe.camunda.io/id", "zeebe.camunda.io"),
        },
    ),
]


@pytest.mark.parametrize(("environ", "expected"), TABLE)
def test_a_route_for_each_product_with_an_address_and_a_credential(environ, expected):
    """Camunda's own variables are a whole configuration."""
    assert routes(environ) == expected


SPELLINGS = [
    # What a variable becomes: the client's id, its secret, scope and resource; the route's address and audience.
    ("CAMUNDA_CLIENT_ID ZEEBE_CLIENT_ID CAMUNDA_CLIENT_AUTH_CLIENTID CAMUNDA_CLIENT_AUTH_CLIENT_ID", "client_id"),
    (
        "CAMUNDA_CLIENT_SECRET ZEEBE_CLIENT_SECRET CAMUNDA_CLIENT_AUTH_CLIENTSECRET ZEEBE_CLIENT_CLOUD_CLIENTSECRET",
        "secret",
    ),
    ("CAMUNDA_OAUTH_URL CAMUNDA_AUTHORIZATION_SERVER_URL ZEEBE_AUTHORIZATION_SERVER_URL", "token_url"),
    ("CAMUNDA_OAUTH_URL CAMUNDA_CLIENT_AUTH_TOKENURL CAMUNDA_CLIENT_AUTH_TOKEN_URL", "token_url"),
    ("CAMUNDA_OAUTH_SCOPE CAMUNDA_TOKEN_SCOPE ZEEBE_TOKEN_SCOPE CAMUNDA_CLIENT_AUTH_SCOPE", "scope"),
    ("CAMUNDA_TOKEN_RESOURCE ZEEBE_TOKEN_RESOURCE CAMUNDA_CLIENT_AUTH_RESOURCE", "resource"),
    ("CAMUNDA_REST_ADDRESS ZEEBE_REST_ADDRESS CAMUNDA_CLIENT_RESTADDRESS CAMUNDA_CLIENT_REST_ADDRESS", "upstream"),
    (
        "CAMUNDA_TOKEN_AUDIENCE ZEEBE_TOKEN_AUDIENCE CAMUNDA_ZEEBE_OAUTH_AUDIENCE CAMUNDA_CLIENT_AUTH_AUDIENCE",
        "audience",
    ),
]
VALUES = {
    "client_id": "i",
    "secret": "s",
    "token_url": "https://issuer.example/x",
    "scope": "a b",
    "resource": "urn:r",
    "upstream": "http://camunda:8080",
    "audience": "orchestration",
}


@pytest.mark.parametrize(
    ("spelled", "key"), [(name, key) for names, key in SPELLINGS for name in names.split()], ids=str
)
def test_every_client_librarys_spelling_is_understood(spelled, key):
    """Java's, JavaScript's, Python's, C#'s, and the Spring starter's by relaxed binding, each in place of another."""
    environ = {names.split()[0]: VALUES[of] for names, of in SPELLINGS if of != key} | {spelled: VALUES[key]}
    settings = load(None, environ)
    credential, (route,) = settings.credentials["cluster"], settings.routes.values()
    assert {
        "client_id": credential.client_id,
        "secret": credential.client_secret.read().reveal(),
        "token_url": credential.token_url,
        "scope": credential.scope,
        "resource": credential.resource,
        "upstream": str(route.upstream),
        "audience": route.audience,
    } == VALUES
    assert settings.warnings == ()


BASIC = {"CAMUNDA_BASIC_AUTH_USERNAME": "demo", "CAMUNDA_BASIC_AUTH_PASSWORD": "p"}
COOKIE = {
    "CAMUNDA_COOKIE_AUTH_URL": "http://z:8080/api/login",
    "CAMUNDA_COOKIE_AUTH_USERNAME": "demo",
    "CAMUNDA_COOKIE_AUTH_PASSWORD": "p",
}
STRATEGIES = [
    (CLUSTER, ClientCredentials),
    (CLUSTER | BASIC | {"CAMUNDA_AUTH_STRATEGY": "oauth"}, ClientCredentials),
    (CLUSTER | BASIC | {"CAMUNDA_CLIENT_AUTH_METHOD": "oidc"}, ClientCredentials),
    (BASIC, Basic),
    ({"CAMUNDA_CLIENT_AUTH_USERNAME": "demo", "CAMUNDA_CLIENT_AUTH_PASSWORD": "p"}, Basic),
    (CLUSTER | BASIC | {"CAMUNDA_AUTH_STRATEGY": "BASIC"}, Basic),
    (CLUSTER | {"CAMUNDA_AUTH_STRATEGY": "NONE"}, NoCredential),
    ({"CAMUNDA_AUTH_STRATEGY": "BEARER", "CAMUNDA_OAUTH_TOKEN": "t"}, StaticToken),
    ({"CAMUNDA_AUTH_STRATEGY": "COOKIE"} | COOKIE, SessionLogin),
]


@pytest.mark.parametrize(("environ", "type_"), STRATEGIES)
def test_the_strategy_says_which_credential_it_is(environ, type_):
    """Without one, what is set says it."""
    settings = load(None, ZEEBE | environ)
    assert isinstance(settings.credentials["cluster"], type_)
    assert [(route.name, route.credential) for route in settings.routes.values()] == [("zeebe", "cluster")]


@pytest.mark.parametrize("address", ["http://z:8080", "http://z:8080/", "http://z:8080/v2", "http://z:8080/v2/"])
@pytest.mark.parametrize("name", ["ZEEBE_REST_ADDRESS", "CAMUNDA_REST_ADDRESS"])
def test_an_address_may_end_in_v2(name, address):
    """Clients append /v2 where it is missing, so that an address with it would become /v2/v2."""
    (route,) = load(None, CLUSTER | ISSUER | {name: address}).routes.values()
    assert str(route.upstream) == "http://z:8080"
    same = {"ZEEBE_REST_ADDRESS": address, "CAMUNDA_REST_ADDRESS": "http://z:8080/v2"}
    assert load(None, CLUSTER | ISSUER | same).routes == {route.name: route}


ISSUERS = [
    (CLUSTER | SAAS, SAAS_TOKEN_URL),
    (CLUSTER | SAAS | ISSUER, ISSUER["CAMUNDA_OAUTH_URL"]),
    (CLUSTER | OPERATE | CONSOLE | {"ZEEBE_AUTHORIZATION_SERVER_URL": "https://z.example/t"}, "https://z.example/t"),
    (CLUSTER | OPERATE | HUB | {"CAMUNDA_AUTHORIZATION_SERVER_URL": "https://z.example/t"}, "https://z.example/t"),
]


@pytest.mark.parametrize(("environ", "url"), ISSUERS)
def test_the_issuer(environ, url):
    """CAMUNDA_OAUTH_URL is for Console and Hub where they have a client and the cluster an issuer of its own."""
    settings = load(None, environ)
    assert settings.source == "environment"
    assert settings.credentials["cluster"].token_url == url
    assert all(
        settings.credentials[name].token_url == environ["CAMUNDA_OAUTH_URL"]
        for name in ("console", "hub")
        if name in settings.credentials
    )


def test_a_value_of_the_environment_is_not_expanded():
    """A secret with ${ in it is taken as it is."""
    settings = load(None, CLUSTER | OPERATE | {"ZEEBE_CLIENT_SECRET": "a${b}$${"})
    assert settings.credentials["cluster"].client_secret.read().reveal() == "a${b}$${"


NO_ISSUER = [
    CLUSTER | {"ZEEBE_REST_ADDRESS": "http://localhost:8080"},
    CLUSTER | {"CAMUNDA_OPERATE_BASE_URL": "https://operate.example"},
    CLUSTER | SAAS | {"CAMUNDA_TASKLIST_BASE_URL": "https://camunda.io.example"},
    CONSOLE | {"CAMUNDA_MODELER_BASE_URL": "https://evilcamunda.io"},
]


@pytest.mark.parametrize("environ", NO_ISSUER)
def test_no_secret_goes_to_the_saas_login_unasked(environ):
    """An address that is not Camunda SaaS's, and nothing that names its issuer: a mistake, and no default."""
    with pytest.raises(ConfigurationError) as error:
        load(None, environ)
    (mistake,) = error.value.mistakes
    assert mistake.path == "CAMUNDA_OAUTH_URL"
    assert [name for name in environ if name in mistake.message] == [list(environ)[-1]]


CONFLICTS = [
    {"CAMUNDA_REST_ADDRESS": "http://a", "ZEEBE_REST_ADDRESS": "http://b"},
    {"CAMUNDA_CLIENT_ID": "a"},
    {"CAMUNDA_CLIENT_SECRET": "s3cr3t"},
    {"CAMUNDA_AUTHORIZATION_SERVER_URL": "https://other.example/s3cr3t"},
    ZEEBE | {"CAMUNDA_TOKEN_AUDIENCE": "a", "CAMUNDA_CLIENT_AUTH_AUDIENCE": "b"},
    {"CAMUNDA_BASIC_AUTH_USERNAME": "demo"},
    SAAS | {"CAMUNDA_REST_ADDRESS": "https://bru-2.zeebe.camunda.io/other"},
]


@pytest.mark.parametrize("environ", CONFLICTS)
def test_variables_that_contradict_each_other_are_a_mistake_that_names_them(environ):
    """Which of two addresses, clients or issuers is meant is not for the sidecar to choose; no value is quoted."""
    everything = CLUSTER | OPERATE | environ
    with pytest.raises(ConfigurationError) as error:
        load(None, everything)
    (mistake,) = error.value.mistakes
    assert mistake.path in everything
    assert [name for name in everything if name in mistake.message]
    assert {*environ} & {mistake.path, *mistake.message.split()}
    assert "s3cr3t" not in str(mistake)


def test_what_sounds_like_an_address_or_a_credential_and_is_not_known_is_warned_of():
    """By name and never by value; what only looks alike, as Kubernetes's service variables, is let alone."""
    unknown = {
        "CAMUNDA_ZEEBE_URL": "s3cr3t",
        "CAMUNDA_SSL_CLIENT_KEYSTORE_PATH": "/s3cr3t",
        "ZEEBE_CLIENT_SECRETS": "",
        "ZEEBE_API_PASSWORD": "s3cr3t",
    }
    harmless = {
        "CAMUNDA_SIDECAR_ADDRESS": "x",
        "CAMUNDA_OPERATE_SERVICE_HOST": "10.0.0.1",
        "ZEEBE_PORT_26500_TCP_ADDR": "10.0.0.1",
        "ZEEBE_GRPC_ADDRESS": "http://z:26500",
        "CAMUNDA_TOKEN_CACHE_DIR": "/tmp",
        "ZEEBE_ADDRESS": "z:26500",
    }
    warnings = load(None, CLUSTER | OPERATE | unknown | harmless).warnings
    assert [warning.path for warning in warnings] == [
        *("CAMUNDA_SSL_CLIENT_KEYSTORE_PATH", "CAMUNDA_ZEEBE_URL", "ZEEBE_API_PASSWORD")
    ]
    assert "s3cr3t" not in str(warnings)


MISTAKES = [
    ({}, "", "camunda-sidecar init"),
    (CLUSTER, "", "CAMUNDA_OPERATE_BASE_URL"),
    (CLUSTER | {"CAMUNDA_CLUSTER_ID": "id"}, "", "CAMUNDA_CLUSTER_REGION"),
    (BASIC | OPERATE | {"CAMUNDA_BASIC_AUTH_PASSWORD": ""}, "CAMUNDA_BASIC_AUTH_PASSWORD", "is missing"),
    ({"CAMUNDA_CLIENT_AUTH_CLIENTID": "id"} | OPERATE, "CAMUNDA_CLIENT_AUTH_CLIENTSECRET", "is missing"),
    (CLUSTER | OPERATE | {"CAMUNDA_AUTH_STRATEGY": "SAML"}, "CAMUNDA_AUTH_STRATEGY", "SAML is not"),
    (
        CLUSTER | {"CAMUNDA_REST_ADDRESS": "http://z", "CAMUNDA_ISSUER_URL": "https://keycloak/realms/c"},
        "CAMUNDA_ISSUER_URL",
        "token_endpoint",
    ),
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
    monkeypatch.setattr("sidecar.config.yaml_file.DEFAULT_FILE", files["default"])
    assert load(None, environ).source == str(files["default"])
    assert load(None, environ | {"CAMUNDA_SIDECAR_CONFIG": ""}).source == str(files["default"])
    environ |= {"CAMUNDA_SIDECAR_CONFIG": str(files["variable"])}
    assert load(None, environ).source == str(files["variable"])
    assert load(files["option"], environ).source == str(files["option"])
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load(None, environ | {"CAMUNDA_SIDECAR_CONFIG": str(tmp_path / "none.yaml")})
