"""VersionedFiles in a directory: who is killed or stopped while changing one, and files that are not to be believed."""

from __future__ import annotations

import errno
import grp
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from sidecar.clock import SystemClock
from sidecar.tokens.stores import versioned_files as module
from sidecar.tokens.stores.base import StoreError
from sidecar.tokens.stores.directory import Access
from sidecar.tokens.stores.versioned_files import KEPT_LEAST, KEPT_MOST, VersionedFiles
from tests.tokens.stores.steps import increment

ROOT = Path(__file__).parents[3]
CLOCK = SystemClock()
BOUND = 1.0
"""Seconds that a change by one process may take while another is stopped or dead in the middle of its own."""


@pytest.fixture
def directory(tmp_path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(directory):
    opened = VersionedFiles(directory, None, CLOCK)
    yield opened
    opened.close()


def counter(store: VersionedFiles) -> int:
    return int(store.load("counter").data)


def started(directory: Path, action: str, step: int) -> subprocess.Popen:
    command = [sys.executable, "-m", "tests.tokens.stores.steps", str(directory), action, str(step)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def steps_of_a_change(directory: Path) -> int:
    output, _ = started(directory, "count", 0).communicate()
    return int(output)


def stopped(process: subprocess.Popen) -> None:
    """Wait until it has stopped itself."""
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)


def timed(store: VersionedFiles, times: int) -> float:
    """The longest of so many changes."""
    longest = 0.0
    for _ in range(times):
        began = time.monotonic()
        store.update("counter", increment)
        longest = max(longest, time.monotonic() - began)
    return longest


# --- killed and stopped ------------------------------------------------------------------------------------------


def test_a_process_killed_at_any_step_holds_up_nobody_and_loses_nothing(store, directory) -> None:
    """`kill -9` before each call to the system: the change is there as a whole or not at all."""
    store.update("counter", increment)
    steps = steps_of_a_change(directory)
    assert steps > 10
    for step in range(1, steps + 1):
        before = counter(store)
        process = started(directory, "kill", step)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert counter(store) in {before, before + 1}
        now = counter(store)
        assert timed(store, 3) < BOUND
        assert counter(store) == now + 3


@pytest.mark.parametrize("meanwhile", [3, KEPT_MOST + 10])
def test_a_process_stopped_at_any_step_holds_up_nobody(store, directory, meanwhile) -> None:
    """SIGSTOP before each call, others go on, SIGCONT: its change is made then, and none of theirs is undone.

    Where they have gone so far that what it read was swept up, it may be made twice (`Store.update`).
    """
    store.update("counter", increment)
    for step in range(1, steps_of_a_change(directory) + 1):
        before = counter(store)
        process = started(directory, "stop", step)
        stopped(process)
        assert timed(store, meanwhile) < BOUND
        process.send_signal(signal.SIGCONT)
        output, _ = process.communicate()
        assert process.returncode == 0
        assert output
        most = 1 if meanwhile == 3 else 2
        assert before + meanwhile + 1 <= counter(store) <= before + meanwhile + most


def test_the_first_version_of_all_is_made_once(directory) -> None:
    """Stopped at any step while there is nothing yet."""
    steps = steps_of_a_change(directory)
    for step in range(1, steps + 1):
        fresh = directory.with_name(f"store-{step}")
        store = VersionedFiles(fresh, None, CLOCK)
        process = started(fresh, "stop", step)
        # Fewer steps without a record to read: it may be done already.
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        timed(store, 70)
        if os.WIFSTOPPED(status):
            process.send_signal(signal.SIGCONT)
            os.waitpid(process.pid, 0)
        process.returncode = 0
        process.stdout.close()
        assert 71 <= counter(store) <= 72
        store.close()


def test_files_do_not_pile_up(store, directory) -> None:
    """However fast a record changes; and when it changes slowly, a few are left."""
    for _ in range(300):
        store.update("counter", increment)
    assert len(list(directory.iterdir())) <= KEPT_MOST + 5
    for name in directory.glob("counter.*"):
        os.utime(name, (1, 1))
    store.update("counter", increment)
    assert sorted(path.name for path in directory.iterdir()) == [*(f"counter.{n}" for n in (299, 300, 301))]
    assert KEPT_LEAST == 2


def test_what_a_dead_process_left_half_written_is_swept_up(directory) -> None:
    """After ten minutes; nobody has read it meanwhile."""
    VersionedFiles(directory, None, CLOCK).close()
    old, young = directory / "tmp-01", directory / "tmp-02"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 601, time.time() - 601))
    checked(directory)
    assert (old.exists(), young.exists()) == (False, True)


def test_records_that_mean_nothing_any_more_are_swept_up(directory) -> None:
    """Two days after their last change: a secret that was changed leaves nothing for good; nor does another format."""
    store = VersionedFiles(directory, None, CLOCK)
    for key in ("token-0a", "token-0b", "budget-0c"):
        for _ in range(12):
            store.update(key, increment)
    store.close()
    for name in directory.glob("*-0[ac].*"):
        os.utime(name, (time.time() - 172_801, time.time() - 172_801))
    (directory / "letter").write_text("of somebody else's")
    os.utime(directory / "letter", (1, 1))
    checked(directory)
    assert {path.name.partition(".")[0] for path in directory.iterdir()} == {"token-0b", "letter"}


def checked(directory: Path) -> None:
    """Opened and looked at, as at a start."""
    store = VersionedFiles(directory, None, CLOCK)
    store.check()
    store.close()


# --- locks -------------------------------------------------------------------------------------------------------


def test_a_lock_is_given_back_by_the_kernel_when_its_holder_dies(store, directory) -> None:
    """And its file stays: an unlinked lock could be held twice."""
    script = (
        "import os, sys, pathlib, signal\n"
        "from sidecar.clock import SystemClock\n"
        "from sidecar.tokens.stores.versioned_files import VersionedFiles\n"
        "assert VersionedFiles(pathlib.Path(sys.argv[1]), None, SystemClock()).lock('key') is not None\n"
        "os.kill(os.getpid(), signal.SIGSTOP)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(directory)], cwd=ROOT)
    stopped(process)
    assert store.lock("key") is None
    process.kill()
    process.wait()
    descriptor = store.lock("key")
    assert descriptor is not None
    os.close(descriptor)
    assert (directory / "key.lock").exists()


# --- files that are not to be believed ---------------------------------------------------------------------------


def garbage(path: Path) -> None:
    path.write_bytes(b"garbage")


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flipped(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1] + b"8")


def of_another_format(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"format":1', b'"format":2'))


def huge(path: Path) -> None:
    with path.open("ab") as stream:
        stream.truncate(2 << 20)


def world_readable(path: Path) -> None:
    path.chmod(0o604)


def writable_by_the_group(path: Path) -> None:
    path.chmod(0o620)


def symlinked(path: Path) -> None:
    target = path.with_name("elsewhere")
    path.rename(target)
    path.symlink_to(target)


def dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir(mode=0o700)


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def a_socket(path: Path) -> None:
    path.unlink()
    os.chdir(path.parent)  # its path may be too long for an address
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path.name)
    path.chmod(0o600)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (garbage, "its first line is not a record's"),
        (emptied, "its first line is not a record's"),
        (truncated, "its checksum is wrong"),
        (flipped, "its checksum is wrong"),
        (of_another_format, "its format is 2, not 1"),
        (huge, "it is over 1048576 bytes"),
        (world_readable, "others may use it (mode 0604)"),
        (writable_by_the_group, "others may use it (mode 0620)"),
        (symlinked, "it is a symbolic link"),
        (dangling, "it is a symbolic link"),
        (a_directory, "it is not a regular file"),
        (a_pipe, "it is not a regular file"),
        (a_socket, "it is not a regular file"),
    ],
)
def test_a_file_that_is_not_to_be_believed(store, directory, damage, reason, monkeypatch) -> None:
    """It is said once, set aside, not used, and made anew by the next change."""
    monkeypatch.chdir(directory)
    store.update("counter", increment)
    damage(directory / "counter.1")
    with capture_logs() as logs:
        found = store.load("counter")
        store.load("counter")
    assert (found.damaged, found.data) == (True, b"")
    assert [(line["log_level"], line["file"], line["reason"]) for line in logs] == [
        ("warning", str(directory / "counter.1"), reason)
    ]
    if damage is not a_directory:  # which has no second name
        assert os.path.lexists(directory / "counter.bad")
    store.update("counter", increment)
    assert counter(store) == 1
    assert store.load("counter").damaged is False


def test_another_owners_file_is_refused(store, directory) -> None:
    """Whatever it says."""
    store.update("counter", increment)
    store._access = Access(os.geteuid() + 1, None)
    with capture_logs() as logs:
        assert store.load("counter").damaged
    assert logs[0]["reason"] == f"it belongs to user {os.geteuid()}, not to {os.geteuid() + 1}"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_that_really_is_another_owners_is_refused(store, directory) -> None:
    """It was put there by somebody else."""
    store.update("counter", increment)
    os.chown(directory / "counter.1", 65534, 65534)
    assert store.load("counter").damaged
    store.update("counter", increment)
    assert counter(store) == 1


def test_being_out_of_file_descriptors_is_not_taken_for_damage(store, monkeypatch) -> None:
    """The store is unusable for a while; nothing is set aside."""
    store.update("counter", increment)

    def exhausted(*_positional, **_named):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patch:
        patch.setattr(module.os, "open", exhausted)
        with pytest.raises(OSError, match="Too many open files"):
            store.load("counter")
    assert counter(store) == 1


# --- the directory -----------------------------------------------------------------------------------------------


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777])
def test_directory_0700_and_files_0600_whatever_the_umask(directory, umask) -> None:
    """Parents that are missing are made by the umask's rules."""
    before = os.umask(umask)
    try:
        store = VersionedFiles(directory, None, CLOCK)
        store.update("counter", increment)
        os.close(store.lock("key"))
        store.close()
    finally:
        os.umask(before)
    assert mode(directory) == 0o700
    assert {mode(path) for path in directory.iterdir()} == {0o600}


def test_with_a_group_2770_and_0660(directory) -> None:
    """Processes of different users share a store by a group."""
    group = grp.getgrgid(os.getgid())
    store = VersionedFiles(directory, group.gr_name, CLOCK)
    store.update("counter", increment)
    os.close(store.lock("key"))
    store.close()
    assert mode(directory) == 0o2770
    assert {mode(path) for path in directory.iterdir()} == {0o660}
    assert {path.stat().st_gid for path in [directory, *directory.iterdir()]} == {group.gr_gid}


def test_of_a_group_anybody_in_it_is_believed(directory) -> None:
    """Another user's file with the right group and mode; not one that the world may use, nor another group's."""
    ours = Access(1000, 50)
    status = directory.parent.stat()

    def file(*, uid: int, gid: int, mode: int) -> os.stat_result:
        return os.stat_result((stat.S_IFREG | mode, 1, status.st_dev, 1, uid, gid, 0, 0, 0, 0))

    assert ours.objection(file(uid=2000, gid=50, mode=0o660)) == ""
    assert ours.objection(file(uid=1000, gid=50, mode=0o660)) == ""
    assert "belongs to group 51" in ours.objection(file(uid=2000, gid=51, mode=0o660))
    assert "others may use it" in ours.objection(file(uid=2000, gid=50, mode=0o664))


def test_an_unknown_group_is_said(directory) -> None:
    """With the setting's name."""
    with pytest.raises(StoreError, match=r"There is no group nosuchgroup.*token_store\.group"):
        VersionedFiles(directory, "nosuchgroup", CLOCK)


def test_an_open_directory_that_is_empty_or_ours_is_closed_to_others(directory) -> None:
    """Somebody made it by hand; the log says that it was changed."""
    directory.mkdir(mode=0o755)
    directory.chmod(0o755)
    with capture_logs() as logs:
        VersionedFiles(directory, None, CLOCK).close()
    assert mode(directory) == 0o700
    assert logs[0]["event"] == "the token store's directory was open to others; that is repaired"
    for name in ("token-0a.17", "token-0a-1.lock", "budget-0b.bad", "tmp-0c"):
        (directory / name).touch(mode=0o600)
    directory.chmod(0o777)
    VersionedFiles(directory, None, CLOCK).close()
    assert mode(directory) == 0o700


def test_an_open_directory_with_other_things_in_it_is_left_alone(directory) -> None:
    """Somebody configured /tmp, or a home: its mode is not ours to change."""
    directory.mkdir()
    directory.chmod(0o755)
    (directory / "letters").write_text("private")
    with pytest.raises(StoreError, match=r"cannot be trusted: others may use it \(mode 0755\).*of its own"):
        VersionedFiles(directory, None, CLOCK)
    assert mode(directory) == 0o755


def test_what_is_no_directory_is_said(directory) -> None:
    """With what to do."""
    directory.write_text("a file")
    with pytest.raises(StoreError, match=r"cannot be used: .*token_store\.directory"):
        VersionedFiles(directory, None, CLOCK)


def test_a_home_is_found(tmp_path, monkeypatch) -> None:
    """The default is below it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    VersionedFiles(Path("~/.local/state/camunda-sidecar"), None, CLOCK).close()
    assert mode(tmp_path / ".local/state/camunda-sidecar") == 0o700


def test_a_directory_that_is_not_to_be_written_to_is_read(directory, monkeypatch) -> None:
    """By its permissions: opened and read as any other; a look says what is wrong, and that reading is not."""
    store = VersionedFiles(directory, None, CLOCK)
    store.update("counter", increment)
    store.check()
    monkeypatch.setattr(module.os, "access", lambda *_, **__: False)  # as for anybody but root
    for each in (store, VersionedFiles(directory, None, CLOCK)):
        assert counter(each) == 1
        with pytest.raises(StoreError, match="cannot be written to") as raised:
            each.check()
        assert raised.value.readable
        each.close()


@pytest.mark.parametrize("again", [False, True], ids=["vanished", "replaced"])
def test_a_directory_that_is_not_there_any_more_is_noticed(store, directory, again) -> None:
    """By a look that changes nothing: also where another one stands in its place, which others use from now on."""
    store.check()
    directory.rename(directory.with_name("elsewhere"))
    if again:
        directory.mkdir(mode=0o700)
    with pytest.raises((OSError, StoreError), match=r"was replaced|No such file"):
        store.check()


def test_a_file_system_without_links_is_said_at_the_start(store, monkeypatch) -> None:
    """And not at the first token: others would write past each other there."""

    def unsupported(*_positional, **_named):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(module.os, "link", unsupported)
    with pytest.raises(OSError, match="not permitted"):
        store.check()
