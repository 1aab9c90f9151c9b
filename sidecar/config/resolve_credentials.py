"""How `credentials` are filled in and checked."""

from __future__ import annotations

from dataclasses import dataclass

from msgspec.structs import replace

from sidecar.config import model
from sidecar.config.files import Files
from sidecar.config.forward_proxy import proxy_for, variable_in_force
from sidecar.config.products import SAAS_TOKEN_URL
from sidecar.config.report import BadValueError, Path
from sidecar.config.urls import endpoint, is_loopback
from sidecar.config.values import Upstream

_OWN_FIELDS = {"grant_type", "client_id", "client_secret", "audience", "scope", "resource"} | {
    *("client_assertion", "client_assertion_type")
}


@dataclass(frozen=True, slots=True)
class Credentials:
    """It resolves one credential after the other. Mistakes go to the report of `files`."""

    files: Files

    def resolve(self, written: model.Credential) -> model.Credential:
        """Return the credential with its issuer's address and forward proxy, where it has any."""
        where = ("credentials", written.name)
        match written:
            case model.ClientCredentials():
                return self._client_credentials(written, where)
            case model.SessionLogin(login_url=url, tls=tls):
                self._warn_plain(url, (*where, "login_url"), "the password", sends_secret=True)
                self.check_tls(tls, (*where, "tls"))
                return replace(written, proxy=self.proxy(endpoint(url)))
            case model.Basic(username=username) if ":" in username:
                cure = "HTTP Basic cannot carry such a name (RFC 7617)"
                self.files.report.mistake((*where, "username"), "has a colon in it", cure)
        return written

    def proxy(self, url: Upstream) -> str | None:
        """Return the forward proxy towards `url`."""
        environ = self.files.environ
        try:
            return proxy_for(url, environ)
        except BadValueError as error:
            variable = variable_in_force(environ)
            self.files.report.set_by_variable(("environment", variable), variable)
            self.files.report.mistake(("environment", variable), error.message, error.cure)
            return None

    def check_tls(self, tls: model.Tls, where: Path) -> None:
        """Refuse a key without a certificate, which proves nothing."""
        if tls.client_key_file and not tls.client_certificate_file:
            cure = "name the certificate too"
            self.files.report.mistake((*where, "client_key_file"), "is given without client_certificate_file", cure)

    def _client_credentials(self, written: model.ClientCredentials, where: Path) -> model.ClientCredentials:
        self._check_proof(written, where)
        self.check_tls(written.tls, (*where, "tls"))
        for field in written.extra:
            if field in _OWN_FIELDS:
                place = (*where, "extra", field)
                self.files.report.mistake(place, "is a field of its own", f"use the key {field} for it")
        token_url = self._token_url(written, where)
        self._warn_plain(
            token_url, (*where, "token_url"), "the client's secret", sends_secret=written.client_secret is not None
        )
        scope = written.scope or (f"{written.client_id}/.default" if written.entra else None)
        proxy = self.proxy(endpoint(token_url))
        return replace(written, token_url=token_url, identity=None, entra=None, scope=scope, proxy=proxy)

    def _token_url(self, written: model.ClientCredentials, where: Path) -> str:
        given = [key for key in ("token_url", "identity", "entra") if getattr(written, key)]
        for key in given[1:]:
            self.files.report.mistake((*where, key), f"is given besides {given[0]}", "each says where the issuer is")
        if written.token_url:
            return written.token_url
        if written.identity is not None:
            return f"{written.identity.url}/realms/{written.identity.realm}/protocol/openid-connect/token"
        if written.entra is not None:
            return f"https://login.microsoftonline.com/{written.entra.tenant_id}/oauth2/v2.0/token"
        return SAAS_TOKEN_URL

    def _check_proof(self, written: model.ClientCredentials, where: Path) -> None:
        """Refuse a client without what it authenticates itself by, and warn of what it does not need."""
        report, method = self.files.report, written.client_authentication
        needed = {"body": "client_secret", "basic": "client_secret", "private_key_jwt": "private_key"}.get(method)
        for key in ("client_secret", "private_key"):
            is_given = getattr(written, key) is not None
            if key == needed and not is_given and not report.is_wrong((*where, f"{key}_file")):
                missing = f"is missing for client_authentication: {method}"
                report.mistake((*where, key), missing, f"add {key} or {key}_file")
            if key != needed and is_given:
                report.warning((*where, key), f"is not used by client_authentication: {method}", "remove one of them")
        if method == "tls" and written.tls.client_certificate_file is None:
            report.mistake(
                (*where, "tls", "client_certificate_file"),
                "is missing for client_authentication: tls",
                "name the certificate, and its key in client_key_file",
            )

    def _warn_plain(self, url: str, where: Path, what: str, *, sends_secret: bool) -> None:
        upstream = endpoint(url)
        if sends_secret and upstream.scheme == "http" and not is_loopback(upstream.host):
            self.files.report.warning(where, f"is plain http: {what} crosses the network unencrypted", "use https")
