"""How the model becomes the settings: defaults are filled in, and what no key alone can tell is checked."""

from __future__ import annotations

from msgspec.structs import replace

from sidecar.config.clients import check_clients
from sidecar.config.files import Files
from sidecar.config.listeners import check_listeners
from sidecar.config.model import UNWRITTEN
from sidecar.config.report import Report
from sidecar.config.resolve_credentials import Credentials
from sidecar.config.resolve_routes import Routes
from sidecar.config.settings import ClientCredentials, Credential, FileStore, SessionLogin, Settings, TokenStore
from sidecar.config.urls import origin


def resolve(written: Settings, files: Files) -> Settings:
    """Return the settings with everything filled in that depends on other keys, on the environment or on the user.

    Mistakes and warnings go to the report of `files`; with mistakes the settings must not be used.
    """
    report = files.report
    if not written.routes and written.grpc is None and not report.is_wrong(("routes",)):
        report.mistake(("routes",), "has no route", "add one, such as operate: {credential: …}")
    credentials = Credentials(files)
    resolved = {name: credentials.resolve(credential) for name, credential in written.credentials.items()}
    routes, grpc = Routes(report, credentials, written).resolve()
    result = replace(
        written,
        source=report.source,
        credentials=resolved,
        routes=routes,
        grpc=grpc,
        token_store=_store(written.token_store, files),
    )
    _check_issuers(result, report)
    check_listeners(result, report)
    check_clients(result, report)
    return result


def _store(written: TokenStore, files: Files) -> TokenStore:
    if not isinstance(written, FileStore):
        return written
    if written.group is not None and not files.knows_group(written.group):
        place = ("token_store", "group")
        files.report.warning(place, "is no group on this machine", "create it, or correct the name")
    directory = files.state_directory() if written.directory == UNWRITTEN else written.directory
    return FileStore(directory, written.group)


def issuer_of(credential: Credential) -> str | None:
    """Return the origin of a credential's issuer, or None where there is no issuer."""
    match credential:
        case ClientCredentials(token_url=url) | SessionLogin(login_url=url):
            return origin(url)
        case _:
            return None


def _check_issuers(result: Settings, report: Report) -> None:
    known = {issuer_of(credential) for credential in result.credentials.values()}
    for issuer in result.token_requests.issuers:
        if issuer not in known:
            report.warning(
                ("token_requests", "issuers", issuer), "is the issuer of no credential", "compare it with token_url"
            )
