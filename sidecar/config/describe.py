"""Settings as the user would write them, every default filled in and every secret masked: what `check` prints."""

from __future__ import annotations

import re
from typing import Any, assert_never

from sidecar.config import settings
from sidecar.secret import SecretSource

MASK = "***"

_NULL_SAYS_SOMETHING = {"audience"}
_UNITS = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))
_SIZES = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


def describe(configured: settings.Settings) -> dict[str, Any]:
    """Plain mappings, lists and text, for YAML or JSON. No secret is in it; what is not set is left out."""
    return _without_nothing(
        {
            "listen": str(configured.listen),
            "admin": {"listen": str(configured.admin_listen)},
            "credentials": {name: _credential(credential) for name, credential in configured.credentials.items()},
            "routes": {route.name: _route(route) for route in configured.routes},
            "token_store": _store(configured.token_store),
            "token_requests": {
                "min_interval": duration(configured.token_requests.min_interval),
                "max_wait": duration(configured.token_requests.max_wait),
                "timeout": duration(configured.token_requests.timeout),
                "issuers": {
                    issuer: {"min_interval": duration(seconds)}
                    for issuer, seconds in configured.token_requests.issuers.items()
                },
            },
            "refresh": {"after": configured.refresh.after, "leeway": duration(configured.refresh.leeway)},
            "guard": _guard(configured.guard),
            "limits": {
                "header_bytes": size(configured.limits.header_bytes),
                "head_timeout": duration(configured.limits.head_timeout),
                "replay_bytes": size(configured.limits.replay_bytes),
                "connections": configured.limits.connections,
            },
            "logging": {
                "format": configured.logging.format,
                "level": configured.logging.level,
                "access": configured.logging.access,
            },
            "drain_delay": duration(configured.drain_delay),
            "drain_timeout": duration(configured.drain_timeout),
        }
    )


def duration(seconds: float) -> str:
    """As it is written: `1.25s`, `5m`, `500ms`."""
    for unit, name in _UNITS:
        if seconds >= unit and seconds % unit == 0:
            return f"{seconds / unit:.0f}{name}"
    return f"{seconds:g}s" if seconds >= 1 or seconds == 0 else f"{seconds * 1000:g}ms"


def size(count: int) -> str | int:
    """As it is written: `64KiB`, or a number of bytes."""
    for unit, name in _SIZES:
        if count >= unit and count % unit == 0:
            return f"{count // unit}{name}"
    return count


def without_password(proxy: str | None) -> str | None:
    """A forward proxy's URL with what stands before the @ masked."""
    return None if proxy is None else re.sub(r"//[^/]*@", f"//{MASK}@", proxy)


def _credential(credential: settings.Credential) -> dict[str, Any]:
    match credential:
        case settings.ClientCredentials():
            return _client_credentials(credential)
        case settings.StaticToken(token=token):
            return {"type": "static_token", **_secret("token", token)}
        case settings.SessionLogin():
            return {
                "type": "session",
                "login_url": credential.login_url,
                "username": credential.username,
                **_secret("password", credential.password),
                "request_format": credential.request_format,
                "tls": _tls(credential.tls),
                "proxy": without_password(credential.proxy),
            }
        case settings.Basic(username=username, password=password):
            return {"type": "basic", "username": username, **_secret("password", password)}
        case settings.NoCredential():
            return {"type": "none"}
        case _:
            assert_never(credential)


def _client_credentials(credential: settings.ClientCredentials) -> dict[str, Any]:
    return {
        "type": "client_credentials",
        "token_url": credential.token_url,
        "client_id": credential.client_id,
        **_secret("client_secret", credential.client_secret),
        "request_format": credential.request_format,
        "client_authentication": credential.client_authentication,
        "scope": credential.scope,
        "resource": credential.resource,
        # What an issuer of one's own wants there may be a secret too.
        "extra": dict.fromkeys(credential.extra, MASK),
        **_secret("private_key", credential.private_key),
        **_secret("private_key_password", credential.private_key_password),
        "certificate_file": _path(credential.certificate_file),
        "key_id": credential.key_id,
        "assertion_audience": credential.assertion_audience,
        "assertion_algorithm": credential.assertion_algorithm,
        "tls": _tls(credential.tls),
        "proxy": without_password(credential.proxy),
    }


def _route(route: settings.Route) -> dict[str, Any]:
    return {
        "product": route.product,
        "prefix": route.prefix,
        "upstream": str(route.upstream),
        "credential": route.credential,
        "audience": route.audience,
        "public": [str(rule) for rule in route.public],
        "allow": None if route.allow is None else [str(rule) for rule in route.allow],
        "timeouts": {
            "connect": duration(route.timeouts.connect),
            "response": duration(route.timeouts.response),
            "idle": duration(route.timeouts.idle),
        },
        "tls": _tls(route.tls),
        "cookies": route.cookies,
        "max_body": None if route.max_body is None else size(route.max_body),
        "proxy": without_password(route.proxy),
    }


def _store(store: settings.TokenStore) -> dict[str, Any]:
    match store:
        case settings.MemoryStore():
            return {"type": "memory"}
        case settings.FileStore(directory=directory, group=group):
            return {"type": "file", "directory": str(directory), "group": group}
        case settings.RedisStore(url=url):
            return {"type": "redis", **_secret("url", url)}
        case _:
            assert_never(store)


def _guard(guard: settings.Guard) -> dict[str, Any]:
    header = guard.require_header
    shown = None if header is None else header.name if header.value is None else f"{header.name}: {MASK}"
    return {"hosts": list(guard.hosts), "require_header": shown, "allow_remote": guard.allow_remote}


def _tls(tls: settings.Tls) -> dict[str, Any]:
    return {
        "ca_file": _path(tls.ca_file),
        "client_certificate_file": _path(tls.client_certificate_file),
        "client_key_file": _path(tls.client_key_file),
        **_secret("client_key_password", tls.client_key_password),
    }


def _secret(key: str, source: SecretSource | None) -> dict[str, str]:
    if source is None:
        return {}
    return {key: MASK} if source.file is None else {f"{key}_file": str(source.file)}


def _path(path: object) -> str | None:
    return None if path is None else str(path)


def _without_nothing(value: dict[str, Any]) -> dict[str, Any]:
    """Without null, where it is the default, and without sections that are empty for it."""
    kept = {key: _without_nothing(item) if isinstance(item, dict) else item for key, item in value.items()}
    return {key: item for key, item in kept.items() if item not in (None, {}) or key in _NULL_SAYS_SOMETHING}
