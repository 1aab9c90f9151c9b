"""Real processes on one store directory, and an issuer over a real socket that they ask.

    python -m tests.tokens.processes CONFIGURATION

The configuration is JSON, see `Plan`. The program imports once, forks so many processes, and each obtains its tokens
when a line comes on its standard input; what they got is printed as JSON, one process a line. A process may be told to
kill or stop itself at a step of its fetch.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path

from blockbuster import blockbuster_ctx

from sidecar.clock import SystemClock
from sidecar.config import settings
from sidecar.config.settings import TokenRequests
from sidecar.credentials.tls import client_context
from sidecar.errors import GrantInterruptedError, GrantRefusedError, GrantThrottledError, Problem
from sidecar.secret import Secret, SecretSource
from sidecar.tokens import encryption, repository
from sidecar.tokens.authorizer import TokenAuthorizer
from sidecar.tokens.grant import AttemptGate, Grant
from sidecar.tokens.manager import TokenManager
from sidecar.tokens.observer import TokenObserver
from sidecar.tokens.stores import build_store, versioned_files
from sidecar.tokens.stores import redis as _imported_before_the_fork  # noqa: F401

ROOT = Path(__file__).parents[2]
STEPS = ("locked", "reserved", "sent", "answered", "half-written", "saved", "served")
"""Of a fetch: with the identity's lock; with a slot; asked; answered; half through saving; saved; a client knows."""


@dataclass
class Plan:
    """What the processes do."""

    directory: str
    port: int
    processes: int = 1
    identities: int = 1
    max_wait: float = 10.0
    min_interval: float = 0.2
    slow_disk: float = 0.0
    """Seconds that each call to the file system takes longer."""
    step: str = ""
    action: str = ""
    """`kill` or `stop`, at that step."""
    redis: int = 0
    """The port of a Redis that is the store, instead of the directory."""
    lifetime: float = 3600.0
    """Of a token, in seconds."""
    seconds: float = 0.0
    """For which each process goes on to want its tokens."""
    powerless: bool = False
    """Without root's rights to write where nobody may."""


REFUSED, THROTTLED = b"refused\n", b"throttled\n"
"""What the issuer can say that is no token."""

# --- the program -------------------------------------------------------------------------------------------------


class LineIssuer:
    """A `GrantSource`: one line there, one line back."""

    issuer = "https://login.example/token"

    def __init__(self, plan: Plan, identity: int) -> None:
        self._plan = plan
        self.parameters = (("audience", f"audience-{identity}"),)

    def secret(self) -> Secret:
        return Secret("secret")

    def refuses(self, status: int, *, safe: bool) -> bool:
        return status == 401

    def rotate(self, grant: Grant, set_cookie: Sequence[bytes]) -> None:
        return None

    async def fetch(self, gate: AttemptGate, *, attempts: int) -> Grant:
        for _ in range(attempts):
            await gate.slot()
            here(self._plan, "reserved")
            reader, writer = await asyncio.open_connection("127.0.0.1", self._plan.port)
            writer.write(self.parameters[0][1].encode() + b"\n")
            await writer.drain()
            gate.sent()
            here(self._plan, "sent")
            answer = await reader.readline()
            writer.close()
            here(self._plan, "answered")
            if answer == REFUSED:
                raise GrantRefusedError("refused", oauth_error="invalid_client")
            if answer == THROTTLED:
                raise GrantThrottledError("throttled", retry_after=60.0)
            if answer:
                return Grant(b"Authorization: Bearer " + answer.strip() + b"\r\n", self._plan.lifetime)
        raise GrantInterruptedError("no answer")


def here(plan: Plan, step: str) -> None:
    """This step is reached."""
    if plan.step == step:
        # To this very thread, or it would go on for a while before the others are stopped.
        signal.pthread_kill(threading.get_ident(), signal.SIGKILL if plan.action == "kill" else signal.SIGSTOP)


def hook(plan: Plan) -> None:
    """Make the steps inside of the product known, its disk slow, and its keys cheap."""
    encryption.SCRYPT_COST, encryption.SCRYPT_LANES = 2, 1
    tokens = repository.TokenRepository
    acquire, save, link = tokens.acquire, tokens.save, os.link

    async def acquire_and_tell(self, rank):
        release = await acquire(self, rank)
        if release is not None:
            here(plan, "locked")
        return release

    async def save_and_tell(self):
        unsaved = bool(self.unsaved)
        await save(self)
        if unsaved:
            here(plan, "saved")

    def tell_and_link(source, destination, **named):
        if destination.startswith("token-"):
            here(plan, "half-written")
        return link(source, destination, **named)

    tokens.acquire, tokens.save = acquire_and_tell, save_and_tell
    versioned_files.os = Slow(plan.slow_disk, tell_and_link)


class Slow:
    """The module `os`, with a disk behind it that takes its time."""

    def __init__(self, seconds: float, link) -> None:
        self._seconds = seconds
        self._link = link

    def __getattr__(self, name: str):
        call = self._link if name == "link" else getattr(os, name)
        if not self._seconds or name not in {"open", "link", "unlink", "write", "listdir"}:
            return call

        def slow(*positional, **named):
            time.sleep(self._seconds)
            return call(*positional, **named)

        return slow


async def obtain_all(plan: Plan) -> list[dict[str, object]]:
    """Each identity's token, and how long it took."""
    clock = SystemClock()
    requests = TokenRequests(min_interval=plan.min_interval, max_wait=plan.max_wait)
    where: settings.TokenStore = settings.FileStore(Path(plan.directory))
    if plan.redis:
        where = settings.RedisStore(SecretSource(value=Secret(f"redis://127.0.0.1:{plan.redis}/0")))
    store = build_store(where, clock, TokenObserver(), client_context)
    manager = TokenManager(store, clock, requests)
    await manager.start()

    async def one(identity: int) -> dict[str, object]:
        authorizer = manager.authorizer(LineIssuer(plan, identity), credential="c", audience=str(identity))
        began = time.monotonic()
        try:
            got = (await authorizer.obtain()).header.decode().split()[-1]
        except Problem as problem:
            got = problem.code
        here(plan, "served")
        result: dict[str, object] = {"token": got, "seconds": time.monotonic() - began, "at": time.monotonic()}
        return result | (await go_on(plan, authorizer) if plan.seconds else {})

    with blockbuster_ctx("sidecar"):
        got = list(await asyncio.gather(*(one(identity) for identity in range(plan.identities))))
    await manager.close()
    return got


async def go_on(plan: Plan, authorizer: TokenAuthorizer) -> dict[str, object]:
    """Want the token again and again: how often there was none, and the longest wait."""
    asked = refused = 0
    longest = 0.0
    end = time.monotonic() + plan.seconds
    while (began := time.monotonic()) < end:
        asked += 1
        try:
            await authorizer.obtain()
        except Problem:
            refused += 1
        longest = max(longest, time.monotonic() - began)
        await asyncio.sleep(random.uniform(0.2, 0.6))
    return {"asked": asked, "refused": refused, "longest": longest}


def drop_capabilities() -> None:
    """Root is a user like any other then (capset(2), version 3)."""
    header, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert ctypes.CDLL(None).capset(header, none) == 0


def main() -> None:
    """Fork, obtain, print."""
    plan = Plan(**json.loads(sys.argv[1]))
    hook(plan)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    if plan.powerless:
        drop_capabilities()
    children = []
    for _ in range(plan.processes - 1):
        child = os.fork()
        if child == 0:
            children = []
            break
        children.append(child)
    line = json.dumps(asyncio.run(obtain_all(plan))) + "\n"
    os.write(1, line.encode())
    for child in children:
        os.waitpid(child, 0)


# --- for tests ---------------------------------------------------------------------------------------------------


@dataclass
class Issuer:
    """What the processes ask; it remembers when, and for what."""

    port: int = 0
    arrivals: list[tuple[float, str]] = field(default_factory=list)
    answers_after: float = 0.05
    says: bytes = b""
    """Instead of a token."""

    @asynccontextmanager
    async def running(self):
        """Listens."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        async with server:
            yield self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            audience = (await reader.readline()).decode().strip()
            if audience:
                self.arrivals.append((time.monotonic(), audience))
                await asyncio.sleep(self.answers_after)
                writer.write(self.says or f"{audience}-{len(self.arrivals)}\n".encode())
                await writer.drain()
        except ConnectionError:
            pass  # it was killed
        finally:
            writer.close()

    @property
    def closest(self) -> float:
        """Seconds between the two requests that came closest."""
        moments = [moment for moment, _ in self.arrivals]
        return min((later - earlier for earlier, later in pairwise(moments)), default=1e9)


class Group:
    """The processes of one plan."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    @classmethod
    async def of(cls, plan: Plan) -> Group:
        """Started, and ready."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.tokens.processes",
            json.dumps(asdict(plan)),
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert await process.stdout.readline() == b"ready\n"
        return cls(process)

    def go(self) -> None:
        """Obtain."""
        self.process.stdin.write(b"\n")

    async def results(self) -> list[list[dict[str, object]]]:
        """What each process got, once all have ended."""
        output, _ = await self.process.communicate()
        return [json.loads(line) for line in output.decode().splitlines() if line.startswith("[")]

    async def is_stopped(self) -> None:
        """Wait until it has stopped itself."""
        await asyncio.to_thread(os.waitid, os.P_PID, self.process.pid, os.WSTOPPED | os.WNOWAIT)

    def go_on(self) -> None:
        """SIGCONT."""
        self.process.send_signal(signal.SIGCONT)


if __name__ == "__main__":
    main()
