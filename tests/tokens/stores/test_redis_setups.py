"""Redis as people run it: ACL users, TLS, Sentinel, Cluster; and each way in which it refuses, said in one line."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import trustme
from structlog.testing import capture_logs

from sidecar.clock import SystemClock
from sidecar.config.model import Sentinel, Tls
from sidecar.config.values import TcpAddress
from sidecar.secret import Secret, SecretSource
from sidecar.tokens.stores.base import StoreError
from sidecar.tokens.stores.degrading import DegradingStore
from sidecar.tokens.stores.redis_client import COMMANDS
from tests import needs
from tests.tokens.stores.support import free_port, redis_server, redis_store
from tests.tokens.support import Events

CLOCK = SystemClock()


def put(data: bytes):
    return lambda _record, _now: data


@asynccontextmanager
async def saying(answer: bytes) -> AsyncIterator[int]:
    """A server that answers this to whatever is sent; its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while sent := await reader.read(65536):
            writer.write(answer * sent.count(b"\r\n$"))  # at least one for each command
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize(
    ("answer", "said", "cure"),
    [
        (b"-READONLY You can't write against a read only replica.\r\n", "it is a replica", "sentinel"),
        (b"-OOM command not allowed when used memory > 'maxmemory'.\r\n", "memory is full", "maxmemory"),
        (b"-LOADING Redis is loading the dataset in memory\r\n", "still loading", "wait"),
        (b"-NOAUTH Authentication required.\r\n", "refuses this user or password", "token_store.url, username"),
        (b"-WRONGPASS invalid pair\r\n", "refuses this user or password", "token_store.url, username"),
        (b"-MOVED 866 127.0.0.1:7001\r\n", "one node of a cluster", "token_store.cluster: true"),
        (b"-CLUSTERDOWN Hash slot not served\r\n", "the cluster is down", "CLUSTER INFO"),
        (b"-MASTERDOWN Link with MASTER is down\r\n", "its primary is down", "failover"),
        (b"-MISCONF Errors writing to the AOF file\r\n", "cannot save", "server's log"),
        (b"-ERR unknown command 'EVAL'\r\n", "does not know a command", "Redis 5 or later"),
        (b"-NOPERM User x has no permissions to run the 'eval' command\r\n", "may not do what", "+eval +time"),
        (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", "no Redis", "host and port"),
    ],
)
async def test_each_refusal_is_one_line_with_its_cure(answer, said, cure) -> None:
    """No traceback, and nothing is lost: what is written meanwhile is kept."""
    async with saying(answer) as port:
        store = DegradingStore(redis_store(port, CLOCK), CLOCK, Events())
        with capture_logs() as logs:
            await store.open()
            assert (await store.update("key", put(b"data"))).data == b"data"
        (line,) = logs
        assert said in line["reason"]
        assert cure in line["reason"].split("Cure: ")[1]
        assert "\n" not in line["reason"]
        await store.close()


async def test_a_user_with_exactly_the_documented_commands(tmp_path) -> None:
    """Nothing else is used; one that is missing is named as the ACL rule that gives it."""
    with redis_server(tmp_path) as port:
        admin = redis_store(port, CLOCK)
        await admin.open()

        async def acl(*rules: str) -> None:
            await admin._redis.execute_command("ACL", "SETUSER", "sidecar", "reset", "on", ">pass", *rules)

        allowed = [f"+{command}" for command in COMMANDS]
        await acl("~mine:*", *allowed)
        keys = {"username": "sidecar", "password": SecretSource(value=Secret("pass")), "prefix": "mine:"}
        store = redis_store(port, CLOCK, **keys)
        await store.open()
        assert (await store.check()).count == 1
        assert (await store.update("key", put(b"data"))).data == b"data"
        release = await store.acquire("key")
        waiting = asyncio.ensure_future(store.released("key", 0.1))
        await release()
        await waiting
        names = {name.decode() for name in await admin._redis.keys("*")}
        assert all(name.startswith(("mine:", "camunda-sidecar:check")) for name in names)

        await acl("~mine:*", *(rule for rule in allowed if rule not in {"+xread", "+hset"}))
        other = redis_store(port, CLOCK, **keys)
        with pytest.raises(StoreError, match=r"ACL SETUSER NAME \+hset \+xread\.$"):
            await other.open()
        await acl("~other:*", *allowed)
        with pytest.raises(StoreError, match=r"ACL SETUSER NAME ~mine:\*\.$"):
            await other.open()
        for each in (store, other, admin):
            await each.close()


async def test_a_changed_password_needs_no_restart(tmp_path) -> None:
    """It is in a file, and is read for each new connection."""
    password = tmp_path / "password"
    password.write_text("old\n")
    with redis_server(tmp_path) as port:
        admin = redis_store(port, CLOCK)
        await admin.open()
        await admin._redis.execute_command("ACL", "SETUSER", "sidecar", "on", ">old", "~*", "+@all")
        store = redis_store(port, CLOCK, username="sidecar", password=SecretSource(file=password))
        await store.open()
        await store.update("key", put(b"data"))
        password.write_text("new\n")
        await admin._redis.execute_command("ACL", "SETUSER", "sidecar", "resetpass", ">new")
        await admin._redis.execute_command("CLIENT", "KILL", "USER", "sidecar")
        assert (await store.load("key")).data == b"data"
        await store.close()
        await admin.close()


async def test_tls_with_an_authority_of_ones_own_and_a_client_certificate(tmp_path) -> None:
    """Another name in the certificate, or none of the client's, is said; renewed files are used without a restart."""
    authority, foreign = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    server, client = authority.issue_cert("localhost"), authority.issue_cert("client.example")
    server.cert_chain_pems[0].write_to_path(tmp_path / "server.pem")
    server.private_key_pem.write_to_path(tmp_path / "server.key")
    client.private_key_and_cert_chain_pem.write_to_path(tmp_path / "client.pem")
    port = free_port()
    files = ("--tls-cert-file", "server.pem", "--tls-key-file", "server.key", "--tls-ca-cert-file", "ca.pem")
    with redis_server(tmp_path, "--tls-port", str(port), *files):
        tls = Tls(ca_file=tmp_path / "ca.pem", client_certificate_file=tmp_path / "client.pem")
        store = redis_store(0, CLOCK, url=f"rediss://localhost:{port}/0", tls=tls)
        await store.open()
        await store.update("key", put(b"data"))
        for name, other, said in (
            ("127.0.0.1", tls, "Hostname mismatch|IP address mismatch"),
            ("localhost", Tls(ca_file=tmp_path / "ca.pem"), "TLS cannot be agreed on|cannot be reached"),
            ("localhost", Tls(ca_file=tmp_path / "nothing.pem"), "nothing.pem cannot be read"),
        ):
            wrong = redis_store(0, CLOCK, url=f"rediss://{name}:{port}/0", tls=other)
            with pytest.raises(StoreError, match=said):
                await wrong.open()
            await wrong.close()
        foreign.cert_pem.write_to_path(tmp_path / "ca.pem")
        await store._redis.connection_pool.disconnect()
        with pytest.raises(StoreError, match="certificate cannot be verified"):
            await store.load("key")
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        assert (await store.load("key")).data == b"data"
        await store.close()


async def test_a_server_whose_memory_is_full_is_read(tmp_path) -> None:
    """And used again when there is room."""
    with redis_server(tmp_path) as port:
        store, events = redis_store(port, CLOCK), Events()
        degrading = DegradingStore(store, CLOCK, events)
        await degrading.open()
        await degrading.update("key", put(b"before"))
        await store._redis.config_set("maxmemory", 1)
        with capture_logs() as logs:
            assert (await degrading.update("key", put(b"after"))).data == b"after"
        assert ["memory is full" in line["reason"] for line in logs] == [True]
        assert degrading.fault.readable
        await store._redis.config_set("maxmemory", 0)
        await degrading.check()
        assert (degrading.fault, (await store.load("key")).data) == (None, b"after")
        await degrading.close()


async def test_who_waits_for_a_lock_hears_of_its_release_at_once(tmp_path) -> None:
    """Two hundred waiters poll once a second, and all know within a moment: no release is missed between two polls."""
    with redis_server(tmp_path) as port:
        stores = [redis_store(port, CLOCK) for _ in range(40)]
        await asyncio.gather(*(each.open() for each in stores))
        release = await stores[0].acquire("key")
        assert await stores[1].acquire("key") is None
        waiting = [asyncio.ensure_future(each.released("key", 0.05)) for each in stores[1:]]
        await asyncio.sleep(0.3)
        assert not any(each.done() for each in waiting)
        began = CLOCK.monotonic()
        await release()
        await asyncio.gather(*waiting)
        assert CLOCK.monotonic() - began < 0.5
        await asyncio.gather(*(each.close() for each in stores))


async def redis_cli(port: int, *arguments: str) -> str:
    """Redis's own client."""
    program = needs.program("redis-cli", "valkey-cli", package="redis-tools")
    command = await asyncio.create_subprocess_exec(program, "-p", str(port), *arguments, stdout=subprocess.PIPE)
    output, _ = await command.communicate()
    return output.decode()


def started(*command: str) -> subprocess.Popen[bytes]:
    """A server."""
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


async def until(condition) -> None:
    """Wait for something that a server does by itself."""
    async with asyncio.timeout(30):
        while not await condition():  # noqa: ASYNC110 (it tells nobody)
            await asyncio.sleep(0.05)


async def test_sentinel_leads_to_the_primary_and_to_the_next_one(tmp_path) -> None:
    """After a failover the old primary is a replica: the next check finds the new one, with what was written."""
    program = needs.program("redis-sentinel", package="redis-sentinel")
    async with AsyncExitStack() as stack:
        ports = [stack.enter_context(redis_server(tmp_path)) for _ in range(2)]
        await redis_cli(ports[1], "replicaof", "127.0.0.1", str(ports[0]))

        async def replica_is_level() -> bool:
            return "master_link_status:up" in await redis_cli(ports[1], "info", "replication")

        await until(replica_is_level)  # or the Sentinel would ask again after 10 s
        watching = free_port()
        file = tmp_path / "sentinel.conf"
        file.write_text(
            f"port {watching}\nbind 127.0.0.1\ndir {tmp_path}\nsentinel monitor mymaster 127.0.0.1 {ports[0]} 1\n"
            "sentinel down-after-milliseconds mymaster 1000\nsentinel failover-timeout mymaster 3000\n"
        )
        sentinel = started(program, str(file))
        stack.callback(sentinel.wait)
        stack.callback(sentinel.kill)

        async def replica_is_known() -> bool:
            return f"127.0.0.1:{ports[1]}" in await redis_cli(watching, "sentinel", "replicas", "mymaster")

        await until(replica_is_known)
        where = Sentinel("mymaster", (TcpAddress("127.0.0.1", watching),))
        store = DegradingStore(redis_store(0, CLOCK, url=None, sentinel=where), CLOCK, Events())
        await store.open()
        assert store.fault is None
        await store.update("key", put(b"data"))

        async def moved() -> bool:
            await redis_cli(watching, "sentinel", "failover", "mymaster")
            return "role:master" in await redis_cli(ports[1], "info", "replication")

        await until(moved)

        async def in_use() -> bool:
            await store.check()
            await store.update("key", lambda _record, _now: b"more data")
            return "more data" in await redis_cli(ports[1], "hget", "camunda-sidecar:key", "data")

        await until(in_use)
        assert store.fault is None
        await store.close()


async def test_a_cluster_serves_while_a_slot_moves(tmp_path) -> None:
    """Two nodes with half of the slots each: records and locks are found wherever they are."""
    async with AsyncExitStack() as stack:
        ports = []
        for number in range(2):
            (tmp_path / str(number)).mkdir()
            options = ("--cluster-enabled", "yes", "--cluster-require-full-coverage", "no")
            ports.append(stack.enter_context(redis_server(tmp_path / str(number), *options, port=free_low_port())))
        await redis_cli(ports[0], "cluster", "addslotsrange", "0", "8191")
        await redis_cli(ports[1], "cluster", "addslotsrange", "8192", "16383")
        await redis_cli(ports[0], "cluster", "meet", "127.0.0.1", str(ports[1]))

        async def together() -> bool:
            states = [await redis_cli(port, "cluster", "info") for port in ports]
            return all("cluster_slots_assigned:16384" in state and "cluster_state:ok" in state for state in states)

        await until(together)
        events = Events()
        store = DegradingStore(redis_store(ports[0], CLOCK, cluster=True), CLOCK, events)
        await store.open()
        for number in range(20):
            await store.update(f"key-{number}", put(b"%d" % number))
            await (await store.acquire(f"key-{number}"))()
        slot = (await redis_cli(ports[0], "cluster", "keyslot", "camunda-sidecar:key-7")).strip()
        ids = [(await redis_cli(port, "cluster", "myid")).strip() for port in ports]
        here, there = (0, 1) if int(slot) < 8192 else (1, 0)
        await redis_cli(ports[there], "cluster", "setslot", slot, "importing", ids[here])
        await redis_cli(ports[here], "cluster", "setslot", slot, "migrating", ids[there])
        assert (await store.load("key-7")).data == b"7"
        await redis_cli(ports[here], "migrate", "127.0.0.1", str(ports[there]), "camunda-sidecar:key-7", "0", "2000")
        assert (await store.load("key-7")).data == b"7"
        for port in (ports[there], ports[here]):
            await redis_cli(port, "cluster", "setslot", slot, "node", ids[there])
        assert (await store.update("key-7", lambda record, _now: record.data + b"!")).data == b"7!"
        assert [(await store.load(f"key-{number}")).data for number in range(3)] == [b"0", b"1", b"2"]
        assert (store.fault, events.of("store_failed")) == (None, [])
        await store.close()


def free_low_port() -> int:
    """One for a node of a cluster, which takes the port 10,000 above as well."""
    while (port := free_port()) > 55000:
        pass
    return port
