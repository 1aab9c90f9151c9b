"""`python -m tests.soak --minutes N [--clients N] [--seed N]`: mixed load and random faults, every answer checked.

A client says in its request which fault it wants of the upstream, so that what it must see is known; some clients
misbehave themselves. A wrong answer is a whole 2xx that is not the one for this request, or any other outcome than the
fault has. At the end everything is idle, and what the sidecar holds must be what it held after warming up.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import uvloop
import yaml

from sidecar.demo.process import free_port
from tests.proxy.client import RawClient, random_cuts
from tests.proxy.faults import arrive
from tests.proxy.origin import Connection, Origin
from tests.proxy.strict import Message, NotStrictError

# What the upstream does, and the outcomes that are right: a status of the sidecar's or the upstream's, or `cut`.
FAULTS: dict[str, set[str]] = {
    "none": {"200"},
    "slow": {"200"},
    "close": {"200"},
    "until-end": {"200"},
    "informational": {"200"},
    "resets-before-head": {"502"},
    "ends-before-head": {"502"},
    "resets-in-head": {"502"},
    "ends-in-body": {"cut"},
    "resets-in-body": {"cut"},
    "resets-in-chunk": {"cut", "502"},
    "garbage": {"502"},
    "both-framings": {"502"},
    "unauthorized": {"401"},
    "extra-bytes": {"200", "502", "cut"},
}
WEIGHTS = [40, 5, 5, 5, 5, *[2] * 10]
FIELD = b"X-Fault"
MISBEHAVIOURS = ("reset-before-answer", "reset-in-body", "half-request", "bad-request", "slow-reader")


# --- the upstream ----------------------------------------------------------------------------------------------------


async def answer(connection: Connection, message: Message) -> None:
    """Echo the request's nonce and body, or go wrong as it asks."""
    fault = (message.value(FIELD) or b"none").decode()
    size = int(message.value(b"X-Size") or b"0")
    nonce = message.value(b"X-Nonce") or b""
    body = nonce + b" " + hashlib.sha256(message.body).hexdigest().encode() + b" " + b"y" * size
    head = b"HTTP/1.1 200 OK\r\nX-Nonce: %b\r\n" % nonce
    sized = head + b"Content-Length: %d\r\n\r\n" % len(body)
    if message.method == b"HEAD":
        body = b""
    half = len(body) // 2
    match fault:
        case "slow":
            await connection.drip([sized, body[:half], body[half:]])
        case "close":
            await connection.send(sized.replace(b"\r\nX-", b"\r\nConnection: close\r\nX-", 1) + body)
            connection.finish()
        case "until-end":
            await connection.send(head + b"\r\n" + body)
            connection.finish()
        case "informational":
            await connection.send(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + sized + body)
        case "resets-before-head" | "resets-in-head" | "resets-in-body":
            sent = {"resets-before-head": b"", "resets-in-head": sized[:20]}.get(fault, sized + body[:half])
            await connection.send(sent)
            await arrive()
            connection.reset()
        case "ends-before-head":
            connection.finish()
        case "ends-in-body":
            await connection.send(sized + body[:half])
            connection.finish()
        case "resets-in-chunk":
            await connection.send(head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(body) + body[:half])
            await arrive()
            connection.reset()
        case "garbage":
            await connection.send(b"\x16\x03\x01 garbage\r\n\r\n")
        case "both-framings":
            await connection.send(sized.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n") + body)
        case "unauthorized":
            await connection.send(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
        case "extra-bytes":
            await connection.send(sized + body + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
        case _:
            await connection.send(sized + body)


# --- the clients -----------------------------------------------------------------------------------------------------


class Soak:
    """Counts and checks."""

    def __init__(self, port: int, seed: int) -> None:
        self._port = port
        self._rng = random.Random(seed)
        self._numbers = 0
        self.outcomes: Counter[str] = Counter()
        self.wrong: list[str] = []

    def _request(self, fault: str) -> tuple[bytes, bytes, bytes, bytes]:
        """Method, nonce, body, and the whole request."""
        rng = self._rng
        self._numbers += 1
        nonce = b"%d-%x" % (self._numbers, rng.getrandbits(32))
        method = rng.choice([b"GET", b"GET", b"HEAD", b"POST", b"PUT", b"DELETE"])
        if fault not in {"none", "slow", "close", "informational"}:
            method = rng.choice([b"POST", b"GET"])
        body = rng.randbytes(rng.choice((0, 1, 100, 5000, 200_000))) if method in {b"POST", b"PUT"} else b""
        head = b"%b /soak/%b HTTP/1.1\r\nHost: localhost\r\nX-Nonce: %b\r\n" % (method, nonce, nonce)
        head += b"%b: %b\r\nX-Size: %d\r\n" % (FIELD, fault.encode(), rng.choice((0, 10, 1000, 100_000)))
        if rng.random() < 0.3:
            pieces = list(random_cuts(body, nonce.decode()))
            coded = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
            return method, nonce, body, head + b"Transfer-Encoding: chunked\r\n\r\n" + coded + b"0\r\n\r\n"
        if body or method in {b"POST", b"PUT"}:
            head += b"Content-Length: %d\r\n" % len(body)
        return method, nonce, body, head + b"\r\n" + body

    async def client(self, end: float) -> None:
        """One client after another on one line: connections of a few requests each."""
        while time.monotonic() < end:
            if self._rng.random() < 0.1:
                await self._misbehave(self._rng.choice(MISBEHAVIOURS))
            else:
                await self._behave()

    async def _behave(self) -> None:
        async with await RawClient.open("127.0.0.1", self._port) as client:
            for _ in range(self._rng.randint(1, 20)):
                count = self._rng.choice((1, 1, 1, 3))
                faults = self._rng.choices(list(FAULTS), WEIGHTS, k=count)
                if count > 1:
                    faults = ["none"] * count
                asked = [self._request(fault) for fault in faults]
                client.reader.methods += [method for method, *_ in asked]
                raw = b"".join(whole for *_, whole in asked)
                await client.send(random_cuts(raw, "x") if len(raw) < 2000 and self._rng.random() < 0.2 else [raw])
                for fault, (method, nonce, body, _) in zip(faults, asked, strict=True):
                    await self._check(client, fault, method, nonce, body)
                if client.ended or client.error is not None:
                    return

    async def _check(self, client: RawClient, fault: str, method: bytes, nonce: bytes, body: bytes) -> None:
        seen: Message | None
        try:
            seen = await client.final()
        except NotStrictError:
            seen = None
        except TimeoutError:
            self._note(fault, "hangs", nonce)
            return
        if seen is None:
            self._note(fault, "cut", nonce)
            return
        outcome = str(seen.status)
        digest = hashlib.sha256(body).hexdigest().encode()
        if seen.status == 200 and seen.value(b"x-nonce") != nonce:
            outcome = "someone else's answer"
        elif seen.status == 200 and method != b"HEAD" and not seen.body.startswith(nonce + b" " + digest):
            outcome = f"a wrong body ({seen.body[:60]!r})"
        self._note(fault, outcome, nonce)

    def _note(self, fault: str, outcome: str, nonce: bytes) -> None:
        self.outcomes[f"{fault}: {outcome}"] += 1
        if outcome not in FAULTS[fault]:
            self.wrong.append(f"{nonce.decode()} {fault}: {outcome}")

    async def _misbehave(self, how: str) -> None:
        _, _, _, raw = self._request("none")
        async with await RawClient.open("127.0.0.1", self._port) as client:
            match how:
                case "reset-before-answer":
                    await client.send([raw])
                    client.break_off()
                case "reset-in-body":
                    await client.send([raw[: len(raw) - len(raw) // 4]])
                    client.break_off()
                case "half-request":
                    await client.send([raw[:-1]])
                    client.finish()
                    await client.closed()
                case "bad-request":
                    await client.send([raw.replace(b"Host:", b"Host :", 1)])
                    await client.closed()
                case "slow-reader":
                    client.transport.pause_reading()
                    await client.send([raw])
                    await arrive()
                    client.transport.resume_reading()
                    await client.received(1)
        self.outcomes[f"client: {how}"] += 1


# --- the whole -------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def sidecar(origin: Origin) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    """The process and its port."""
    with tempfile.TemporaryDirectory() as directory:
        port = free_port(0)
        configuration: dict[str, Any] = {
            "listen": f"127.0.0.1:{port}",
            "admin": {"listen": f"127.0.0.1:{free_port(0, port)}"},
            "credentials": {"fixed": {"type": "static_token", "token": "soak-token"}},
            "routes": {"soak": {"upstream": origin.url, "credential": "fixed"}},
            "token_store": {"type": "memory"},
            "logging": {"access": "none"},
        }
        path = Path(directory) / "config.yaml"
        path.write_text(yaml.safe_dump(configuration))
        path.chmod(0o600)
        pipe = asyncio.subprocess.PIPE
        command = [sys.executable, "-m", "tests.soak.child", str(path)]
        process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
        try:
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    if process.returncode is not None:
                        raise RuntimeError("the sidecar did not start") from None
                    await asyncio.sleep(0.05)
                else:
                    writer.close()
                    break
            yield process, port
        finally:
            if process.returncode is None:
                process.terminate()
                await process.wait()


async def holdings(process: asyncio.subprocess.Process) -> dict[str, int]:
    """What the sidecar holds now."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"?\n")
    found: dict[str, int] = json.loads(await process.stdout.readline())
    return found


async def soak(minutes: float, clients: int, seed: int) -> int:
    """Exit code 1 for a wrong answer or a leak."""
    async with Origin(answer) as origin, sidecar(origin) as (process, port):
        load = Soak(port, seed)

        async def burst(seconds: float) -> dict[str, int]:
            end = time.monotonic() + seconds
            await asyncio.gather(*(load.client(end) for _ in range(clients)))
            origin.forget()
            return await settled(process)

        warm = await burst(min(10.0, minutes * 12))
        print(f"after warming up: {warm}", flush=True)
        rounds = max(2, round(minutes))
        for number in range(rounds):
            now = await burst(minutes * 60 / rounds)
            done = sum(load.outcomes.values())
            print(f"round {number + 1} of {rounds}: {done} requests, {len(load.wrong)} wrong, idle: {now}", flush=True)
        print("\n".join(f"{count:8} {outcome}" for outcome, count in sorted(load.outcomes.items())))
        leaks = [name for name in ("tasks", "descriptors", "clients", "exchanges") if now[name] > warm[name] + 2]
        # The allocator's noise; what one leaked exchange per fault would cost is far above it.
        leaks += ["memory"] if now["memory"] > warm["memory"] * 1.25 + 4096 else []
        print(f"wrong: {load.wrong[:20]}\nleaks: {leaks} (warm {warm}, end {now})")
        return 1 if load.wrong or leaks else 0


async def settled(process: asyncio.subprocess.Process) -> dict[str, int]:
    """What is held once nobody is served any more; lingering connections take their 2 seconds."""
    for _ in range(20):
        now = await holdings(process)
        if not now["clients"]:
            break
        await asyncio.sleep(0.5)
    return now


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(soak(options.minutes, options.clients, options.seed))


if __name__ == "__main__":
    sys.exit(main())
