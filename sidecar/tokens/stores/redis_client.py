"""Connections to Redis as people run it: one server, Sentinel, Cluster, with ACL users and TLS; and what can be wrong.

Passwords and TLS files are read anew for each connection, so that a changed one needs no restart.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable
from typing import Any, Final

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.connection import SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelManagedConnection
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider
from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthenticationWrongNumberOfArgsError,
    AuthorizationError,
    BusyLoadingError,
    ClusterDownError,
    InvalidResponse,
    MasterDownError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    ResponseError,
    SlotNotCoveredError,
)

from sidecar.background import in_thread
from sidecar.clock import Clock
from sidecar.config import settings
from sidecar.errors import SecretUnavailableError
from sidecar.secret import SecretSource
from sidecar.tokens.stores.base import StoreError, TlsContext

TIMEOUT: Final = 4.0
"""Seconds for connecting, and for an answer."""


class _Tls(SSLConnection):
    def __init__(self, *, contexts: Callable[[], ssl.SSLContext], **arguments: Any) -> None:
        super().__init__(**arguments)
        self._contexts = contexts

    async def _connect(self) -> None:
        self.ssl_context.context = await in_thread(self._contexts)
        await super()._connect()  # type: ignore[no-untyped-call]


class _SentinelTls(SentinelManagedConnection, _Tls):
    pass


class _Credentials(CredentialProvider):
    def __init__(self, username: str | None, password: SecretSource) -> None:
        self._username, self._password = username, password

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        password = self._password.read().reveal()
        return (self._username, password) if self._username else (password,)

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        return await in_thread(self.get_credentials)


async def connect(configured: settings.RedisStore, tls_context: TlsContext, clock: Clock) -> Redis | RedisCluster:
    """The client, with the address as it is now. Nothing is connected yet.

    Raises:
        SecretUnavailableError, ValueError: the address cannot be read.
    """
    url = {} if configured.url is None else dict(parse_url((await in_thread(configured.url.read)).reveal()))
    is_tls = url.pop("connection_class", None) is SSLConnection or (
        configured.sentinel is not None and configured.tls != settings.Tls()
    )
    arguments: dict[str, Any] = {
        **url,
        "socket_timeout": TIMEOUT,
        "socket_connect_timeout": TIMEOUT,
        "socket_keepalive": True,
        "protocol": 2,  # Redis 5 knows no other
        "driver_info": None,  # the default looks its version up on the disk, in the loop
    }
    arguments |= _credentials(configured.username or arguments.pop("username", None), configured.password, arguments)
    tls = {"contexts": lambda: tls_context(configured.tls, clock.wall())} if is_tls else {}
    if configured.cluster:
        return _cluster(arguments, tls)
    # A connection that the server has closed meanwhile is no reason to do without it.
    arguments["retry"] = Retry(NoBackoff(), 1)
    if configured.sentinel is None:
        return Redis(**arguments) if not tls else _tls_redis(arguments | tls)
    known = configured.sentinel
    hosts = [(each.host, each.port) for each in known.hosts]
    own = {**arguments, **_credentials(known.username, known.password, {})} | {"db": 0}
    if known.password is None:
        own.pop("credential_provider", None)
    kind: dict[str, Any] = {"connection_class": _SentinelTls if tls else SentinelManagedConnection}
    sentinel: Any = Sentinel(hosts, sentinel_kwargs=own, **arguments, **tls)  # type: ignore[no-untyped-call]
    if tls:
        sentinel.sentinels = [_tls_redis({"host": host, "port": port} | own | tls) for host, port in hosts]
    primary: Redis = sentinel.master_for(known.service, **kind)
    return primary


async def disconnect(client: Redis | RedisCluster) -> None:
    """Let the connections go, those to Sentinels too."""
    await client.aclose()
    sentinel = getattr(getattr(client, "connection_pool", None), "sentinel_manager", None)
    for each in sentinel.sentinels if sentinel is not None else ():
        await each.aclose()


def _tls_redis(arguments: dict[str, Any]) -> Redis:
    return Redis.from_pool(ConnectionPool(connection_class=_Tls, **arguments))


def _cluster(arguments: dict[str, Any], tls: dict[str, Any]) -> RedisCluster:
    host, port = arguments.pop("host", "localhost"), arguments.pop("port", 6379)
    arguments.pop("db", None)
    client = RedisCluster(host=host, port=port, retry=Retry(NoBackoff(), 3), ssl=bool(tls), **arguments)
    if tls:  # there is no way to name the class of connections
        client.connection_kwargs.update(connection_class=_Tls, **tls)
        for node in client.startup_nodes:
            node.connection_class = _Tls
            node.connection_kwargs.update(tls)
    return client


def _credentials(username: str | None, password: SecretSource | None, url: dict[str, Any]) -> dict[str, Any]:
    if password is not None:
        url.pop("password", None)
        return {"credential_provider": _Credentials(username, password)}
    return {"username": username} if username else {}


_GENERIC: Final = ("it cannot be reached", "check token_store.url, and the server")
_EXPLANATIONS: Final[tuple[tuple[type[BaseException], tuple[str, str]], ...]] = (
    (ReadOnlyError, ("it is a replica and takes no changes", "name the primary, or let token_store.sentinel find it")),
    (OutOfMemoryError, ("its memory is full", "raise maxmemory, or let it evict: the sidecar's keys all expire")),
    (BusyLoadingError, ("it is still loading its data", "wait; it is tried again by itself")),
    (AuthenticationWrongNumberOfArgsError, ("it knows no ACL users (Redis 6)", "remove token_store.username")),
    (AuthenticationError, ("it refuses this user or password", "check token_store.url, username and password")),
    (NoPermissionError, ("its user may not do what is needed", "let `doctor` name the ACL rules that are missing")),
    (AuthorizationError, ("it refuses this user", "check token_store.url, username and password")),
    (SlotNotCoveredError, ("some of the cluster's slots have no node", "look at CLUSTER INFO")),
    (MasterDownError, ("its primary is down", "look at the primary, or start the failover")),
    (ClusterDownError, ("the cluster is down", "look at CLUSTER INFO")),
    (AskError, ("it is one node of a cluster", "set token_store.cluster: true")),  # MOVED too
    (InvalidResponse, ("what answers there is no Redis", "check host and port, and whether it wants rediss://")),
    (
        ssl.SSLCertVerificationError,
        ("its certificate cannot be verified", "use its name in the URL, or set token_store.tls"),
    ),
    (ssl.SSLError, ("TLS cannot be agreed on", "check that the port is a TLS one, and token_store.tls")),
    (TimeoutError, (f"it does not answer within {TIMEOUT:g} s", "check the network, and what the server is doing")),
)


def explained(error: BaseException) -> StoreError:
    """What happened and what to do, in one line; never what the client's error quotes, an address with its password."""
    chain: list[BaseException] = []
    each: BaseException | None = error
    while each is not None and each not in chain:
        chain.append(each)
        each = each.__cause__ or each.__context__
    unreadable = next((each for each in chain if isinstance(each, SecretUnavailableError)), None)
    if unreadable is not None:
        return StoreError(unreadable.detail)
    if isinstance(error, RedisClusterException) and "cluster mode is not enabled" in str(error).lower():
        found = ("it is no cluster", "remove token_store.cluster")
    elif type(error).__name__ == "MasterNotFoundError":
        found = ("the Sentinels know no primary of that name", "check token_store.sentinel.service and hosts")
    elif any("unknown command" in str(cause).lower() for cause in chain):
        found = ("it does not know a command that is needed", "use Redis 5 or later, or Valkey")
    elif any(str(cause).startswith(("MISCONF", "NOREPLICAS")) for cause in chain):
        found = ("it cannot save, or has too few replicas, and takes no changes", "look at the server's log")
    else:
        kinds = (text for kind, text in _EXPLANATIONS if any(isinstance(cause, kind) for cause in chain))
        found = next(kinds, (f"{_GENERIC[0]} ({type(error).__name__})", _GENERIC[1]))
    detail = next((f" ({each.verify_message})" for each in chain if isinstance(each, ssl.SSLCertVerificationError)), "")
    return StoreError(
        f"Redis cannot be used: {found[0]}{detail}. Cure: {found[1]}.", readable=isinstance(error, ResponseError)
    )


COMMANDS: Final[dict[str, tuple[str | int, ...]]] = {
    "eval": ("return 1", 1, "{}"),
    "time": (),
    "type": ("{}",),
    "hget": ("{}", "x"),
    "hmget": ("{}", "x"),
    "hexists": ("{}", "x"),
    "hlen": ("{}",),
    "hset": ("{}", "x", "1"),
    "hdel": ("{}", "x"),
    "expire": ("{}", 1),
    "del": ("{}",),
    "set": ("{}", "x", "PX", 100),
    "get": ("{}",),
    "xadd": ("{}:released", "MAXLEN", 1, "*", "x", "1"),
    "xread": (),
}
"""Every command that is used, directly or in a script, with arguments that do no harm; `{}` is a key of the check."""


async def check_commands(client: Redis | RedisCluster, prefix: str, process: str) -> None:
    """Use each command once, on keys of this process.

    Raises:
        StoreError: some are not allowed to this user; it names the rules that are missing.
    """
    key = f"{prefix}check:{{{process}}}"
    refused: list[str] = []
    batch = client.pipeline(transaction=False)
    for command, arguments in COMMANDS.items():
        if command == "xread":  # a cluster does not know by itself which of its arguments are keys
            batch.xread({f"{key}:released": "$"})
        else:
            batch.execute_command(
                command.upper(), *(each.format(key) if isinstance(each, str) else each for each in arguments)
            )
    for command, answer in zip(COMMANDS, await batch.execute(raise_on_error=False), strict=True):
        if isinstance(answer, NoPermissionError):
            is_key = re.search(r"a key|one of the keys", str(answer))
            refused.append(f"~{prefix}*" if is_key else f"+{command}")
        elif isinstance(answer, Exception):
            raise answer
    if refused:
        rules = " ".join(dict.fromkeys(refused))
        raise StoreError(f"Redis cannot be used: its user may not do what is needed. Cure: ACL SETUSER NAME {rules}.")
    await client.delete(key, f"{key}:released")
