"""What a case of the corpus is: raw bytes, what must come of them, and why.

The world that the cases are written for (`CONFIG` in `world.py`): the origin is at `ORIGIN`, and

- `/operate` goes to the origin's `/op/base` with the token `TOKEN-OPERATE`,
- `/console` goes to the origin's root with `TOKEN-CONSOLE`,
- `/optimize` goes to `/opt` with `TOKEN-OPTIMIZE`, allows `GET` and `POST` below `/api/public`, has `GET /api/readyz`
  public, and takes bodies up to 1 KiB.
"""

from __future__ import annotations

from dataclasses import dataclass

CRLF = b"\r\n"
HOST = b"Host: localhost\r\n"


@dataclass(frozen=True)
class Refused:
    """The sidecar answers by itself and nothing complete reaches the origin."""

    status: tuple[int, ...]
    closes: bool | None = True
    """Whether the connection must end; None: either."""


@dataclass(frozen=True)
class Forwarded:
    """Exactly this request reaches the origin, and its answer the client."""

    target: bytes | None = b"/op/base/a"
    """None: any below the route's base."""
    method: bytes = b"GET"
    body: bytes = b""
    present: tuple[tuple[bytes, bytes], ...] = ()
    absent: tuple[bytes, ...] = ()
    token: bytes | None = b"TOKEN-OPERATE"
    """None: no Authorization at all."""
    upgrade: bool = False
    """Whether `Upgrade: websocket` goes along."""
    closes: bool | None = False


@dataclass(frozen=True)
class Closed:
    """The connection ends without an answer: what came was no HTTP at all, or was left unfinished."""


Outcome = Refused | Forwarded | Closed


@dataclass(frozen=True)
class Case:
    name: str
    raw: bytes
    expect: tuple[tuple[Outcome, ...], ...]
    """For each answer in turn, the outcomes that are right. Almost always one; two where the RFC leaves a choice and
    both are safe, which `why` then says."""
    why: str
    category: str = ""
    partial: bool = False
    """An incomplete request may have reached the origin: the mistake is in the body."""
    end: bool = False
    """The client sends FIN after the bytes: what it meant is unfinished."""


def refused(name: str, raw: bytes, why: str, *status: int, closes: bool | None = True, partial: bool = False) -> Case:
    """400 and the connection closed, unless said otherwise."""
    return Case(name, raw, ((Refused(status or (400,), closes),),), why, partial=partial)


def forwarded(
    name: str,
    raw: bytes,
    why: str,
    target: bytes | None = b"/op/base/a",
    *,
    method: bytes = b"GET",
    body: bytes = b"",
    present: tuple[tuple[bytes, bytes], ...] = (),
    absent: tuple[bytes, ...] = (),
    token: bytes | None = b"TOKEN-OPERATE",
    closes: bool | None = False,
    upgrade: bool = False,
) -> Case:
    """Forwarded as one request."""
    outcome = Forwarded(target, method, body, present, absent, token, upgrade, closes)
    return Case(name, raw, ((outcome,),), why)


def either(name: str, raw: bytes, why: str, *outcomes: Outcome, partial: bool = False) -> Case:
    """The RFC leaves a choice; `why` says what both have in common that makes them safe."""
    return Case(name, raw, (outcomes,), why, partial=partial)


def several(name: str, raw: bytes, why: str, *outcomes: Outcome | tuple[Outcome, ...], partial: bool = False) -> Case:
    """Pipelined: one outcome for each answer in turn."""
    expect = tuple(outcome if isinstance(outcome, tuple) else (outcome,) for outcome in outcomes)
    return Case(name, raw, expect, why, partial=partial)


def get(*lines: bytes, target: bytes = b"/operate/a") -> bytes:
    """A GET with these field lines after Host, each without its CRLF."""
    return b"GET " + target + b" HTTP/1.1\r\n" + HOST + b"".join(line + CRLF for line in lines) + CRLF


def post(*lines: bytes, body: bytes = b"", target: bytes = b"/operate/a") -> bytes:
    """A POST with these field lines after Host and these raw bytes after the head."""
    return b"POST " + target + b" HTTP/1.1\r\n" + HOST + b"".join(line + CRLF for line in lines) + CRLF + body


def chunked(body: bytes, *lines: bytes) -> bytes:
    """A chunked POST with the raw chunks given."""
    return post(b"Transfer-Encoding: chunked", *lines, body=body)


BAD = Refused((400,))
"""400, closed."""


def category(name: str, *cases: Case | list[Case]) -> list[Case]:
    """Put the category's name on each case."""
    flat = [case for item in cases for case in (item if isinstance(item, list) else [item])]
    return [Case(f"{name}/{case.name}", case.raw, case.expect, case.why, name, case.partial, case.end) for case in flat]
