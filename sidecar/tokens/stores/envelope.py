"""How a record stands in a file: a line with its moment and checksum, then its content."""

from __future__ import annotations

import hashlib

import msgspec

from sidecar.tokens.stores.age import Stamp


class EnvelopeError(Exception):
    """This is no such file, or not a whole one."""


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: int
    wall: float
    boot_id: str
    boottime: float
    sha256: str


def wrap(data: bytes, written: Stamp) -> bytes:
    """A file's content."""
    header = _Header(1, written.wall, written.boot_id, written.boottime, hashlib.sha256(data).hexdigest())
    return msgspec.json.encode(header) + b"\n" + data


def unwrap(content: bytes) -> tuple[bytes, Stamp]:
    """The other way.

    Raises:
        EnvelopeError: see there.
    """
    first, _, data = content.partition(b"\n")
    try:
        header = msgspec.json.decode(first, type=_Header)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise EnvelopeError("its first line is not a record's") from None
    if header.format != 1:
        raise EnvelopeError(f"its format is {header.format}, not 1")
    if hashlib.sha256(data).hexdigest() != header.sha256:
        raise EnvelopeError("its checksum is wrong")
    return data, Stamp(header.wall, header.boot_id, header.boottime)
