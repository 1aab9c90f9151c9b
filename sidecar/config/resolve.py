"""The model becomes the settings: defaults filled in, files looked at, and checked what one key alone cannot tell."""

from __future__ import annotations

from sidecar.config import model, settings
from sidecar.config.files import Files
from sidecar.config.leaves import check_redis_url
from sidecar.config.listeners import check_listeners
from sidecar.config.report import BadValueError, Report
from sidecar.config.resolve_credentials import Credentials
from sidecar.config.resolve_routes import Routes
from sidecar.config.urls import origin
from sidecar.errors import SecretUnavailableError


def resolve(written: model.Configuration, files: Files) -> settings.Settings:
    """Mistakes and warnings go to the report of `files`; with mistakes, what comes back must not be used."""
    report = files.report
    if not written.routes and not report.is_wrong(("routes",)):
        report.mistake(("routes",), "has no route", "add one, such as operate: {credential: …}")
    credentials = Credentials(files)
    resolved = {name: credentials.resolve(name, credential) for name, credential in written.credentials.items()}
    routes = Routes(report, credentials, written).resolve()
    result = settings.Settings(
        source=report.source,
        listen=written.listen,
        admin_listen=written.admin.listen,
        credentials=resolved,
        routes=routes,
        token_store=_store(written.token_store, files),
        token_requests=_token_requests(written.token_requests),
        refresh=settings.Refresh(written.refresh.after, written.refresh.leeway),
        guard=settings.Guard(tuple(written.guard.hosts), written.guard.require_header, written.guard.allow_remote),
        limits=settings.Limits(
            written.limits.header_bytes,
            written.limits.head_timeout,
            written.limits.replay_bytes,
            written.limits.connections,
        ),
        logging=settings.Logging(written.logging.format, written.logging.level, written.logging.access),
        drain_delay=written.drain_delay,
        drain_timeout=written.drain_timeout,
    )
    _check_issuers(result, report)
    check_listeners(result, report)
    return result


def _token_requests(written: model.TokenRequests) -> settings.TokenRequests:
    return settings.TokenRequests(
        min_interval=written.min_interval,
        max_wait=written.max_wait,
        timeout=written.timeout,
        issuers={issuer: limits.min_interval for issuer, limits in written.issuers.items()},
    )


def _store(written: model.TokenStore, files: Files) -> settings.TokenStore:
    where = ("token_store",)
    match written:
        case model.MemoryStore():
            return settings.MemoryStore()
        case model.FileStore(directory=directory, group=group):
            if group is not None and not files.knows_group(group):
                files.report.warning((*where, "group"), "is no group on this machine", "create it, or correct the name")
            located = files.locate(directory, (*where, "directory")) if directory else files.state_directory()
            return settings.FileStore(located, group)
        case model.RedisStore():
            return _redis(written, files)


def _redis(written: model.RedisStore, files: Files) -> settings.TokenStore:
    where = ("token_store", "url")
    url = files.secret(written.url, written.url_file, where)
    if url is None:
        if not files.report.is_wrong(("token_store",)):
            files.report.mistake(where, "is missing for type: redis", "add url or url_file")
        return settings.MemoryStore()
    if url.file is not None and not files.report.is_wrong(("token_store", "url_file")):
        try:
            check_redis_url(url.read().reveal())
        except (BadValueError, SecretUnavailableError):
            files.report.mistake(
                ("token_store", "url_file"), "names a file that has no Redis URL in it", "write redis://host:6379/0"
            )
    return settings.RedisStore(url)


def issuer_of(credential: settings.Credential) -> str | None:
    """The origin that a credential's budget belongs to; None where nobody is asked."""
    match credential:
        case settings.ClientCredentials(token_url=url) | settings.SessionLogin(login_url=url):
            return origin(url)
        case _:
            return None


def _check_issuers(result: settings.Settings, report: Report) -> None:
    known = {issuer_of(credential) for credential in result.credentials.values()}
    for issuer in result.token_requests.issuers:
        if issuer not in known:
            report.warning(
                ("token_requests", "issuers", issuer), "is the issuer of no credential", "compare it with token_url"
            )
