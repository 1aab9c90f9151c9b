"""From settings to what authorizes each route, and to every mistake in the files behind them."""

from __future__ import annotations

from pathlib import Path

from sidecar.clock import SystemClock
from sidecar.config.settings import (
    Admin,
    Basic,
    ClientCredentials,
    Credential,
    MemoryStore,
    NoCredential,
    Route,
    SessionLogin,
    Settings,
    StaticToken,
    TcpAddress,
    Tls,
    Upstream,
)
from sidecar.credentials.build import build, check
from sidecar.secret import Secret, SecretSource
from tests.credentials import pki

PLAIN, SECURE = Upstream("http", "localhost", 8080, ""), Upstream("https", "example.com", 443, "")
SECRET = SecretSource(value=Secret("s"))


def route(name: str, credential: str, audience: str | None = None, **more: object) -> Route:
    fields = {"upstream": PLAIN, "credential": credential, "audience": audience}
    return Route(name=name, prefix=f"/{name}", **(fields | more))  # type: ignore[arg-type]


def settings(credentials: list[Credential], routes: list[Route]) -> Settings:
    return Settings(
        source="config.yaml",
        listen=TcpAddress("127.0.0.1", 0),
        admin=Admin(TcpAddress("127.0.0.1", 0)),
        credentials={credential.name: credential for credential in credentials},
        routes={route.name: route for route in routes},
        token_store=MemoryStore(),
    )


def client(name: str = "cluster", **changes: object) -> ClientCredentials:
    fields = {"name": name, "token_url": "http://i/t", "client_id": "c", "client_secret": SECRET}
    return ClientCredentials(**(fields | changes))  # type: ignore[arg-type]


def test_routes_share_what_is_the_same() -> None:
    """One source for one credential and audience; one login for the whole host, whatever the audience."""
    login = SessionLogin("login", "http://i/login", "demo", SECRET)
    built = build(
        settings(
            [client(), client("other"), login, Basic("basic", "u", SECRET), NoCredential("none")],
            [
                route("console", "cluster", "api"),
                route("hub", "cluster", "api"),
                route("operate", "cluster", "operate"),
                route("foreign", "other", "api"),
                route("one", "login", "a"),
                route("two", "login", "b"),
                route("run", "basic"),
                route("open", "none"),
            ],
        ),
        SystemClock(),
    )
    sources = built.sources
    assert sources["console"] is sources["hub"]
    assert sources["one"] is sources["two"]
    assert len({id(sources[name]) for name in ("console", "operate", "foreign", "one")}) == 4
    assert sorted(built.authorizers) == ["open", "run"]
    assert check(settings([client()], []), SystemClock()) == []


def test_everything_that_reaches_the_issuer_is_in_the_identity() -> None:
    """Two credentials that differ in anything but their name never share a token; nothing secret is in it."""
    variants = [
        client(),
        client(client_id="d"),
        client(scope="s"),
        client(resource="r"),
        client(extra={"x": "y"}),
        client(request_format="json"),
        client(client_authentication="basic"),
    ]
    built = build(
        settings(
            [ClientCredentials(**{**_fields(one), "name": str(index)}) for index, one in enumerate(variants)],
            [route(f"r{index}", str(index), "a") for index in range(len(variants))] + [route("other", "0", "b")],
        ),
        SystemClock(),
    )
    identities = [source.parameters for source in built.sources.values()]
    assert len(set(identities)) == len(variants) + 1
    assert all(source.secret() == Secret("s") for source in built.sources.values())
    assert "s" not in [value for identity in identities[:1] for _, value in identity]


def _fields(credential: ClientCredentials) -> dict[str, object]:
    return {name: getattr(credential, name) for name in credential.__slots__}


def test_all_mistakes_in_files_are_told_at_once(tmp_path: Path) -> None:
    """Each with its key's path; a credential that no route uses is checked too."""
    key, other = pki.new_key(), pki.new_key()
    files = {
        "utf16": "geheim".encode("utf-16"),
        "lines": b"a\nb\n",
        "encrypted": pki.key_pem(key, "password"),
        "certificate": pki.pem(pki.certificate(key)),
        "expired": pki.pem(pki.certificate(key, begins=-9, ends=-1)),
        "other": pki.key_pem(other),
        "key": pki.key_pem(key),
    }
    paths = {name: pki.write(tmp_path / name, content) for name, content in files.items()}
    found = check(
        settings(
            [
                client("utf16", client_secret=SecretSource(file=paths["utf16"])),
                client(
                    "jwt", client_authentication="private_key_jwt", private_key=SecretSource(file=paths["encrypted"])
                ),
                client("mtls", token_url="https://i/t", tls=Tls(None, paths["certificate"], paths["other"])),
                StaticToken("token", SecretSource(file=paths["lines"])),
                SessionLogin("login", "http://i/login", "demo", SecretSource(file=tmp_path / "missing")),
                Basic("basic", "demo", SecretSource(value=Secret("a\x07b"))),
            ],
            [route("expired", "basic", upstream=SECURE, tls=Tls(None, paths["expired"], paths["key"]))],
        ),
        SystemClock(),
    )
    assert [mistake.path for mistake in found] == [
        "credentials.basic.password",
        "credentials.jwt.private_key_file",
        "credentials.login.password_file",
        "credentials.mtls.tls",
        "credentials.token.token_file",
        "credentials.utf16.client_secret_file",
        "routes.expired.tls",
    ]
    assert all(mistake.source == "config.yaml" and "\n" not in str(mistake) for mistake in found)


async def test_a_changed_secret_is_in_force_at_the_next_poll(tmp_path: Path) -> None:
    """The token core sees it through `secret()`: another identity, an ended quarantine."""
    file = pki.write(tmp_path / "secret", "one")
    built = build(
        settings([client(client_secret=SecretSource(file=file))], [route("operate", "cluster", "a")]), SystemClock()
    )
    assert built.sources["operate"].secret() == Secret("one")
    file.write_text("another")
    assert await built.watcher.poll() == ["credentials.cluster.client_secret_file"]
    assert built.sources["operate"].secret() == Secret("another")


async def test_a_renewed_certificate_with_its_old_key_is_a_new_secret(tmp_path: Path) -> None:
    """Registered anew, it must end a quarantine as a new secret does, for a signed assertion and for mutual TLS."""
    key = pki.new_key()
    certificate = pki.write(tmp_path / "c.pem", pki.pem(pki.certificate(key)))
    key_file = pki.write(tmp_path / "k.pem", pki.key_pem(key))
    signed = client(
        "jwt",
        client_authentication="private_key_jwt",
        private_key=SecretSource(file=key_file),
        certificate_file=certificate,
    )
    mutual = client("mtls", client_authentication="tls", client_secret=None, tls=Tls(None, certificate, key_file))
    built = build(settings([signed, mutual], [route("a", "jwt"), route("b", "mtls")]), SystemClock())
    before = [built.sources[name].secret() for name in "ab"]
    pki.write(certificate, pki.pem(pki.certificate(key)))
    assert await built.watcher.poll() == ["credentials.jwt.private_key_file", "credentials.mtls.tls.client_key_file"]
    after = [built.sources[name].secret() for name in "ab"]
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_the_systems_roots_are_loaded_once(tmp_path: Path) -> None:
    """Every route and issuer that has no files of its own connects with one context: each costs 20 ms and 1 MB."""
    ca_file = pki.write(tmp_path / "ca.pem", pki.pem(pki.certificate(pki.new_key())))
    built = build(
        settings(
            [client(token_url="https://i/t")],
            [
                route("operate", "cluster", "operate", upstream=SECURE),
                route("console", "cluster", "api", upstream=SECURE),
                route("own", "cluster", "own", upstream=SECURE, tls=Tls(ca_file=ca_file)),
            ],
        ),
        SystemClock(),
    )
    contexts = {name: watched.value for name, watched in built.upstream_tls.items()}
    assert contexts["operate"] is contexts["console"] is not contexts["own"]
    assert len(built.watcher.names()) == 5  # each is still told of by its own name: the secret's, and four contexts'
