import pytest
import yaml

from sidecar.config import load
from sidecar.errors import ConfigurationError
from tests.config.support import (
    CLUSTER,
    ENVIRON,
    EXAMPLE,
    MINIMAL,
    ROUTE,
    loaded,
    mistakes,
    uncommented,
    with_secret_files,
    written,
)

FIVE = """
listen: 0.0.0.0:8600
admin: {listne: 127.0.0.1:8601}
credentials: {cluster: {type: client_credentials, token_url: "https://issuer.example.com", client_secret: s3cr3t}}
routes:
  api: {upstream: "ftp://api.example.com", credential: clutser}
drain_timeout: -5s
"""


def test_all_mistakes_come_at_once(tmp_path):
    """A configuration with five mistakes (and one more) gets all of them in one go, each with place and cure."""
    file = written(tmp_path, FIVE)
    with pytest.raises(ConfigurationError) as error:
        load(file, ENVIRON)
    assert [(each.source, each.path) for each in error.value.mistakes] == [
        (str(file), "admin.listne"),
        (str(file), "credentials.cluster.client_id"),
        (str(file), "drain_timeout"),
        (str(file), "listen"),
        (str(file), "routes.api.credential"),
        (str(file), "routes.api.upstream"),
    ]
    assert all(each.cure for each in error.value.mistakes)


def of_cluster(more: str) -> str:
    issuer = "" if "token_url" in more else "token_url: 'https://issuer.example.com/token', "
    return f"credentials: {{cluster: {{type: client_credentials, {issuer}client_id: id, {more}}}}}\n" + ROUTE


def of_api(more: str) -> str:
    return CLUSTER + f"routes: {{api: {{upstream: 'https://api.example.com', credential: cluster, {more}}}}}\n"


BAD_HOSTS = [
    *("*", "*.", "*.com", "*.1.1", "*.0.0.0.1", "a.*.b.c", "**.b.c", "a*.b.c", "*b.c.d", "*.b..c", "*.a b.c", ""),
    *("[::1", "::1]", "[::g]", "1:2", "http://a.b", "a.b/", "[fe80::1%eth0]"),
]

TABLE = [
    # the whole
    ("", "routes", "has no route"),
    ("[1]", "", "not a mapping"),
    ("just text", "", "not a mapping"),
    (CLUSTER + "routes: {}", "routes", "has no route"),
    (MINIMAL + "routs: {}", "routs", "did you mean routes?"),
    (MINIMAL + "zzz: 1", "zzz", "the keys here are: listen, admin"),
    (MINIMAL + "guard: 5", "guard", "is a single value, not a mapping"),
    (MINIMAL + "guard: {hosts: one}", "guard.hosts", "not a list"),
    (MINIMAL + "listen: [127.0.0.1]", "listen", "is a list, not a single value"),
    # listeners
    (MINIMAL + "listen: 8600", "listen", "is not an address"),
    (MINIMAL + "listen: '127.0.0.1:86000'", "listen", "no valid port"),
    (MINIMAL + "listen: '::1:8600'", "listen", "is not an address"),
    (MINIMAL + "listen: unix:proxy.sock", "listen", "not an absolute path"),
    (MINIMAL + f"listen: unix:/{'x' * 120}", "listen", "longer than"),
    (MINIMAL + "listen: '0.0.0.0:8600'", "listen", "allow_remote"),
    (MINIMAL + "listen: 'sidecar.internal:8600'", "listen", "allow_remote"),
    (MINIMAL + "listen: '127.0.0.1:8601'", "admin.listen", "same address"),
    (MINIMAL + "authorize: {listen: '0.0.0.0:8602'}", "authorize.listen", "allow_remote"),
    (MINIMAL + "authorize: {listen: '127.0.0.1:8600'}", "authorize.listen", "same address"),
    (MINIMAL + "authorize: {}", "authorize.listen", "is missing"),
    (
        CLUSTER + "routes: {authorize: {upstream: 'https://a', credential: cluster}}\nauthorize: {listen: unix:/a}",
        "routes.authorize",
        "name of the section authorize",
    ),
    (
        CLUSTER
        + "routes: {x: {upstream: 'http://127.0.0.1:7', credential: cluster}}\nauthorize: {listen: '127.0.0.1:7'}",
        "routes.x.upstream",
        "own authorize.listen",
    ),
    # values
    (MINIMAL + "drain_timeout: 25", "drain_timeout", "a number with a unit"),
    (MINIMAL + "drain_timeout: 5 parsecs", "drain_timeout", "is not a duration"),
    (MINIMAL + "drain_timeout: 9999d", "drain_timeout", "longer than a year"),
    (MINIMAL + "token_requests: {timeout: 0s}", "token_requests.timeout", "more than zero"),
    (MINIMAL + "token_requests: {min_interval: -1s}", "token_requests.min_interval", "is not a duration"),
    (MINIMAL + "limits: {header_bytes: 64k}", "limits.header_bytes", "is not a size"),
    (MINIMAL + "limits: {header_bytes: 0}", "limits.header_bytes", "more than zero"),
    (MINIMAL + "limits: {connections: many}", "limits.connections", "whole number"),
    (MINIMAL + "refresh: {after: 1.5}", "refresh.after", "between 0 and 1"),
    (MINIMAL + "refresh: {after: nan}", "refresh.after", "between 0 and 1"),
    (MINIMAL + "guard: {allow_remote: 'yes'}", "guard.allow_remote", "true or false"),
    (MINIMAL + "guard: {require_header: 'X Sidecar'}", "guard.require_header", "header's name"),
    (MINIMAL + "guard: {require_header: 'X-Sidecar:'}", "guard.require_header", "after the colon"),
    (MINIMAL + "guard: {hosts: ['sidecar:8600']}", "guard.hosts[0]", "without a port"),
    *((MINIMAL + f"guard: {{hosts: ['{host}']}}", "guard.hosts[0]", "is not a host name") for host in BAD_HOSTS),
    (MINIMAL + "guard: {hosts: ['${NODE_IP}']}", "guard.hosts[0]", "set NODE_IP"),
    (MINIMAL + "guard: {hosts: ['$(NODE_IP)']}", "guard.hosts[0]", "not expanded"),
    (MINIMAL + "guard: {hosts: ['$${NODE_IP}']}", "guard.hosts[0]", "not expanded"),
    (MINIMAL + "guard: {hosts: [$NODE_IP]}", "guard.hosts[0]", "not expanded"),
    (MINIMAL + "logging: {level: loud}", "logging.level", "debug, info, warning, error"),
    (MINIMAL + "token_store: {type: disk}", "token_store.type", "file, memory, redis"),
    (MINIMAL + "token_store: {type: memory, directory: /x}", "token_store.directory", "the keys here are: type"),
    (MINIMAL + "token_store: {type: redis}", "token_store.url", "url_file"),
    (MINIMAL + "token_store: {type: redis, url: 'http://redis'}", "token_store.url", "not a Redis URL"),
    (MINIMAL + "token_requests: {issuers: {keycloak: {min_interval: 0s}}}", "token_requests.issuers.keycloak", "URL"),
    (
        MINIMAL + "token_requests: {issuers: {'http://k/realms': {min_interval: 0s}}}",
        'token_requests.issuers["http://k/realms"]',
        "http://k:",
    ),
    (MINIMAL + "saas: {region: -1, cluster_id: x}", "saas.region", "is not a region"),
    (MINIMAL + "saas: {region: bru-2, cluster_id: a/b}", "saas.cluster_id", "is not a cluster id"),
    # credentials
    (ROUTE + "credentials: {cluster: {client_id: id}}", "credentials.cluster.type", "client_credentials, static_token"),
    (ROUTE + "credentials: {cluster: {type: oauth}}", "credentials.cluster.type", "client_credentials, static_token"),
    (of_cluster("client_secret: s, scope: 'x '"), "credentials.cluster.scope", "cannot be seen"),
    (of_cluster('client_secret: s, scope: "x\\xA0y"'), "credentials.cluster.scope", "cannot be seen"),
    (of_cluster('client_secret: "\\n"'), "credentials.cluster.client_secret", "is empty"),
    (of_cluster("scope: x"), "credentials.cluster.client_secret", "client_secret_file"),
    (of_cluster("client_secret: ''"), "credentials.cluster.client_secret", "is empty"),
    (
        of_cluster("client_secret: a, client_secret_file: /b"),
        "credentials.cluster.client_secret_file",
        "one of the two",
    ),
    (of_cluster("client_secret_file: /none/secret"), "credentials.cluster.client_secret_file", "names /none/secret"),
    (of_cluster("client_authentication: private_key_jwt"), "credentials.cluster.private_key", "private_key_file"),
    (of_cluster("client_authentication: tls"), "credentials.cluster.tls.client_certificate_file", "client_key_file"),
    (
        of_cluster("client_secret: s, extra: {audience: x}"),
        "credentials.cluster.extra.audience",
        "use the key audience",
    ),
    (of_cluster("client_secret: s, token_url: 'login.example.com'"), "credentials.cluster.token_url", "not an http"),
    (
        of_cluster("client_secret: s, token_url: 'http://u:p@h/'"),
        "credentials.cluster.token_url",
        "a user or a password",
    ),
    (
        of_cluster("client_secret: s, token_url: 'https://h/', entra: {tenant_id: t}"),
        "credentials.cluster.entra",
        "besides token_url",
    ),
    (of_cluster("client_secret: s, tls: {ca_file: /none}"), "credentials.cluster.tls.ca_file", "names /none"),
    (
        of_cluster(f"client_secret: s, tls: {{client_key_file: {EXAMPLE}}}"),
        "credentials.cluster.tls.client_key_file",
        "without client_certificate_file",
    ),
    (
        of_cluster("client_secret: s, token_url: 'http://127.0.0.1:8600/x'"),
        "credentials.cluster.token_url",
        "own listen",
    ),
    (ROUTE + "credentials: {cluster: {type: static_token}}", "credentials.cluster.token", "token_file"),
    (
        ROUTE + "credentials: {cluster: {type: basic, username: 'a:b', password: p}}",
        "credentials.cluster.username",
        "colon",
    ),
    (
        ROUTE + "credentials: {cluster: {type: session, username: u, password: p, login_url: 'http://h/login?x=1'}}",
        "credentials.cluster.login_url",
        "has a query",
    ),
    (
        ROUTE + "credentials: {cluster: {type: session, username: u, password: p}}",
        "credentials.cluster.login_url",
        "add",
    ),
    # routes
    (CLUSTER + "routes: {api: {upstream: 'https://h', credential: other}}", "routes.api.credential", "one of: cluster"),
    (CLUSTER + "routes: {api: {upstream: 'https://h'}}", "routes.api.credential", "is missing"),
    (CLUSTER + "routes: {api: {upstream: 'https://h', credential: }}", "routes.api.credential", "is missing"),
    (CLUSTER + "routes: {api: {credential: cluster}}", "routes.api.upstream", "operate, optimize"),
    (CLUSTER + "routes: {operate: {credential: cluster}}", "routes.operate.upstream", "saas: {region"),
    (CLUSTER + "routes: {'a b': {upstream: 'https://h', credential: cluster}}", 'routes["a b"]', "letters, digits"),
    (of_api("product: operaet"), "routes.api.product", "operate, optimize"),
    (of_api("prefix: api"), "routes.api.prefix", "is not a path prefix"),
    (of_api("prefix: /a/../b"), "routes.api.prefix", "is not a path prefix"),
    (of_api("prefix: /a%2fb"), "routes.api.prefix", "is not a path prefix"),
    (of_api("max_body: -1"), "routes.api.max_body", "is not a size"),
    (of_api("cookies: keep"), "routes.api.cookies", "drop, pass"),
    (of_api("timeouts: {connect: 0s}"), "routes.api.timeouts.connect", "more than zero"),
    (of_api("allow: [get /x]"), "routes.api.allow[0]", "in lower case"),
    (of_api("allow: [GET x]"), "routes.api.allow[0]", "is not a rule"),
    (of_api("allow: ['GET /x?y=1']"), "routes.api.allow[0]", "is not a rule"),
    (of_api("allow: [GET /a**]"), "routes.api.allow[0]", "whole segment"),
    (of_api("allow: [/x, GET /a/../b]"), "routes.api.allow[1]", ". or .. segment"),
    (of_api("public: GET /x"), "routes.api.public", "not a list"),
    (of_api("tls: {client_certificate_file: /none}"), "routes.api.tls.client_certificate_file", "names /none"),
    (
        CLUSTER
        + "routes: {a: {upstream: 'https://h', credential: cluster, prefix: /x},"
        + " b: {upstream: 'https://h', credential: cluster, prefix: /x/}}",
        "routes.b.prefix",
        "which route a has already",
    ),
    (
        MINIMAL.replace("https://api.example.com", "http://localhost:8600"),
        "routes.api.upstream",
        "the sidecar's own listen",
    ),
    (
        MINIMAL.replace("https://api.example.com", "http://127.0.0.2:8601"),
        "routes.api.upstream",
        "the sidecar's own admin.listen",
    ),
    (MINIMAL.replace("https://api.example.com", "https://api.example.com/?x"), "routes.api.upstream", "has a query"),
    (MINIMAL.replace("https://api.example.com", "https://api.example.com/#x"), "routes.api.upstream", "a fragment"),
    (MINIMAL.replace("https://api.example.com", "https://u@h"), "routes.api.upstream", "a user or a password"),
    (MINIMAL.replace("https://api.example.com", "https://h/a/../b"), "routes.api.upstream", "segments"),
    (MINIMAL.replace("https://api.example.com", "https://h/a/%252e%252e"), "routes.api.upstream", "segments"),
    (MINIMAL.replace("https://api.example.com", "https://h:0/"), "routes.api.upstream", "no valid port"),
    (MINIMAL.replace("https://api.example.com", "https://"), "routes.api.upstream", "no valid host"),
    (MINIMAL.replace("https://api.example.com", "https://exämple.com"), "routes.api.upstream", "punycode"),
    # references
    (MINIMAL.replace("s3cr3t", "'${UNSET}'"), "credentials.cluster.client_secret", "UNSET, which is not set"),
    (MINIMAL.replace("s3cr3t", "'a${b c'"), "credentials.cluster.client_secret", "does not begin a reference"),
    (MINIMAL.replace("s3cr3t", "'${EMPTY}'"), "credentials.cluster.client_secret", "is empty"),
]


@pytest.mark.parametrize(("text", "path", "says"), TABLE)
def test_each_mistake_has_its_place_and_cure(tmp_path, text, path, says):
    """One mistake is one message, at the key where it is cured, and nothing that merely follows from it."""
    found = mistakes(tmp_path, text, EMPTY="")
    assert list(found) == [path]
    assert says in found[path]


SYNTAX = [
    ("routes: [", "line"),
    ("a: {b: ${C}}", "put quotes around ${…}"),
    ("a: 1\na: 2", "line 2, column 1: a key is there twice"),
    ("routes: {x: 1, x: 2}", "a key is there twice"),
    ("a: *s3cr3t", "line 1, column 4"),
    ("a: !s3cr3t x", "a tag"),
    ("a: !!int 5", "a tag"),
    ("a: 'unfinished s3cr3t", "line 1"),
    ("a:\n\tb: 1", "line 2"),
    ("a: 1\n---\nb: 2", "line 2"),
    ("a: \x00", "is not UTF-8 text"),
    ("[" * 5000, "nested too deeply"),
]


@pytest.mark.parametrize(("text", "says"), SYNTAX)
def test_broken_yaml_is_located_and_not_quoted(tmp_path, text, says):
    """A syntax mistake is told by line and column, and the line itself, which may hold a secret, is not."""
    message = mistakes(tmp_path, text)[""]
    assert says in message
    assert "s3cr3t" not in message


def test_a_file_that_cannot_be_read_is_a_mistake(tmp_path):
    """A missing file, a directory, and one that is no text each say so."""
    (tmp_path / "binary.yaml").write_bytes(b"\xff\x00\xfe")
    for name, says in (("none.yaml", "no such file"), (".", "is a directory"), ("binary.yaml", "is not UTF-8")):
        with pytest.raises(ConfigurationError, match=says):
            load(tmp_path / name, ENVIRON)


SECRET_FILES = [
    (b"", "is empty"),
    (b"\n", "is empty"),
    ("s3cr3t".encode("utf-16"), "UTF-16"),
    (b"\xff\xfes3cr3t", "UTF-16"),
    (b"s3cr3t\xe9", "not UTF-8 text"),
]


@pytest.mark.parametrize(("content", "says"), SECRET_FILES)
def test_a_secret_file_is_looked_at_when_loading(tmp_path, content, says):
    """A secret file that cannot be used is known at start, and its content is not shown."""
    (tmp_path / "secret").write_bytes(content)
    message = mistakes(tmp_path, of_cluster(f"client_secret_file: {tmp_path / 'secret'}"))
    assert says in message["credentials.cluster.client_secret_file"]
    assert "s3cr3t" not in str(message)


SECRET_KEYS = {
    "client_secret": "{type: client_credentials, client_id: x, KEY}",
    "token": "{type: static_token, KEY}",
    "password": "{type: basic, username: x, KEY}",
    "private_key_password": "{type: client_credentials, client_id: x, client_secret: x, KEY}",
}


@pytest.mark.parametrize("key", SECRET_KEYS)
@pytest.mark.parametrize("from_file", [True, False])
def test_a_secret_of_two_lines_is_none(tmp_path, key, from_file):
    """The same rule for every type, known at start: no issuer, and no header, could take it."""
    (tmp_path / "secret").write_text("s3cr3t\nmore\n")
    written = f"{key}_file: {tmp_path / 'secret'}" if from_file else f'{key}: "s3cr3t\\nmore"'
    credential = SECRET_KEYS[key].replace("KEY", written)
    text = f"credentials:\n  c: {credential}\nroutes:\n  x: {{upstream: http://h, credential: c}}\n"
    found = mistakes(tmp_path, text)
    assert "line breaks" in found[f"credentials.c.{key}{'_file' if from_file else ''}"]
    assert "s3cr3t" not in str(found)


def test_a_line_break_at_the_end_of_a_secret_file_is_not_part_of_it(tmp_path):
    """`echo secret > file` works, as does a file from Windows."""
    (tmp_path / "secret").write_bytes(b"\xef\xbb\xbfs3cr3t\r\n")
    settings = loaded(tmp_path, of_cluster("client_secret_file: secret"))
    assert settings.credentials["cluster"].client_secret.read().reveal() == "s3cr3t"


def test_a_secret_in_the_wrong_key_is_not_shown(tmp_path):
    """Whoever writes the secret itself into its `_file` key does not find it in the log."""
    found = mistakes(tmp_path, of_cluster("client_secret_file: hunter2/+x"))
    assert "names a file that cannot be read" in found["credentials.cluster.client_secret_file"]
    assert "hunter2" not in str(found)


QUOTED = [
    (CLUSTER + "routes: {api: {upstream: 'https://h', credential: nobody}}", "nobody is not the name of a credential"),
    (MINIMAL + "drain_timeout: 5 parsecs", "'5 parsecs' is not a duration"),
    (MINIMAL + "logging: {level: loud}", "loud is not one of its values"),
    (MINIMAL + "listen: '127.0.0.1:86000'", "127.0.0.1:86000 has no valid port"),
    (MINIMAL.replace("https://api.example.com", "ftp://api.example.com"), "ftp://api.example.com is not an http"),
]


@pytest.mark.parametrize(("text", "says"), QUOTED)
def test_a_wrong_value_is_quoted(tmp_path, text, says):
    """Who reads the message need not look into the file for what it means."""
    (message,) = mistakes(tmp_path, text).values()
    assert message.startswith(says)


NOT_QUOTED = [
    MINIMAL + "drain_timeout: hunter2-9f3b2c1d8e7a",
    MINIMAL + "drain_timeout: hunter2=",
    MINIMAL + "drain_timeout: '${SECRET}'",
    of_cluster("client_secret: s, token_url: hunter2~x"),
    CLUSTER + "routes: {api: {upstream: 'https://u:hunter2@h', credential: cluster}}",
    CLUSTER + "routes: {api: {upstream: 'https://h', credential: hunter2-0123456789abcdef}}",
    MINIMAL + "guard: {require_header: 'X-Sidecar hunter2'}",
    MINIMAL + "token_store: {type: redis, url: hunter2}",
]


@pytest.mark.parametrize("text", NOT_QUOTED)
def test_what_could_be_a_secret_is_not_quoted(tmp_path, text):
    """A user and password in a URL, a long random word, what a variable held, a key that holds secrets."""
    found = mistakes(tmp_path, text, SECRET="hunter2")
    assert found
    assert "hunter2" not in str(found)


CANARY = "hunter2/canary=="


def leaves_of(value, path=()):
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        if isinstance(item, dict | list) and item:
            yield from leaves_of(item, (*path, key))
        else:
            yield (*path, key)


def replaced(value, path):
    key, *rest = path
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[key] = replaced(value[key], rest) if rest else CANARY
    return copy


WHOLE = yaml.safe_load(uncommented(EXAMPLE.read_text()))


@pytest.mark.parametrize("path", list(leaves_of(WHOLE)), ids=lambda path: ".".join(map(str, path)))
def test_no_mistake_quotes_what_could_be_a_secret(tmp_path, path):
    """A secret that was pasted into any key at all appears in no mistake and no warning."""
    text = with_secret_files(yaml.safe_dump(replaced(WHOLE, path)), tmp_path / "secrets")
    clients = {
        name: "x" for kind in ("ZEEBE", "CAMUNDA_CONSOLE") for name in (f"{kind}_CLIENT_ID", f"{kind}_CLIENT_SECRET")
    }
    try:
        shown = str(loaded(tmp_path, text, **clients).warnings)
    except ConfigurationError as error:
        shown = f"{error!r} {error} {error.mistakes}"
    assert "hunter2" not in shown
