"""Text of a server, as a log line may have it: without the secrets that were sent to it, printable, and short.

A server may quote what it was sent, in its own spelling and cut where it likes. So secrets are looked for first, in the
whole text, before anything is cleaned or cut; and for a part of a secret as for all of it.
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Final
from urllib.parse import quote_plus

from sidecar.secret import MASK

LONGEST: Final = 4096
"""Characters of a text that are looked at."""
PART: Final = 8
"""Characters of a secret in a row that are masked; all of a shorter one. Fewer would mask words of ordinary sentences,
and the seven that may be left at most are of no use against a secret that withstands guessing."""
_ENCODINGS: Final = 3
"""How often a text may be encoded on its way: form-encoded in JSON in JSON."""

_JWT = re.compile(r"eyJ[\w-]+(?:\.[\w-]*){0,4}", re.ASCII)
_ESCAPE = re.compile(
    rb"%([0-9a-f]{2})|\\u([0-9a-f]{4})|\\([\"\\/])|(&(?:#[0-9]{1,7}|#x[0-9a-f]{1,6}|amp|lt|gt|quot|apos);)"
)
"""URLs and forms, JSON, HTML; in lower case."""
_Piece = tuple[int, int, int]
"""One byte of a text that is being decoded, and the characters that it came from: the first, and the one after."""


def quote(text: str, limit: int, secrets: Iterable[str] = ()) -> str:
    """The text without `secrets`, on one line of printable ASCII, cut at `limit` characters."""
    return printable(mask(text, secrets), limit)


def printable(text: str, limit: int) -> str:
    """The text on one line, in ASCII that cannot steer a terminal, and cut at `limit` characters."""
    flat = "".join(character if "\x20" <= character <= "\x7e" else " " for character in text[: 4 * limit])
    flat = " ".join(flat.split())
    return flat if len(flat) <= limit else flat[: limit - 3] + "..."


def mask(text: str, secrets: Iterable[str]) -> str:
    """The beginning of a text with `***` for every JWT, and for each part of a secret in any usual spelling."""
    text = text[:LONGEST]
    hidden = bytearray(len(text))
    parts = _parts(secrets)
    pieces = [(byte, at, at + 1) for at, character in enumerate(text) for byte in _plain(_utf8(character))]
    for _ in range(1 + _ENCODINGS):
        flat = bytes(byte for byte, _, _ in pieces)
        for size, wanted in parts.items():
            for at in range(len(flat) - size + 1):
                if flat[at : at + size] in wanted:
                    first, last = pieces[at][1], pieces[at + size - 1][2]
                    hidden[first:last] = b"\1" * (last - first)
        pieces = list(_decoded(pieces, flat))
    shown = groupby(zip(hidden, text, strict=True), lambda pair: pair[0])
    return _JWT.sub(MASK, "".join(MASK if is_hidden else "".join(c for _, c in run) for is_hidden, run in shown))


def _decoded(pieces: list[_Piece], flat: bytes) -> Iterator[_Piece]:
    """One encoding less."""
    end = 0
    for escape in _ESCAPE.finditer(flat):
        yield from pieces[end : escape.start()]
        end = escape.end()
        for byte in _plain(_character(*escape.groups())):
            yield byte, pieces[escape.start()][1], pieces[end - 1][2]
    yield from pieces[end:]


def _character(percent: bytes | None, unicode: bytes | None, escaped: bytes | None, entity: bytes | None) -> bytes:
    if percent is not None:
        return bytes([int(percent, 16)])
    if unicode is not None:
        return _utf8(chr(int(unicode, 16)))
    return escaped if escaped is not None else _utf8(html.unescape((entity or b"").decode()))


def _parts(secrets: Iterable[str]) -> dict[int, set[bytes]]:
    """What is looked for, by its length."""
    parts: dict[int, set[bytes]] = {}
    for spelling in (_plain(spelling) for secret in secrets for spelling in _spellings(secret) if spelling):
        size = min(PART, len(spelling))
        parts.setdefault(size, set()).update(spelling[at : at + size] for at in range(len(spelling) - size + 1))
    return parts


def _spellings(secret: str) -> Iterator[bytes]:
    """Those that decoding does not lead to: encodings of characters, and base64, also inside of something longer."""
    raw = _utf8(secret)
    yield raw
    yield secret.encode("latin-1", "replace")
    yield secret.encode("ascii", "replace")
    yield _utf8(raw.decode("latin-1"))
    yield json.dumps(secret)[1:-1].encode()
    for content in {raw, quote_plus(secret, errors="replace").encode()}:
        for shift in range(3):
            encoded = base64.b64encode(bytes(shift) + content)[(8 * shift + 5) // 6 : 8 * (shift + len(content)) // 6]
            if len(encoded) >= PART // 2:
                yield encoded
                yield encoded.translate(bytes.maketrans(b"+/", b"-_"))


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _plain(text: bytes) -> bytes:
    """What differs between spellings for no reason: case, and how a form writes a space."""
    return text.lower().replace(b"+", b" ")
