"""What a secret may be, and what its file may be: the same rule for every kind of credential."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from sidecar.errors import SecretUnavailableError
from sidecar.secret import MAX_SECRET_BYTES, Secret, SecretSource, read_file


@pytest.mark.parametrize("value", ["two\nlines", "two\rlines", "\ttab", "esc\x1b[0m", "nul\0", "sep\u2028", "\udce9"])
def test_a_secret_is_one_line_without_control_characters(tmp_path: Path, value: str) -> None:
    """By value and from a file, for every type: none of these was ever meant, and none is quoted."""
    sources = [SecretSource(value=Secret(value))]
    if "\udce9" not in value:
        sources.append(SecretSource(file=tmp_path / "secret"))
        (tmp_path / "secret").write_bytes(value.encode())
    for source in sources:
        with pytest.raises(SecretUnavailableError) as caught:
            source.read()
        assert value not in caught.value.detail


@pytest.mark.parametrize("value", [" spaces ", "pä$$wörd\u00a0", "%0a", "🔑", "a" * MAX_SECRET_BYTES])
def test_anything_else_is_a_secret(tmp_path: Path, value: str) -> None:
    """Spaces at an end included: whoever has such a password has it."""
    (tmp_path / "secret").write_bytes(value.encode() + b"\n" * (len(value) < 100))
    for source in (SecretSource(value=Secret(value)), SecretSource(file=tmp_path / "secret")):
        assert source.read() == Secret(value)


def fifo(path: Path) -> Path:
    os.mkfifo(path)
    return path


@pytest.mark.parametrize(
    "make", [fifo, lambda path: path.parent, lambda _: Path("/dev/zero"), lambda _: Path("/dev/tty"), lambda path: path]
)
def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path, make) -> None:
    """A pipe, a directory, an endless device, a terminal, nothing: none is waited for, none is read."""
    with pytest.raises(SecretUnavailableError, match=r"no regular file|cannot be read"):
        SecretSource(file=make(tmp_path / "secret")).read()


def test_a_file_of_the_kernels_is_read_within_the_bound() -> None:
    """Such files have no size, and some have no end."""
    assert Path("/proc/self/comm").read_bytes() == read_file(Path("/proc/self/comm"), 100)
    with pytest.raises(SecretUnavailableError, match="over 5 bytes"):
        read_file(Path("/proc/self/maps"), 5)


def test_secrets_are_compared_whatever_is_in_them() -> None:
    """An environment variable may hold bytes that are not UTF-8."""
    assert Secret("\udce9") != Secret("é")
    assert Secret("\udce9") == Secret("\udce9")


def test_descriptors_are_given_back(tmp_path: Path) -> None:
    """The files are looked at every two seconds, for months."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    for path in (fifo(tmp_path / "fifo"), tmp_path, tmp_path / "none", Path("/proc/self/comm")):
        for _ in range(3):
            with contextlib.suppress(SecretUnavailableError):
                read_file(path, 100)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
