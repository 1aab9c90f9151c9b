"""Records in a directory, changed without any lock. Blocking, and any number of processes at once.

    salt                    the store's random bytes
    <key>.<version>         a record; the highest version counts
    <key>.lock              of `acquire`; never unlinked, for an unlinked lock can be held twice
    <key>.bad               the last damaged record, set aside
    tmp-…                   half-written; swept up when old

Who changes version 7 writes a temporary file and links it as version 8. One process only can make that link, and
nothing is ever half there: who comes second finds 8 taken, reads it and starts again. So a process that is killed or
stopped at any step, for however long, holds up nobody. If it was stopped between reading 7 and linking 8, others may
have made 8, gone on to 20 and swept 8 up. It finds that out because 7 is gone as well, for old versions are swept up
in ascending order; then it takes its 8 away, which nobody has looked at beside 20, and starts again.

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
from sidecar.tokens.sealing import SALT_BYTES
from sidecar.tokens.stores.age import earlier, moments, stamp
from sidecar.tokens.stores.base import Record, StoreError, Update
from sidecar.tokens.stores.directory import SALT, Access, access, open_directory
from sidecar.tokens.stores.envelope import EnvelopeError, unwrap, wrap

log = structlog.get_logger(__name__)

READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
TEMPORARY: Final = "tmp-"
OLD_TEMPORARY: Final = 600.0
"""Seconds after which a temporary file's writer is taken for dead."""
FOREIGN: Final = frozenset({errno.ELOOP, errno.EACCES, errno.EPERM, errno.ENXIO})
"""What opening a symbolic link, another user's file or a socket says."""
KEPT_SECONDS, KEPT_LEAST, KEPT_MOST = 10.0, 2, 64
"""Old versions are left for so long, so that who is slow between reading and linking finds the one that it read."""
MOST_BYTES: Final = 1 << 20
TRIES: Final = 1000
"""Of a change that others are always faster with; each time one of them has succeeded."""


class UntrustedError(Exception):
    """A file that is not to be believed; the text says why."""


@dataclass(frozen=True, slots=True)
class Head:
    """The newest version of a record; version 0 is an empty file, which only makes version 1 one with a past."""

    version: int = 0
    file: tuple[int, int] | None = None
    """Device and inode; None: there is none yet."""
    record: Record | None = None


class Records:
    """An open directory."""

    def __init__(self, path: Path, group: str | None, clock: Clock, salt: bytes | None = None) -> None:
        """Opens it; `salt` is for a directory that has none yet.

        Raises:
            StoreError: the directory cannot be used.
        """
        self._clock = clock
        self._access: Access = access(group)
        self._directory = open_directory(path, self._access)
        self._path = path
        self._reported: set[tuple[str, int]] = set()
        try:
            self.salt = self._salt(salt)
            self._sweep_temporaries()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Lets the directory go."""
        os.close(self._directory)

    def load(self, key: str) -> Record | None:
        """The newest record."""
        with self._head(key) as head:
            return head.record

    def update(self, key: str, change: Update, written: float | None = None) -> Record | None:
        """See `Store.update`."""
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
        """The newest version. While it is in use its file stays open, so that its inode is not given to another."""
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
        """A descriptor, or None for what is not to be opened: a symlink, or another user's."""
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
        except (UntrustedError, EnvelopeError) as error:
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
        self._sweep(key, head.version + 1)
        return True

    def _sweep(self, key: str, newest: int) -> None:
        """Unlinks old versions, in ascending order and without a gap."""
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
        """Whether what was just linked follows `head` without anything having come and gone between."""
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
            "a file of the token store is not to be believed; it is set aside and made anew",
            file=str(self._path / f"{key}.{version}"),
            reason=reason,
        )
        self._set_aside(key, version)

    def _set_aside(self, key: str, version: int) -> None:
        """Keeps a damaged file for whoever wants to know; the next change supersedes it."""
        with suppress(OSError):  # a foreign file may not be linked; then its log line is all
            self._unlink(f"{key}.bad")
            self._link(f"{key}.{version}", f"{key}.bad")

    # --- the store as a whole ----------------------------------------------------------------------------------------

    def _salt(self, new: bytes | None) -> bytes:
        for _ in range(3):
            try:
                descriptor, status = self._open(SALT)
            except FileNotFoundError:
                self._put_salt(new or secrets.token_bytes(SALT_BYTES))
                continue
            try:
                salt, _written = unwrap(self._content(descriptor, status))
                if len(salt) == SALT_BYTES:
                    return salt
                reason = "its length is wrong"
            except (UntrustedError, EnvelopeError) as error:
                reason = str(error)
            finally:
                if descriptor is not None:
                    os.close(descriptor)
            log.warning(
                "the token store's salt is not to be believed; tokens are obtained anew",
                file=str(self._path / SALT),
                reason=reason,
            )
            os.rename(SALT, f"{SALT}.bad", src_dir_fd=self._directory, dst_dir_fd=self._directory)
        raise StoreError(f"The token store's salt in {self._path} cannot be made. Remove the file {SALT} there.")

    def _put_salt(self, salt: bytes) -> None:
        """Unless another process is faster. Thereby it also shows that links can be made here."""
        temporary = f"{TEMPORARY}{secrets.token_hex(8)}"
        self._write(temporary, wrap(salt, stamp(self._clock)))
        try:
            self._link(temporary, SALT)
        finally:
            self._unlink(temporary)

    def _sweep_temporaries(self) -> None:
        now = self._clock.wall()
        for name in self._names():
            if name.startswith(TEMPORARY):
                with suppress(FileNotFoundError):
                    status = os.stat(name, dir_fd=self._directory, follow_symlinks=False)
                    if now - status.st_mtime > OLD_TEMPORARY:
                        self._unlink(name)
