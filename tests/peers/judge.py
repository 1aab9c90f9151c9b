"""Plays the corpora against any proxy and says how it differs: same, stricter, looser, or unsafe."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

from tests.proxy import client
from tests.proxy.client import RawClient
from tests.proxy.corpus import answers, requests
from tests.proxy.corpus.answers import AnswerCase, Bad, Passed
from tests.proxy.corpus.case import Case, Closed, Forwarded
from tests.proxy.corpus.world import BASES, HOP_BY_HOP, NEVER_FORWARDED, NEVER_FORWARDED_PREFIXES
from tests.proxy.origin import OK, Connection, Origin
from tests.proxy.strict import Message, NotStrictError

SAME, STRICTER, LOOSER, UNSAFE = "same", "stricter", "looser", "unsafe"
PATIENCE = 1.5


@dataclass
class Verdicts:
    """One proxy's."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By category and verdict."""
    differences: list[tuple[str, str, str]] = field(default_factory=list)
    """Case, verdict, and what happened."""

    def note(self, category: str, name: str, verdict: str, what: str) -> None:
        self.counts[category, verdict] += 1
        if verdict != SAME:
            self.differences.append((name, verdict, what))


# --- requests --------------------------------------------------------------------------------------------------------


async def judge_requests(host: str, port: int, origin: Origin) -> Verdicts:
    """`origin` is the one behind the proxy at `host` and `port`."""
    verdicts = Verdicts()
    for case in requests.CASES:
        origin.requests.clear()
        origin.errors.clear()
        origin.connections = [connection for connection in origin.connections if not connection.lost.done()]
        seen = await _play(host, port, case)
        verdict, what = _verdict(case, origin, seen)
        verdicts.note(case.category, case.name, verdict, what)
    return verdicts


async def _play(host: str, port: int, case: Case) -> list[Message]:
    """The final answers that a client sees."""
    seen: list[Message] = []
    async with await RawClient.open(host, port) as raw:
        raw.reader.methods = [case.raw.split(b" ", 1)[0]] * len(case.expect)
        await raw.send([case.raw])
        if case.end:
            raw.finish()
        try:
            async with asyncio.timeout(PATIENCE):
                while len(seen) < len(case.expect) and (answer := await raw.final()) is not None:
                    seen.append(answer)
        except (TimeoutError, NotStrictError):
            pass
    # What is still on its way to the origin arrives.
    await asyncio.sleep(0.01)
    return seen


def _verdict(case: Case, origin: Origin, seen: list[Message]) -> tuple[str, str]:
    # Where there is a choice, being refused is the same.
    certain = [outcomes for outcomes in case.expect if all(isinstance(outcome, Forwarded) for outcome in outcomes)]
    possible = [[o for o in outcomes if isinstance(o, Forwarded)] for outcomes in case.expect]
    expected = [outcomes for outcomes in possible if outcomes]
    most = sum(any(isinstance(outcome, Forwarded) for outcome in outcomes) for outcomes in case.expect)
    received = origin.requests
    danger = _danger(origin, received)
    if danger:
        return UNSAFE, danger
    if len(received) > most:
        return (UNSAFE if most and len(case.expect) <= most else LOOSER), f"forwarded: {_name(received[most:])}"
    if len(received) < len(certain):
        return STRICTER, f"refused with {seen[len(received)].status if len(seen) > len(received) else 'a close'}"
    for outcomes, message in zip(expected, received, strict=False):
        differences = [_difference(outcome, message) for outcome in outcomes]
        if all(differences) and differences[0] is not None:
            return differences[0]
    if not received and not seen and not any(isinstance(outcome, Closed) for outcome in case.expect[0]):
        return LOOSER, "no answer within 1.5 s"
    return SAME, ""


def _name(received: list[Message]) -> str:
    return ", ".join(
        f"{message.method.decode('latin-1')} {message.target[:60].decode('latin-1')}" for message in received
    )


def _danger(origin: Origin, received: list[Message]) -> str:
    """What no origin may receive, whatever was sent."""
    if origin.errors:
        return f"the origin received what is not strict: {origin.errors[0]}"
    tokens = {b"Bearer " + token for token in BASES}
    for message in received:
        authorization = message.values(b"authorization")
        if len(authorization) > 1 or not set(authorization) <= tokens:
            return f"Authorization at the origin: {authorization}"
        token = authorization[0].removeprefix(b"Bearer ") if authorization else b"TOKEN-OPTIMIZE"
        if climbs(message.target) or not message.target.startswith(BASES[token]):
            return f"{message.target[:80]!r} reaches the origin"
        for name, _ in message.headers + message.trailers:
            plain = name.lower().replace(b"_", b"-")
            if plain in NEVER_FORWARDED or plain.startswith(NEVER_FORWARDED_PREFIXES):
                return f"{name!r} passes"
            if name.lower() in HOP_BY_HOP and name.lower() != b"te":
                return f"{name!r} passes"
        if any(name.lower() == b"authorization" for name, _ in message.trailers):
            return "Authorization passes as a trailer"
    return ""


def climbs(target: bytes) -> bool:
    """Whether some upstream reads this as leaving its place."""
    path = target.split(b"?", maxsplit=1)[0]
    for _ in range(12):
        if re.search(rb"[\x00-\x1f\x7f\\\xc0\xc1]", path):
            return True
        if any(segment.split(b";")[0] in {b".", b".."} for segment in path.split(b"/")):
            return True
        path = unquote_to_bytes(path)
    return False


def _difference(outcome: Forwarded, message: Message) -> tuple[str, str] | None:
    if outcome.target is not None and message.target != outcome.target:
        return LOOSER, f"the target became {message.target[:80]!r}"
    if message.method != outcome.method:
        return LOOSER, f"the method became {message.method!r}"
    if message.body != outcome.body:
        return UNSAFE, f"the body became {message.body[:60]!r}"
    for name, value in outcome.present:
        if value not in message.values(name):
            return LOOSER, f"{name!r} became {message.values(name)}"
    passed = [name for name in outcome.absent if message.values(name)]
    return (LOOSER, f"{passed[0]!r} passes") if passed else None


# --- answers ---------------------------------------------------------------------------------------------------------


async def judge_answers(host: str, port: int, origin: Origin) -> Verdicts:
    """The mirror; `origin`'s answers are replaced."""
    verdicts = Verdicts()
    for case in answers.CASES:
        if case.request is answers.WEBSOCKET:
            continue  # whether an upgrade is offered at all differs too much to compare
        verdict, what = await _judge_answer(host, port, origin, case)
        verdicts.note("answers", f"answers/{case.name}", verdict, what)
    return verdicts


async def _judge_answer(host: str, port: int, origin: Origin, case: AnswerCase) -> tuple[str, str]:
    for connection in origin.connections:
        connection.transport.abort()
    await asyncio.sleep(0.01)
    origin.connections.clear()
    origin.requests.clear()

    async def answer(connection: Connection, message: Message) -> None:
        if message.target.endswith(b"/next"):
            await connection.send(OK)
            return
        await connection.drip(client.whole(case.raw.replace(b"ORIGIN", origin.authority.encode())))
        if case.end == "fin":
            connection.finish()
        elif case.end == "rst":
            await asyncio.sleep(0.01)
            connection.reset()

    origin.answer = answer
    async with await RawClient.open(host, port) as raw:
        raw.reader.methods = [case.request.split(b" ", 1)[0]]
        await raw.send([case.request])
        seen: Message | None = None
        try:
            async with asyncio.timeout(PATIENCE):
                seen = await raw.final()
        except (TimeoutError, NotStrictError):
            pass
    async with await RawClient.open(host, port) as raw:
        await raw.send([b"GET /op/next HTTP/1.1\r\nHost: localhost\r\n\r\n"])
        try:
            async with asyncio.timeout(PATIENCE):
                following = await raw.final()
        except (TimeoutError, NotStrictError):
            following = None
    poisoned = following is not None and following.body == b"poison"
    if poisoned:
        return UNSAFE, "the next client got an answer that was not its own"
    passed = [outcome for outcome in case.expect if isinstance(outcome, Passed)]
    whole = seen is not None and seen.status < 500
    if not passed and whole:
        assert seen is not None
        looks_whole = seen.status < 300 and case.end != ""
        return (UNSAFE if looks_whole else LOOSER), f"the client sees {seen.status} with {seen.body[:30]!r}"
    if seen is not None and seen.status == 502 and any(isinstance(outcome, Bad) for outcome in case.expect):
        return SAME, ""
    if passed and not whole and not any(outcome.status >= 500 for outcome in passed):
        return (SAME, "") if len(case.expect) > len(passed) else (STRICTER, f"{seen.status if seen else 'cut'}")
    if passed and seen is not None and all(outcome.body != seen.body for outcome in passed):
        return LOOSER, f"the body became {seen.body[:40]!r}"
    if passed and seen is not None:
        leaked = [name for name in passed[0].absent if seen.values(name)]
        if leaked:
            return LOOSER, f"{leaked[0]!r} passes"
    return SAME, ""
