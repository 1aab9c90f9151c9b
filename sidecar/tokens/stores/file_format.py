"""The content of a record's file: a line with the moment of writing and a checksum, then the record."""

from __future__ import annotations

import hashlib

import msgspec

from sidecar.tokens.stores.timestamps import Stamp


class FileFormatError(Exception):
    """This is no such file, or not a whole one."""


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: int
    wall: float
    boot_id: str
    boottime: float
    sha256: str


def wrap(data: bytes, written: Stamp) -> bytes:
    """The content of a record's file."""
    header = _Header(1, written.wall, written.boot_id, written.boottime, hashlib.sha256(data).hexdigest())
    return msgspec.json.encode(header) + b"\n" + data


def unwrap(content: bytes) -> tuple[bytes, Stamp]:
    """A file's record, and when it was written.

    Raises:
        FileFormatError: this is no such file, or not a whole one.
    """
    first, _, data = content.partition(b"\n")
    try:
        header = msgspec.json.decode(first, type=_Header)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise FileFormatError("its first line is not a record's") from None
    if header.format != 1:
        raise FileFormatError(f"its format is {header.format}, not 1")
    if hashlib.sha256(data).hexdigest() != header.sha256:
        raise FileFormatError("its checksum is wrong")
    return data, Stamp(header.wall, header.boot_id, header.boottime)
