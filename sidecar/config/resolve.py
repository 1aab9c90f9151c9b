"""How the model becomes the settings: defaults are filled in, and what no key alone can tell is checked."""

from __future__ import annotations

from sidecar.config import model, settings
from sidecar.config.clients import check_clients
from sidecar.config.files import Files
from sidecar.config.listeners import check_listeners
from sidecar.config.report import Report
from sidecar.config.resolve_credentials import Credentials
from sidecar.config.resolve_routes import Routes
from sidecar.config.urls import endpoint


def resolve(written: model.Configuration, files: Files) -> settings.Settings:
    """Return the settings. Mistakes and warnings go to the report of `files`; with mistakes they must not be used."""
    report = files.report
    if not written.routes and written.grpc is None and not report.is_wrong(("routes",)):
        report.mistake(("routes",), "has no route", "add one, such as operate: {credential: …}")
    credentials = Credentials(files)
    resolved = {name: credentials.resolve(credential) for name, credential in written.credentials.items()}
    routes, grpc = Routes(report, credentials, written).resolve()
    result = settings.Settings(
        source=report.source,
        listen=written.listen,
        admin=written.admin,
        credentials=resolved,
        routes=routes,
        grpc=grpc,
        clients=written.clients,
        token_endpoint=written.token_endpoint,
        token_store=_store(written.token_store, files),
        token_requests=written.token_requests,
        refresh=written.refresh,
        guard=written.guard,
        limits=written.limits,
        logging=written.logging,
        drain_delay=written.drain_delay,
        drain_timeout=written.drain_timeout,
    )
    _check_issuers(result, report)
    check_listeners(result, report)
    check_clients(result, report)
    return result


def _store(written: model.TokenStore, files: Files) -> model.TokenStore:
    if not isinstance(written, model.FileStore):
        return written
    if written.group is not None and not files.knows_group(written.group):
        place = ("token_store", "group")
        files.report.warning(place, "is no group on this machine", "create it, or correct the name")
    directory = files.state_directory() if written.directory == model.UNWRITTEN else written.directory
    return model.FileStore(directory, written.group)


def issuer_of(credential: settings.Credential) -> str | None:
    """Return the origin of a credential's issuer, or None where there is no issuer."""
    match credential:
        case settings.ClientCredentials(token_url=url) | settings.SessionLogin(login_url=url):
            return endpoint(url).origin
        case _:
            return None


def _check_issuers(result: settings.Settings, report: Report) -> None:
    known = {issuer_of(credential) for credential in result.credentials.values()}
    for issuer in result.token_requests.issuers:
        if issuer not in known:
            report.warning(
                ("token_requests", "issuers", issuer), "is the issuer of no credential", "compare it with token_url"
            )
