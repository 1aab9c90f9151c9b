import pytest

from sidecar.config.settings import Basic, NoCredential, RedisStore, Rule, SessionLogin, StaticToken
from tests.config.support import CLUSTER, MINIMAL, ROUTE, loaded, mistakes

SAAS = "saas: {region: bru-2, cluster_id: abc}\n"
PRODUCTS = [
    ("operate", "https://bru-2.operate.camunda.io/abc", "operate.camunda.io", "operate-api"),
    ("optimize", "https://bru-2.optimize.camunda.io/abc", "optimize.camunda.io", "optimize-api"),
    ("tasklist", "https://bru-2.tasklist.camunda.io/abc", "tasklist.camunda.io", "tasklist-api"),
    ("zeebe", "https://bru-2.zeebe.camunda.io/abc", "zeebe.camunda.io", "zeebe-api"),
    ("console", "https://api.cloud.camunda.io", "api.cloud.camunda.io", "console-api"),
    ("hub", "https://hub.cloud.camunda.io", "api.cloud.camunda.io", None),
    ("modeler", "https://modeler.cloud.camunda.io/api", "api.cloud.camunda.io", None),
]


def route_of(tmp_path, credential: str, route: str, **environ):
    settings = loaded(tmp_path, f"credentials: {{c: {credential}}}\nroutes: {{{route}}}\n" + SAAS, **environ)
    return settings.all_routes[0]


CLIENT = "{type: client_credentials, client_id: id, client_secret: s}"
KEYCLOAK = "{type: client_credentials, identity: {url: 'http://k:18080/auth/'}, client_id: id, client_secret: s}"
ENTRA = "{type: client_credentials, entra: {tenant_id: t}, client_id: id, client_secret: s}"


@pytest.mark.parametrize(("product", "upstream", "audience", "_identity"), PRODUCTS)
def test_a_product_brings_its_defaults(tmp_path, product, upstream, audience, _identity):
    """A route that is named after a product needs no more than a credential on SaaS."""
    route = route_of(tmp_path, CLIENT, f"{product}: {{credential: c}}")
    assert (str(route.upstream), route.audience, route.prefix) == (upstream, audience, f"/{product}")
    assert route.product == product
    assert route.public == ((Rule("GET", "/api/readyz"),) if product == "optimize" else ())


@pytest.mark.parametrize(("product", "upstream", "audience", "_identity"), PRODUCTS)
def test_product_gives_another_route_these_defaults(tmp_path, product, upstream, audience, _identity):
    """`product:` says what a route is when its name does not."""
    route = route_of(tmp_path, CLIENT, f"mine: {{product: {product}, credential: c}}")
    assert (str(route.upstream), route.audience, route.prefix) == (upstream, audience, "/mine")


@pytest.mark.parametrize(("product", "_upstream", "_audience", "identity"), PRODUCTS)
def test_identity_on_keycloak(tmp_path, product, _upstream, _audience, identity):
    """Self-managed Identity has its own token endpoint and audiences, and no SaaS upstream."""
    route = f"{product}: {{credential: c, upstream: 'http://h'}}"
    assert route_of(tmp_path, KEYCLOAK, route).audience == identity
    text = f"credentials: {{c: {KEYCLOAK}}}\nroutes: {{{product}: {{credential: c}}}}\n" + SAAS
    assert list(mistakes(tmp_path, text)) == [f"routes.{product}.upstream"]
    settings = loaded(tmp_path, f"credentials: {{c: {KEYCLOAK}}}\nroutes: {{{route}}}")
    url = "http://k:18080/auth/realms/camunda-platform/protocol/openid-connect/token"
    assert settings.credentials["c"].token_url == url


@pytest.mark.parametrize(("more", "scope"), [("", "id/.default"), (", scope: other/.default", "other/.default")])
def test_entra_id(tmp_path, more, scope):
    """Entra ID wants a scope and no audience."""
    entra = ENTRA.removesuffix("}") + more + "}"
    settings = loaded(
        tmp_path, f"credentials: {{c: {entra}}}\nroutes: {{operate: {{credential: c, upstream: 'https://h'}}}}"
    )
    credential = settings.credentials["c"]
    assert credential.token_url == "https://login.microsoftonline.com/t/oauth2/v2.0/token"
    assert credential.scope == scope
    assert settings.all_routes[0].audience is None


AUDIENCES = [
    ("", "operate.camunda.io"),
    (", audience: mine", "mine"),
    (", audience: null", None),
    (", audience: ~", None),
]


@pytest.mark.parametrize(("more", "audience"), AUDIENCES)
def test_null_asks_for_no_audience(tmp_path, more, audience):
    """Left out is the product's; null is none, as self-managed Web Modeler wants it."""
    assert route_of(tmp_path, CLIENT, f"operate: {{credential: c{more}}}").audience == audience


@pytest.mark.parametrize(
    ("more", "public"),
    [("", (Rule("GET", "/api/readyz"),)), (", public: []", ()), (", public: [/x]", (Rule(None, "/x"),))],
)
def test_public_replaces_the_products(tmp_path, more, public):
    """What the user writes is what holds."""
    assert route_of(tmp_path, CLIENT, f"optimize: {{credential: c{more}}}").public == public


RESPONSE = [
    ("zeebe: {credential: c}", 0.0),
    ("jobs: {credential: c, product: zeebe}", 0.0),
    ("zeebe: {credential: c, timeouts: {idle: 5s}}", 0.0),
    ("zeebe: {credential: c, timeouts: {response: 90s}}", 90.0),
    ("zeebe: {credential: c, timeouts: {response: null}}", 0.0),
    ("optimize: {credential: c}", 600.0),
    ("optimize: {credential: c, timeouts: {response: 0s}}", 0.0),
    ("api: {credential: c, upstream: 'https://h.camunda.io'}", 60.0),
    ("api: {credential: c, upstream: 'https://h.camunda.io', timeouts: {response: 0s}}", 0.0),
]


@pytest.mark.parametrize(("route", "seconds"), RESPONSE)
def test_how_long_an_answer_may_take_is_the_products(tmp_path, route, seconds):
    """No default ends what the product's API lets run on; 0s is no limit, and what the user writes is what holds."""
    assert route_of(tmp_path, CLIENT, route).timeouts.response == seconds


HOSTS = [
    ("Sidecar.Internal", "sidecar.internal"),
    ("*.SVC.cluster.local", "*.svc.cluster.local"),
    ("10.0.0.1", "10.0.0.1"),
    ("fd00::1", "[fd00::1]"),
    ("[FD00::1]", "[fd00::1]"),
    ("${NODE_IP}", "[fd00::2]"),
]


@pytest.mark.parametrize(("host", "known"), HOSTS)
def test_hosts(tmp_path, host, known):
    """Names in any case, wildcards, and addresses as Kubernetes gives them."""
    text = MINIMAL + f"guard: {{hosts: ['{host}']}}"
    assert loaded(tmp_path, text, NODE_IP="fd00::2").guard.hosts == (known,)


def test_an_empty_allow_allows_nothing(tmp_path):
    """Nothing written allows everything; an empty list allows nothing."""
    assert route_of(tmp_path, CLIENT, "operate: {credential: c}").allow is None
    assert route_of(tmp_path, CLIENT, "operate: {credential: c, allow: }").allow is None
    assert route_of(tmp_path, CLIENT, "operate: {credential: c, allow: []}").allow == ()


TYPES = [
    ("{type: static_token, token: t}", StaticToken),
    ("{type: session, login_url: 'http://localhost/api/login', username: u, password: p}", SessionLogin),
    ("{type: basic, username: u, password: p}", Basic),
    ("{type: none}", NoCredential),
]


@pytest.mark.parametrize(("credential", "settings_type"), TYPES)
def test_other_types_have_no_audience(tmp_path, credential, settings_type):
    """Every type of credential loads, and only client credentials have an audience."""
    text = f"credentials: {{c: {credential}}}\nroutes: {{operate: {{credential: c, upstream: 'https://h'}}}}"
    settings = loaded(tmp_path, text)
    assert isinstance(settings.credentials["c"], settings_type)
    assert settings.all_routes[0].audience is None


WARNINGS = [
    (MINIMAL, []),
    (
        MINIMAL.replace("https://issuer.example.com", "http://keycloak:18080"),
        [("credentials.cluster.token_url", "unencrypted")],
    ),
    (MINIMAL.replace("https://issuer.example.com", "http://localhost:18080"), []),
    (
        ROUTE + "credentials: {cluster: {type: none}, spare: {type: none}}",
        [("credentials.spare", "is used by no route")],
    ),
    (
        (
            "credentials: {c: {type: static_token, token: t}}\n"
            "routes: {a: {upstream: 'http://h', credential: c, audience: x}}"
        ),
        [("routes.a.audience", "has no effect"), ("routes.a.upstream", "unencrypted")],
    ),
    (
        MINIMAL + "listen: '0.0.0.0:8600'\nguard: {allow_remote: true}",
        [("guard.hosts", "421"), ("listen", "whoever can connect")],
    ),
    (
        MINIMAL + "listen: '[::]:8600'\nguard: {allow_remote: true, hosts: [h], require_header: X-Sidecar}",
        [],
    ),
    (MINIMAL + "admin: {listen: '0.0.0.0:8601'}", []),
    (MINIMAL + "token_store: {group: no-such-group}", [("token_store.group", "is no group on this machine")]),
    (
        MINIMAL + "token_requests: {issuers: {'http://k': {min_interval: 0s}}}",
        [('token_requests.issuers["http://k"]', "no")],
    ),
    # A name's last dot makes no other issuer of it.
    (MINIMAL + "token_requests: {issuers: {'https://ISSUER.example.com.:443': {min_interval: 0s}}}", []),
    (
        ROUTE + CLUSTER.replace("s3cr3t}", "s3cr3t, private_key: k}"),
        [("credentials.cluster.private_key", "is not used by client_authentication: body")],
    ),
]


@pytest.mark.parametrize(("text", "expected"), WARNINGS)
def test_what_works_but_should_be_known_is_a_warning(tmp_path, text, expected):
    """A warning stops nothing; a quiet configuration has none."""
    warnings = sorted(loaded(tmp_path, text).warnings)
    assert [warning.path for warning in warnings] == [path for path, _ in expected]
    assert all(says in str(warning) for warning, (_, says) in zip(warnings, expected, strict=True))


SECRET_ONLY = "credentials: {c: {type: client_credentials, client_id: id, client_secret: s}}\n"
FOREIGN = [
    ("https://api.example.com", "mistake"),
    ("https://camunda.io.example.com", "mistake"),
    ("http://127.0.0.1:8080", "warning"),
    ("https://bru-2.operate.camunda.io/id", None),
]


@pytest.mark.parametrize(("upstream", "expected"), FOREIGN)
def test_the_saas_login_is_the_default_for_camunda_saas_alone(tmp_path, upstream, expected):
    """A secret of somebody else's client does not go there because `token_url` was forgotten."""
    text = SECRET_ONLY + f"routes: {{operate: {{credential: c, upstream: '{upstream}'}}}}"
    place = ["credentials.c.token_url"]
    assert list(mistakes(tmp_path, text)) == (place if expected == "mistake" else [])
    if expected != "mistake":
        warnings = loaded(tmp_path, text).warnings
        assert [warning.path for warning in warnings] == (place if expected == "warning" else [])


def test_a_route_on_camunda_saas_shows_whose_client_it_is(tmp_path):
    """A client of Camunda SaaS may serve another address beside it."""
    text = SECRET_ONLY + SAAS + "routes: {operate: {credential: c}, x: {credential: c, upstream: 'https://h'}}"
    assert loaded(tmp_path, text).warnings == ()


def test_the_orchestration_clusters_address_is_meant_without_its_version(tmp_path):
    """Clients append /v2 to the base URL, whatever the base URL's own end."""
    for name, expected in {"zeebe": "https://h/c", "mine": "https://h/c/v2"}.items():
        assert (
            str(route_of(tmp_path, KEYCLOAK, f"{name}: {{credential: c, upstream: 'https://h/c/v2/'}}").upstream)
            == expected
        )


LOOPS = [
    ("127.0.0.1:8600", "http://127.0.0.1:8600", True),
    ("127.0.0.1:8600", "http://localhost:8600/x", True),
    ("127.0.0.1:8600", "http://[::1]:8600", True),
    ("127.0.0.1:8600", "http://127.0.0.1:8602", False),
    ("127.0.0.1:8600", "http://10.0.0.1:8600", False),
    ("127.0.0.1:0", "http://127.0.0.1", False),
    ("0.0.0.0:8600", "http://127.0.0.1:8600", True),
    ("0.0.0.0:8600", "http://myself:8600", True),
    ("0.0.0.0:8600", "http://other:8600", False),
    ("unix:/run/x.sock", "http://127.0.0.1:8600", False),
]


@pytest.mark.parametrize(("listen", "upstream", "is_loop"), LOOPS)
def test_the_sidecar_is_not_its_own_upstream(tmp_path, monkeypatch, listen, upstream, is_loop):
    """A request that comes back to the sidecar would go round until something breaks."""
    monkeypatch.setattr("socket.gethostname", lambda: "MySelf")
    text = MINIMAL.replace("https://api.example.com", upstream)
    found = mistakes(tmp_path, text + f"listen: '{listen}'\nguard: {{allow_remote: true}}")
    assert list(found) == (["routes.api.upstream"] if is_loop else [])


def test_relative_paths_are_the_files(tmp_path, monkeypatch):
    """A secret beside the configuration is found from any working directory; ~ is the user's home."""
    monkeypatch.chdir("/")
    (tmp_path / "secret").write_text("one")
    text = ROUTE + CLUSTER.replace("client_secret: s3cr3t", "client_secret_file: FILE")
    for written in ("secret", "./secret", "~/secret", str(tmp_path / "secret")):
        settings = loaded(tmp_path, text.replace("FILE", written), HOME=str(tmp_path))
        assert settings.credentials["cluster"].client_secret.file == tmp_path / "secret"


def test_a_redis_store_may_keep_its_url_in_a_file(tmp_path):
    """The URL may hold a password, so it has a twin too; what is in the file is looked at."""
    (tmp_path / "url").write_text("rediss://:hunter2@redis:6379/0\n")
    store = loaded(tmp_path, MINIMAL + "token_store: {type: redis, url_file: url}").token_store
    assert isinstance(store, RedisStore)
    (tmp_path / "url").write_text("hunter2")
    found = mistakes(tmp_path, MINIMAL + "token_store: {type: redis, url_file: url}")
    assert list(found) == ["token_store.url_file"]
    assert "hunter2" not in str(found)


def test_yaml_anchors_and_merge_keys_work(tmp_path):
    """What routes share can be written once, also where a merged mapping overrides what it merged."""
    text = CLUSTER + (
        "routes:\n  a: &a {upstream: 'https://h', credential: cluster, cookies: pass}\n"
        "  b: &b {<<: *a, cookies: drop}\n  c: {<<: *b, prefix: /d}\n"
    )
    assert [(route.prefix, route.cookies) for route in loaded(tmp_path, text).routes.values()] == [
        ("/a", "pass"),
        ("/b", "drop"),
        ("/d", "drop"),
    ]


def test_empty_sections_are_defaults(tmp_path):
    """A section of which every line is commented out is as if it were not there."""
    text = MINIMAL + "guard:\nlimits:\ntoken_store:\nadmin:\nrefresh: null\nlisten: ~\n"
    assert loaded(tmp_path, text) == loaded(tmp_path, MINIMAL)
