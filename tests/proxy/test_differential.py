"""What the origin sees is what was sent, less and plus exactly the documented fields; for any request at all.

The model below is the README's and the design's list, written once more and in another way than in `sidecar/proxy`.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.proxy import client
from tests.proxy.client import RawClient
from tests.proxy.corpus.world import World
from tests.proxy.strict import Headers, Message, read_requests

GONE = {
    *(b"authorization", b"cookie", b"cookie2", b"forwarded", b"x-real-ip"),
    *(b"x-http-method-override", b"x-method-override", b"x-http-method", b"x-original-url", b"x-rewrite-url"),
    *(b"connection", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"http2-settings"),
    *(b"host", b"content-length"),
}
GONE_PREFIXES = (b"proxy-", b"x-forwarded-")
PRINTABLE = re.compile(rb"[!-~]{1,200}")


def kept(sent: Headers) -> Headers:
    """The fields that a request keeps on its way, in their order and spelling."""
    options = b",".join(value for name, value in sent if name.lower() == b"connection").lower().split(b",")
    named = {option.strip(b" \t") for option in options}
    ids = [value for name, value in sent if name.lower() == b"x-request-id"]
    if len([value for value in ids if PRINTABLE.fullmatch(value)]) != 1:
        named.add(b"x-request-id")

    def stays(name: bytes, value: bytes) -> bool:
        lower = name.lower()
        plain = re.sub(rb"[^a-z0-9]", b"-", lower)
        if lower == b"x-request-id" and not PRINTABLE.fullmatch(value):
            return False
        return not (lower in named or lower in GONE or plain in GONE or plain.startswith(GONE_PREFIXES))

    return [(name, value) for name, value in sent if stays(name, value)]


def check(sent: Message, seen: Message) -> None:
    """The one became the other."""
    assert seen.method == sent.method
    target = b"/" + sent.target.split(b"/", 3)[3] if sent.target.lower().startswith(b"http:") else sent.target
    assert seen.target == b"/op/base" + target.removeprefix(b"/operate")
    assert hashlib.sha256(seen.body).digest() == hashlib.sha256(sent.body).digest()
    assert seen.trailers == []
    expected = kept(sent.headers)
    assert [field for field in seen.headers if field in expected] == expected
    added = sorted(name.lower() for name, value in seen.headers if (name, value) not in expected)
    has_id = any(name.lower() == b"x-request-id" for name, _ in expected)
    allowed = {b"host", b"authorization"} | ({b"x-request-id"} if not has_id else set())
    assert set(added) - {b"content-length", b"transfer-encoding", b"connection", b"upgrade"} == allowed
    assert len(added) == len(set(added))
    assert seen.values(b"authorization") == [b"Bearer TOKEN-OPERATE"]
    assert seen.framing == sent.framing or not seen.body


# --- requests that are right -----------------------------------------------------------------------------------------

TCHAR = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
tokens = st.lists(st.sampled_from(TCHAR), min_size=1, max_size=12).map(bytes)
methods = st.sampled_from([b"GET", b"POST", b"PUT", b"DELETE", b"HEAD", b"OPTIONS", b"PATCH"]) | tokens.filter(
    lambda method: method.upper() not in {b"CONNECT", b"TRACE"}
)
# Dots, percent signs and semicolons have rules of their own, which the corpus and `test_target.py` know.
PCHAR = b"abcXYZ019-_~!$&'()*+,=:@"
escapes = st.sampled_from([b"%20", b"%2F", b"%2f", b"%C3%BC", b"%41", b"%3F"])
segments = st.lists(st.sampled_from([bytes((c,)) for c in PCHAR]) | escapes, max_size=6).map(b"".join)
paths = st.lists(segments, max_size=4).map(lambda parts: b"".join(b"/" + part for part in parts))
queries = st.just(b"") | st.text("abc=&/?.%20+;:@[]", max_size=20).map(lambda text: b"?" + text.encode())
values = st.lists(st.sampled_from([*range(0x20, 0x7F), 0x09, *range(0x80, 0x100)]), max_size=20).map(bytes)
special = st.sampled_from(
    [
        *(b"Authorization", b"Cookie", b"X-Forwarded-For", b"x_forwarded_host", b"Proxy-Authorization", b"Forwarded"),
        *(b"X-HTTP-Method-Override", b"x_original_url", b"X-Original-Filename"),
        *(b"X-Real-IP", b"Keep-Alive", b"TE", b"Trailer", b"Upgrade", b"HTTP2-Settings", b"X-Request-ID", b"Accept"),
        *(b"traceparent", b"Via", b"X-Forward", b"Content-Type", b"Content-Encoding", b"Proxy-Foo", b"proxy_foo"),
    ]
)
FRAMING = {b"host", b"content-length", b"transfer-encoding", b"connection", b"expect", b"origin", b"sec-fetch-site"}
names = (special | tokens).filter(lambda name: name.lower().replace(b"_", b"-") not in FRAMING)
fields = st.lists(st.tuples(names, values), max_size=8)
connections = st.just(b"") | st.lists(tokens | special, max_size=4).map(
    lambda options: b"Connection: " + b", ".join(options) + b"\r\n"
)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """One whole request to `/operate` that nothing is wrong with."""
    lines = draw(fields)
    raw = b"%b /operate%b%b HTTP/1.1\r\nHost: localhost\r\n" % (draw(methods), draw(paths), draw(queries))
    raw += b"".join(b"%b:%b%b\r\n" % (name, draw(st.sampled_from([b"", b" ", b"\t "])), value) for name, value in lines)
    raw += draw(connections)
    body = draw(st.binary(max_size=300))
    framing = draw(st.sampled_from(["none", "length", "chunked"]))
    if framing == "none":
        return raw + b"\r\n"
    if framing == "length":
        return raw + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    extension = draw(st.sampled_from([b"", b"", b";a", b';a="b;c"', b" ;x=y"]))
    pieces = list(client.random_cuts(body, repr(body)))
    coded = b"".join(b"%x%b\r\n%b\r\n" % (len(piece), extension, piece) for piece in pieces)
    trailers = draw(st.sampled_from([b"", b"", b"X-Sum: 1\r\n", b"Authorization: x\r\nHost: y\r\n"]))
    return raw + b"Transfer-Encoding: chunked\r\n\r\n" + coded + b"0\r\n" + trailers + b"\r\n"


# --- playing ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """On one loop: the cases are the same on the other, and what differs between loops has tests of its own."""
    made = World("uvloop")
    made.run(made.open())
    yield made
    made.end()


async def play(world: World, raw: bytes, seed: str) -> tuple[list[Message], list[Message]]:
    """Send it in random cuts, then a FIN; what the origin received, and what the client did."""
    async with await RawClient.open("127.0.0.1", world.proxy.port) as raw_client:
        # Answers to HEAD have no body: the client only has to tell ours from the origin's.
        raw_client.reader.methods = [m.method for m in read_requests(raw)[0]]
        await raw_client.send(client.random_cuts(raw, seed) if len(seed) % 2 else [raw])
        raw_client.finish()
        await raw_client.closed()
        answers = [message for message in raw_client.reader.done if message.status >= 200]
    requests_, world.origin.requests = world.origin.requests, []
    assert world.origin.errors == []
    world.origin.forget()
    return requests_, answers


PROFILE = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@PROFILE
@given(raw=requests(), seed=st.text("01", max_size=3))
def test_what_is_right_arrives(world: World, raw: bytes, seed: str) -> None:
    """Every request that nothing is wrong with arrives, once, as it was sent less and plus the documented fields."""

    async def run() -> None:
        (sent,), whole = read_requests(raw)
        assert whole
        seen, answers = await play(world, raw, seed)
        assert [answer.status for answer in answers] == [200]
        assert len(seen) == 1
        check(sent, seen[0])

    world.run(run())


MUTANTS = [
    b"\r",
    b"\n",
    b"\r\n",
    b"\r\n\r\n",
    b"\x00",
    b" ",
    b"\t",
    b":",
    b",",
    b";",
    b"/",
    b"..",
    b"%2e",
    b"\\",
    b"\xff",
]
MUTANTS += [
    b"0",
    b"1",
    b"HTTP/1.1",
    b"Content-Length: 3\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Host: localhost\r\n",
]
MUTANTS += [b"GET /operate/x HTTP/1.1\r\nHost: localhost\r\n\r\n", b"chunked", b"-", b"+", b"_", b"#", b"?"]


def mutate(raw: bytes, seed: int) -> bytes:
    """Insert, drop, repeat or replace something, a few times."""
    rng = random.Random(seed)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(raw) + 1)
        length = rng.choice((0, 1, 1, 2, 5))
        piece = rng.choice([*MUTANTS, raw[at : at + length], b""])
        raw = raw[:at] + piece + raw[at + length :] if rng.random() < 0.7 else raw[:at] + piece + raw[at:]
    return raw


@PROFILE
@given(raw=requests(), mutation=st.integers(0, 1 << 32), seed=st.text("01", max_size=3))
@example(raw=b"GET /operate/x HTTP/1.1\r\nHost: localhost\r\n\r\n", mutation=0, seed="")
def test_what_arrives_was_right(world: World, raw: bytes, mutation: int, seed: str) -> None:
    """Whatever is sent: what arrives is, one by one, what a strict reader makes of it; the rest is refused."""
    mutant = mutate(raw, mutation)

    async def run() -> None:
        sent, whole = read_requests(mutant)
        seen, answers = await play(world, mutant, seed)
        inside = [message for message in sent if b"/operate" in message.target]
        forwarded = [answer for answer in answers if not answer.values(b"sidecar-error")]
        assert len(seen) == len(forwarded)
        assert len(seen) <= len(inside), (mutant, seen)
        for message in seen:
            # A request may be refused for its own sake (no route, a bad path) and the next one served.
            while inside and not _is(inside[0], message):
                inside.pop(0)
            assert inside, (mutant, message)
            check(inside.pop(0), message)
        assert not whole or not sent or answers

    world.run(run())


def _is(sent: Message, seen: Message) -> bool:
    return (
        sent.method == seen.method and sent.body == seen.body and sent.target.endswith(seen.target[len(b"/op/base") :])
    )
