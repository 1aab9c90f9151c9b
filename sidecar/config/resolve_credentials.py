"""What the user wrote under `credentials` becomes the settings' credentials."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path as FilePath

from msgspec import UNSET

from sidecar.config import model, settings
from sidecar.config.files import Files
from sidecar.config.forward_proxy import proxy_for, variable_in_force
from sidecar.config.products import SAAS_TOKEN_URL
from sidecar.config.report import BadValueError, Path
from sidecar.config.settings import Upstream
from sidecar.config.urls import is_loopback, parse_base
from sidecar.secret import Secret, SecretSource

_OWN_FIELDS = frozenset(
    {
        "grant_type",
        "client_id",
        "client_secret",
        "audience",
        "scope",
        "resource",
        "client_assertion",
        "client_assertion_type",
    }
)


@dataclass(frozen=True, slots=True)
class Credentials:
    """Resolves one credential after the other."""

    files: Files

    def resolve(self, name: str, credential: model.Credential) -> settings.Credential:
        """The settings' form; mistakes go to the report."""
        where = ("credentials", name)
        match credential:
            case model.ClientCredentials():
                return self._client_credentials(name, credential, where)
            case model.StaticToken():
                token = self._required(credential.token, credential.token_file, (*where, "token"))
                return settings.StaticToken(name, token)
            case model.SessionLogin():
                return self._session(name, credential, where)
            case model.Basic():
                password = self._required(credential.password, credential.password_file, (*where, "password"))
                if ":" in credential.username:
                    self.files.report.mistake(
                        (*where, "username"), "has a colon in it", "HTTP Basic cannot carry such a name (RFC 7617)"
                    )
                return settings.Basic(name, credential.username, password)
            case model.NoCredential():
                return settings.NoCredential(name)

    def proxy(self, url: Upstream) -> str | None:
        """The forward proxy towards `url`."""
        environ = self.files.environ
        try:
            return proxy_for(url, environ)
        except BadValueError as error:
            variable = variable_in_force(environ)
            self.files.report.names["environment", variable] = variable
            self.files.report.mistake(("environment", variable), error.message, error.cure)
            return None

    def tls(self, tls: model.Tls, where: Path) -> settings.Tls:
        """The files and the password."""
        if tls.client_key_file and not tls.client_certificate_file:
            self.files.report.mistake(
                (*where, "client_key_file"), "is given without client_certificate_file", "name the certificate too"
            )
        return settings.Tls(
            ca_file=self.files.readable(tls.ca_file, (*where, "ca_file")),
            client_certificate_file=self.files.readable(
                tls.client_certificate_file, (*where, "client_certificate_file")
            ),
            client_key_file=self.files.readable(tls.client_key_file, (*where, "client_key_file")),
            client_key_password=self.files.secret(
                tls.client_key_password, tls.client_key_password_file, (*where, "client_key_password")
            ),
        )

    def _client_credentials(
        self, name: str, written: model.ClientCredentials, where: Path
    ) -> settings.ClientCredentials:
        files = self.files
        secret = files.secret(written.client_secret, written.client_secret_file, (*where, "client_secret"))
        private_key = files.secret(written.private_key, written.private_key_file, (*where, "private_key"), is_pem=True)
        self._check_proof(written, where, has_secret=secret is not None, has_key=private_key is not None)
        for field in written.extra:
            if field in _OWN_FIELDS:
                files.report.mistake((*where, "extra", field), "is a field of its own", f"use the key {field} for it")
        token_url = self._token_url(written, where)
        self._warn_plain(token_url, (*where, "token_url"), "the client's secret", sends_secret=secret is not None)
        return settings.ClientCredentials(
            name=name,
            token_url=token_url,
            client_id=written.client_id,
            client_secret=secret,
            request_format=written.request_format,
            client_authentication=written.client_authentication,
            scope=_scope(written),
            resource=written.resource,
            extra=dict(written.extra),
            private_key=private_key,
            private_key_password=files.secret(
                written.private_key_password, written.private_key_password_file, (*where, "private_key_password")
            ),
            certificate_file=files.readable(written.certificate_file, (*where, "certificate_file")),
            key_id=written.key_id,
            assertion_audience=written.assertion_audience,
            assertion_algorithm=written.assertion_algorithm,
            tls=self.tls(written.tls, (*where, "tls")),
            proxy=self.proxy(_upstream(token_url)),
        )

    def _token_url(self, written: model.ClientCredentials, where: Path) -> str:
        given = [key for key in ("token_url", "identity", "entra") if getattr(written, key) is not None]
        for key in given[1:]:
            self.files.report.mistake((*where, key), f"is given besides {given[0]}", "each says where the issuer is")
        if written.token_url is not None:
            return written.token_url
        if written.identity is not None:
            return f"{written.identity.url}/realms/{written.identity.realm}/protocol/openid-connect/token"
        if written.entra is not None:
            return f"https://login.microsoftonline.com/{written.entra.tenant_id}/oauth2/v2.0/token"
        return SAAS_TOKEN_URL

    def _check_proof(self, written: model.ClientCredentials, where: Path, *, has_secret: bool, has_key: bool) -> None:
        """Whether what the client proves itself with is there; what it does not need is worth a word."""
        report, method = self.files.report, written.client_authentication
        needs_secret = method in {"body", "basic"}
        self._missing(where, "client_secret", f"for client_authentication: {method}", needs_secret and not has_secret)
        self._missing(where, "private_key", f"for client_authentication: {method}", _jwt(method) and not has_key)
        if method == "tls" and written.tls.client_certificate_file is None:
            report.mistake(
                (*where, "tls", "client_certificate_file"),
                "is missing for client_authentication: tls",
                "name the certificate, and its key in client_key_file",
            )
        unused = {"client_secret": has_secret and not needs_secret, "private_key": has_key and not _jwt(method)}
        for key, is_unused in unused.items():
            if is_unused:
                report.warning((*where, key), f"is not used by client_authentication: {method}", "remove one of them")

    def _session(self, name: str, written: model.SessionLogin, where: Path) -> settings.SessionLogin:
        password = self._required(written.password, written.password_file, (*where, "password"))
        self._warn_plain(written.login_url, (*where, "login_url"), "the password", sends_secret=True)
        return settings.SessionLogin(
            name=name,
            login_url=written.login_url,
            username=written.username,
            password=password,
            request_format=written.request_format,
            tls=self.tls(written.tls, (*where, "tls")),
            proxy=self.proxy(_upstream(written.login_url)),
        )

    def _required(self, value: Secret | None, file: FilePath | None, where: Path) -> SecretSource:
        source = self.files.secret(value, file, where)
        self._missing(where[:-1], str(where[-1]), "", source is None)
        return source or SecretSource()

    def _missing(self, where: Path, key: str, reason: str, is_missing: bool) -> None:
        report = self.files.report
        twin_is_wrong = report.is_wrong((*where, f"{key}_file"))
        if is_missing and not twin_is_wrong:
            report.mistake((*where, key), f"is missing {reason}".rstrip(), f"add {key} or {key}_file")

    def _warn_plain(self, url: str, where: Path, what: str, *, sends_secret: bool) -> None:
        upstream = _upstream(url)
        if sends_secret and upstream.scheme == "http" and not is_loopback(upstream.host):
            self.files.report.warning(where, f"is plain http: {what} crosses the network unencrypted", "use https")


def _jwt(method: str) -> bool:
    return method == "private_key_jwt"


def _scope(written: model.ClientCredentials) -> str | None:
    if written.scope is not UNSET:
        return written.scope
    return f"{written.client_id}/.default" if written.entra else None


def _upstream(url: str) -> Upstream:
    return parse_base(url.split("?", 1)[0])
