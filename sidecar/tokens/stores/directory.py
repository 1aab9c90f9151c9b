"""The store's directory: it is made, or one that exists is checked. Blocking."""

from __future__ import annotations

import grp
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from sidecar.tokens.stores.base import StoreError

log = structlog.get_logger(__name__)

TEMPORARY: Final = "tmp-"
_RECORD: Final = re.compile(r"(token|budget)-[0-9a-f]+\.[0-9]+")
_OURS: Final = re.compile(rf"{_RECORD.pattern}|(token|budget)-[0-9a-f]+(-\d)?\.(lock|bad)|{TEMPORARY}[0-9a-f]+")


@dataclass(frozen=True, slots=True)
class Access:
    """Who may share the store: this user alone, or a group."""

    user: int
    group: int | None

    @property
    def directory_mode(self) -> int:
        """0700; for a group 2770, so that files in it belong to the group."""
        return 0o700 if self.group is None else 0o2770

    @property
    def file_mode(self) -> int:
        """0600; for a group 0660."""
        return 0o600 if self.group is None else 0o660

    def objection(self, status: os.stat_result) -> str:
        """Why a file or directory with this status is not to be trusted; empty where it is."""
        if self.group is None and status.st_uid != self.user:
            return f"it belongs to user {status.st_uid}, not to {self.user}"
        if self.group is not None and status.st_gid != self.group and status.st_uid != self.user:
            return f"it belongs to group {status.st_gid}, not to {self.group}"
        too_much = stat.S_IMODE(status.st_mode) & (0o077 if self.group is None else 0o007)
        return f"others may use it (mode {stat.S_IMODE(status.st_mode):04o})" if too_much else ""


def access(group: str | None) -> Access:
    """Who may share a store that this process uses.

    Raises:
        StoreError: there is no such group.
    """
    if group is None:
        return Access(os.geteuid(), None)
    try:
        return Access(os.geteuid(), grp.getgrnam(group).gr_gid)
    except KeyError:
        raise StoreError(f"There is no group {group}: name one that exists as token_store.group.") from None


def open_directory(path: Path, allowed: Access) -> int:
    """A file descriptor of the directory, made where it is missing.

    Raises:
        StoreError: it cannot be made, or is not one for secrets.
    """
    path = path.expanduser()
    try:
        _make(path, allowed)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise StoreError(
            f"The token store's directory {path} cannot be used: {reason}. Give token_store.directory a directory that"
            " this user may write to."
        ) from None
    try:
        _inspect(path, descriptor, allowed)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _make(path: Path, allowed: Access) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        return
    if allowed.group is not None:
        os.chown(path, -1, allowed.group)
    path.chmod(allowed.directory_mode)  # whatever the umask is


def _inspect(path: Path, descriptor: int, allowed: Access) -> None:
    status = os.fstat(descriptor)
    objection = allowed.objection(status)
    if not objection and (allowed.group is None or status.st_gid == allowed.group):
        return
    if status.st_uid == allowed.user and all(_OURS.fullmatch(name) for name in os.listdir(descriptor)):
        if allowed.group is not None:
            os.fchown(descriptor, -1, allowed.group)
        os.fchmod(descriptor, allowed.directory_mode)
        log.warning("the token store's directory was open to others; that is repaired", directory=str(path))
        return
    raise StoreError(
        f"The token store's directory {path} cannot be trusted: {objection or 'it belongs to another group'}. Give"
        " token_store.directory a directory of its own, which the sidecar makes by itself: one below a mounted volume,"
        " for instance."
    )


def is_record(name: str) -> bool:
    """Whether a file of this name is a version of a token's or a budget's record."""
    return _RECORD.fullmatch(name) is not None
