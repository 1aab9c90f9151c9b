"""Records in a directory, changed without any lock. Blocking, and any number of processes at once.

    <key>.<version>         a record; the highest version counts
    <key>.lock              of `acquire`; it is never unlinked, as an unlinked lock can be held twice
    <key>.bad               the last damaged record, set aside
    tmp-…                   a half-written file; it is unlinked when it is old

A process that changes version 7 writes a temporary file and links it as version 8. Only one process can make that
link, and no file is ever half-written: another process that wants to make version 8 finds that it exists, reads it and
starts again. So a process that is killed or stopped at any step, for however long, delays no other. If it was stopped
between reading 7 and linking 8, the others may have made 8, gone on to 20 and unlinked 8. It finds that out because 7
is gone as well, as old versions are unlinked in ascending order. Then it unlinks its own version 8, which no process
has read because 20 is there, and starts again.

Nothing is synced to disk: a power cut costs a token request, and a checksum tells what was lost.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from sidecar.clock import Clock
from sidecar.tokens.stores.base import Record, StoreError, Update
from sidecar.tokens.stores.directory import TEMPORARY, Access, access, is_record, open_directory
from sidecar.tokens.stores.file_format import FileFormatError, unwrap, wrap
from sidecar.tokens.stores.timestamps import earlier, moments, stamp

log = structlog.get_logger(__name__)

READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
OLD_TEMPORARY: Final = 600.0
"""Seconds after which a temporary file's writer is taken for dead."""
OLD_RECORD: Final = 2 * 24 * 3600.0
"""Seconds after which a record means nothing any more: no token lives for longer than a day."""
FOREIGN: Final = frozenset({errno.ELOOP, errno.EACCES, errno.EPERM, errno.ENXIO})
"""The errors of opening a symbolic link, another user's file or a socket."""
KEPT_SECONDS, KEPT_LEAST, KEPT_MOST = 10.0, 2, 64
"""Old versions are kept for so long, as a process that is slow between reading and linking looks for what it read."""
MOST_BYTES: Final = 1 << 20
TRIES: Final = 1000
"""Tries of a change before it is given up. Each failed try means that another process has succeeded."""


class UntrustedError(Exception):
    """A file that must not be trusted; the text says why."""


@dataclass(frozen=True, slots=True)
class Head:
    """The newest version of a record. Version 0 is an empty file: version 1 needs one that it follows, as each does."""

    version: int = 0
    file: tuple[int, int] | None = None
    """Device and inode; None: there is none yet."""
    record: Record | None = None


class VersionedFiles:
    """An open directory."""

    def __init__(self, path: Path, group: str | None, clock: Clock) -> None:
        """Open it, and make it where it is missing.

        Raises:
            StoreError: the directory cannot be used.
            OSError: as a call to the system says.
        """
        self.users = 0
        """Calls that are under way, for the owner to count."""
        self._clock = clock
        self._access: Access = access(group)
        self._directory = open_directory(path, self._access)
        self._path = path.expanduser()
        self._reported: set[tuple[str, int]] = set()
        self._links_work = False

    def close(self) -> None:
        """Let the directory go."""
        directory, self._directory = self._directory, -1
        if directory >= 0:
            os.close(directory)

    def check(self) -> None:
        """See that the directory is still there and can be written to; the first time, that links can be made in it.

        Raises:
            StoreError: it is not so.
            OSError: as a call to the system says.
        """
        here, there = os.fstat(self._directory), self._path.stat()
        if (here.st_dev, here.st_ino) != (there.st_dev, there.st_ino):
            raise StoreError(f"The token store's directory {self._path} was replaced by another.")
        effective = os.access in os.supports_effective_ids
        if not os.access(".", os.R_OK | os.W_OK | os.X_OK, dir_fd=self._directory, effective_ids=effective):
            raise StoreError(
                f"The token store's directory {self._path} cannot be written to. Give token_store.directory a directory"
                " that this user may write to.",
                readable=True,
            )
        if not self._links_work:
            self._sweep()
            self._try_link()
            self._links_work = True

    def load(self, key: str) -> Record | None:
        """The newest record."""
        with self._head(key) as head:
            return head.record

    def update(self, key: str, change: Update, written: float | None = None) -> Record | None:
        """Change a record, as `Store.update` says."""
        for _ in range(TRIES):
            with self._head(key) as head:
                now = stamp(self._clock)
                data = change(head.record, now.boottime)
                if data is None:
                    return head.record
                if head.file is None:
                    self._begin(key)
                    continue
                counts = now if written is None else earlier(now, written)
                if self._commit(key, head, wrap(data, counts)):
                    return Record(data, counts.boottime, counts.boottime)
        raise StoreError(f"The record {key} in {self._path} cannot be changed: others are always faster.")

    def lock(self, key: str) -> int | None:
        """A file descriptor that holds the lock, or None; closing it gives the lock back."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        descriptor = os.open(f"{key}.lock", flags, self._access.file_mode, dir_fd=self._directory)
        try:
            if os.fstat(descriptor).st_uid == self._access.user:
                os.fchmod(descriptor, self._access.file_mode)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    # --- reading -----------------------------------------------------------------------------------------------------

    @contextmanager
    def _head(self, key: str) -> Iterator[Head]:
        """The newest version. Its file stays open while the caller uses it: no other file can get its inode."""
        for _ in range(TRIES):
            versions = self._versions(key)
            if not versions:
                if os.fstat(self._directory).st_nlink == 0:
                    raise StoreError(f"The token store's directory {self._path} was removed.")
                yield Head()
                return
            try:
                descriptor, status = self._open(f"{key}.{versions[-1]}")
            except FileNotFoundError:
                continue  # superseded and swept up meanwhile
            try:
                record = self._record(key, versions[-1], descriptor, status) if versions[-1] else None
                yield Head(versions[-1], (status.st_dev, status.st_ino), record)
            finally:
                if descriptor is not None:
                    os.close(descriptor)
            return
        raise StoreError(f"The record {key} in {self._path} cannot be read: it changes all the time.")

    def _versions(self, key: str) -> list[int]:
        endings = (name[len(key) + 1 :] for name in self._names() if name.startswith(f"{key}."))
        return sorted(int(ending) for ending in endings if ending.isascii() and ending.isdigit())

    def _names(self) -> list[str]:
        return os.listdir(self._directory)  # noqa: PTH208 (a descriptor, not a path)

    def _open(self, name: str) -> tuple[int | None, os.stat_result]:
        """A descriptor and the file's status. None: it is a symbolic link or another user's, and cannot be opened."""
        try:
            descriptor = os.open(name, READ, dir_fd=self._directory)
        except OSError as error:
            if error.errno not in FOREIGN:
                raise
            return None, os.stat(name, dir_fd=self._directory, follow_symlinks=False)
        return descriptor, os.fstat(descriptor)

    def _record(self, key: str, version: int, descriptor: int | None, status: os.stat_result) -> Record:
        try:
            data, written = unwrap(self._content(descriptor, status))
        except (UntrustedError, FileFormatError) as error:
            self._report(key, version, str(error))
            return Record(b"", self._clock.boottime(), self._clock.boottime(), damaged=True)
        latest, earliest = moments(written, stamp(self._clock))
        return Record(data, latest, earliest)

    def _content(self, descriptor: int | None, status: os.stat_result) -> bytes:
        if stat.S_ISLNK(status.st_mode):
            raise UntrustedError("it is a symbolic link")
        if not stat.S_ISREG(status.st_mode):
            raise UntrustedError("it is not a regular file")
        objection = self._access.objection(status)
        if objection:
            raise UntrustedError(objection)
        if descriptor is None:
            raise UntrustedError("it cannot be opened")
        if status.st_size > MOST_BYTES:
            raise UntrustedError(f"it is over {MOST_BYTES} bytes")
        content = bytearray()
        while chunk := os.read(descriptor, MOST_BYTES):
            content += chunk
        return bytes(content)

    # --- writing -----------------------------------------------------------------------------------------------------

    def _commit(self, key: str, head: Head, content: bytes) -> bool:
        """Whether this became the version after `head`."""
        temporary = f"{TEMPORARY}{secrets.token_hex(8)}"
        name = f"{key}.{head.version + 1}"
        self._write(temporary, content)
        try:
            if not self._link(temporary, name):
                return False
            if not self._is_newest(key, head):
                self._unlink(name)
                return False
        finally:
            self._unlink(temporary)
        self._sweep_versions(key, head.version + 1)
        return True

    def _sweep_versions(self, key: str, newest: int) -> None:
        """Unlink old versions, in ascending order and without a gap."""
        now = self._clock.wall()
        for old in self._versions(key):
            name = f"{key}.{old}"
            if old >= newest - KEPT_LEAST:
                return
            if old >= newest - KEPT_MOST:
                with suppress(FileNotFoundError):
                    age = now - os.stat(name, dir_fd=self._directory, follow_symlinks=False).st_mtime
                    if 0 <= age < KEPT_SECONDS:
                        return
            self._unlink(name)

    def _is_newest(self, key: str, head: Head) -> bool:
        """Whether `head` is still there, so that no later version than the one just linked can have come and gone."""
        try:
            status = os.stat(f"{key}.{head.version}", dir_fd=self._directory, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return (status.st_dev, status.st_ino) == head.file

    def _begin(self, key: str) -> None:
        """Make version 0, unless another process was faster."""
        with suppress(FileExistsError):
            self._write(f"{key}.0", b"")

    def _write(self, name: str, content: bytes) -> None:
        descriptor = os.open(name, CREATE, self._access.file_mode, dir_fd=self._directory)
        try:
            os.fchmod(descriptor, self._access.file_mode)  # whatever the umask is
            rest = memoryview(content)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        except BaseException:
            self._unlink(name)
            raise
        finally:
            os.close(descriptor)

    def _link(self, source: str, name: str) -> bool:
        try:
            os.link(source, name, src_dir_fd=self._directory, dst_dir_fd=self._directory, follow_symlinks=False)
        except FileExistsError:
            return False
        return True

    def _unlink(self, name: str) -> None:
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._directory)

    def _report(self, key: str, version: int, reason: str) -> None:
        if (key, version) in self._reported:
            return
        self._reported.add((key, version))
        log.warning(
            "a file of the token store cannot be trusted; it is set aside and made anew",
            file=str(self._path / f"{key}.{version}"),
            reason=reason,
        )
        # It is kept under another name for analysis; the next change supersedes it.
        with suppress(OSError):  # another user's file may not be linked
            self._unlink(f"{key}.bad")
            self._link(f"{key}.{version}", f"{key}.bad")

    # --- the directory as a whole ------------------------------------------------------------------------------------

    def _try_link(self) -> None:
        names = [f"{TEMPORARY}{secrets.token_hex(8)}" for _ in range(2)]
        self._write(names[0], b"camunda-sidecar")
        try:
            self._link(*names)
        finally:
            for name in names:
                self._unlink(name)

    def _sweep(self) -> None:
        """Unlink what dead processes left half-written, and the records of secrets that are long gone."""
        now = self._clock.wall()
        for name in sorted(self._names(), key=lambda name: (len(name), name)):  # a record's versions in ascending order
            most = OLD_TEMPORARY if name.startswith(TEMPORARY) else OLD_RECORD if is_record(name) else None
            if most is not None:
                with suppress(OSError):  # another process was faster, or this is no file at all
                    status = os.stat(name, dir_fd=self._directory, follow_symlinks=False)
                    if now - status.st_mtime > most:
                        self._unlink(name)
