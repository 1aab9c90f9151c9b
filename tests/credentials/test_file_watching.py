"""Secret files while the sidecar runs: taken over when they change, kept when they break."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from sidecar.credentials import file_watching
from sidecar.credentials.file_watching import Watched, Watcher
from sidecar.errors import SecretUnavailableError
from sidecar.secret import Secret, SecretSource


def watch(file: Path) -> Watched[Secret]:
    return Watched("credentials.x.password_file", (file,), lambda: SecretSource(file=file).read())


async def test_a_changed_file_is_taken_over_once(tmp_path: Path) -> None:
    """`poll` names what changed, and only then."""
    file = tmp_path / "secret"
    file.write_text("one\n")
    watched = watch(file)
    watcher = Watcher([watched])
    assert (await watcher.poll(), watched.value) == ([], Secret("one"))
    file.write_text("second\n")
    assert (await watcher.poll(), watched.value) == (["credentials.x.password_file"], Secret("second"))
    assert (await watcher.poll(), watched.value) == ([], Secret("second"))


def test_a_change_of_the_same_size_in_the_same_instant_is_seen(tmp_path: Path) -> None:
    """A renamed file has another inode, even where time and size are the same."""
    file = tmp_path / "secret"
    file.write_text("one")
    watched = watch(file)
    status = file.stat()
    newer = tmp_path / "newer"
    newer.write_text("two")
    os.utime(newer, ns=(status.st_atime_ns, status.st_mtime_ns))
    newer.rename(file)
    assert watched.poll()
    assert watched.value == Secret("two")


def test_kubernetes_swaps_a_symlink(tmp_path: Path) -> None:
    """The mounted file is a link through `..data` to a dated directory; the swap touches only `..data`."""
    for name, content in (("..1", "old"), ("..2", "new")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "secret").write_text(content)
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "secret").symlink_to("..data/secret")
    watched = watch(tmp_path / "secret")
    assert watched.value == Secret("old")
    (tmp_path / "..tmp").symlink_to("..2")
    (tmp_path / "..tmp").rename(tmp_path / "..data")
    assert watched.poll()
    assert watched.value == Secret("new")


@pytest.mark.parametrize(
    "broken", [None, b"", b"\n", "geheim".encode("utf-16"), b"\xff\xfe", b"two\nlines\n", b"x" * (2 << 20), b"a\0b"]
)
async def test_a_broken_file_leaves_the_old_secret_in_use(tmp_path: Path, broken: bytes | None) -> None:
    """It is logged once per change, the metric has it, and a repaired file ends it."""
    file = tmp_path / "secret"
    file.write_text("old")
    watched = watch(file)
    watcher = Watcher([watched])
    with capture_logs() as logs:
        if broken is None:
            file.unlink()
        else:
            file.write_bytes(broken)
        assert [await watcher.poll() for _ in range(3)] == [[], [], []]
    assert watched.value == Secret("old")
    assert [entry["event"] for entry in logs] == ["new secret file is unusable, the old one stays in use"]
    assert logs[0]["setting"] == "credentials.x.password_file"
    assert list(watcher.errors()) == ["credentials.x.password_file"]
    file.write_text("new")
    assert await watcher.poll() == ["credentials.x.password_file"]
    assert (watched.value, dict(watcher.errors())) == (Secret("new"), {})


def test_a_pipe_in_a_files_place_is_not_waited_for(tmp_path: Path) -> None:
    """Nobody writes into it: the old secret stays, and the poll ends."""
    file = tmp_path / "secret"
    file.write_text("old")
    watched = watch(file)
    file.unlink()
    os.mkfifo(file)
    assert not watched.poll()
    assert watched.value == Secret("old")
    assert "no regular file" in (watched.error or "")


def test_a_repaired_file_with_the_old_secret_is_no_change(tmp_path: Path) -> None:
    """The same secret again is no reason to fetch new tokens; the error is gone all the same."""
    file = tmp_path / "secret"
    file.write_text("old")
    watched = watch(file)
    held = watched.value
    file.write_text("")
    assert not watched.poll()
    file.write_text("old\n")
    assert not watched.poll()
    assert watched.value is held
    assert watched.error is None


def test_a_secret_that_never_was_is_unavailable_and_becomes_available(tmp_path: Path) -> None:
    """A file that is mounted late does not need a restart."""
    file = tmp_path / "secret"
    watched = watch(file)
    assert watched.current is None
    with pytest.raises(SecretUnavailableError, match="cannot be read"):
        _ = watched.value
    file.write_text("late")
    assert watched.poll(), "whoever waits for it is told"
    assert watched.value == Secret("late")


def test_a_file_that_changes_while_it_is_read_is_read_again(tmp_path: Path) -> None:
    """Half a secret is none: what was read is used only if the file is the same before and after."""
    file = tmp_path / "secret"
    file.write_text("old")
    writing = False

    def load() -> Secret:
        read = SecretSource(file=file).read()
        if writing:
            file.write_text("the whole secret")
        return read

    watched = Watched("secret", (file,), load)
    writing = True
    file.write_text("the wh")
    assert not watched.poll()
    assert watched.value == Secret("old")
    writing = False
    assert watched.poll()
    assert watched.value == Secret("the whole secret")


@pytest.mark.parametrize("content", [b"secret", b"secret\n", b"secret\r\n", b"\xef\xbb\xbfsecret\n"])
def test_one_line_break_at_the_end_is_not_part_of_the_secret(tmp_path: Path, content: bytes) -> None:
    """Editors and `echo` write it; a byte order mark neither."""
    file = tmp_path / "secret"
    file.write_bytes(content)
    assert watch(file).value == Secret("secret")


async def test_whatever_a_file_does_to_a_library_is_one_line(tmp_path: Path) -> None:
    """An exception that nobody foresaw ends neither this value nor the watching of the others."""
    odd, other = tmp_path / "odd", tmp_path / "other"
    odd.write_text("old")
    other.write_text("old")

    def load() -> str:
        text = odd.read_text()
        if text == "odd":
            raise NotImplementedError(text)
        return text

    watched = Watched("credentials.x.private_key_file", (odd,), load)
    watcher = Watcher([watched, watch(other)])
    odd.write_text("odd")
    other.write_text("newer")
    with capture_logs() as logs:
        assert await watcher.poll() == ["credentials.x.password_file"]
    assert dict(watcher.errors()) == {
        "credentials.x.private_key_file": "The file cannot be used (NotImplementedError)."
    }
    assert [entry["log_level"] for entry in logs] == ["warning"]
    odd.write_text("repaired")
    assert (await watcher.poll(), watched.value) == (["credentials.x.private_key_file"], "repaired")


async def test_a_file_system_that_does_not_answer_holds_up_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told once, the other files are watched on, and what it has changed is told when it answers again."""
    monkeypatch.setattr(file_watching, "PATIENCE", 1.5)
    mounted, other = tmp_path / "mounted", tmp_path / "other"
    for file in (mounted, other):
        file.write_text("old")
    answers = threading.Event()
    answers.set()

    def load() -> str:
        answers.wait()
        return mounted.read_text()

    watched = Watched("credentials.x.token_file", (mounted,), load)
    watcher = Watcher([watched, watch(other)])
    answers.clear()
    for file in (mounted, other):
        file.write_text("newer")
    try:
        with capture_logs() as logs:
            assert await watcher.poll() == ["credentials.x.password_file"]
            assert await watcher.poll() == []
            assert dict(watcher.errors()) == {"credentials.x.token_file": "The file system does not answer."}
            assert watched.value == "old"
            answers.set()
            monkeypatch.setattr(file_watching, "PATIENCE", 30.0)
            assert await watcher.poll() == ["credentials.x.token_file"]
    finally:
        answers.set()
    assert (watched.value, dict(watcher.errors())) == ("newer", {})
    assert [(entry["log_level"], entry["setting"]) for entry in logs] == [
        ("warning", "credentials.x.token_file"),
        ("info", "credentials.x.token_file"),
    ]
