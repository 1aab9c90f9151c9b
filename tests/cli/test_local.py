"""`--local`: the sidecar that runs on this machine as this user, whatever it was given."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidecar.cli import local
from sidecar.cli.local import LocalSidecar, NoSuchSidecarError
from sidecar.config.settings import TcpAddress, UnixAddress
from tests.acceptance.support import ending, plain, spawn, write


def found(path: Path) -> list[int]:
    """The pids of the sidecars whose admin listener is the socket at this path."""
    return [each.pid for each in local.local_sidecars() if each.admin == UnixAddress(path)]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_it_is_found_by_its_file_its_option_or_its_variable(tmp_path, workers):
    """Relative to its own working directory, and with its own environment; its workers are no sidecars."""
    admin, other = tmp_path / "admin.sock", tmp_path / "other.sock"
    write(tmp_path / "config.yaml", plain(tmp_path, "http://127.0.0.1:9", admin={"listen": f"unix:{admin}"}))
    more = ("--workers", workers)
    cases = [
        (("--config", "config.yaml", *more), {}, admin),
        (("-c", "config.yaml", f"--admin-listen=unix:{other}", *more), {}, other),
        ((*more, "--config=config.yaml"), {"CAMUNDA_SIDECAR_ADMIN": f"unix:{other}"}, other),
        (more, {"CAMUNDA_SIDECAR_CONFIG": "config.yaml"}, admin),
    ]
    for arguments, environment, path in cases:
        with ending(spawn("run", *arguments, env=environment, cwd=tmp_path)) as sidecar:
            sidecar.started()
            assert found(path) == [sidecar.process.pid]
            assert sidecar.end() == 0
        assert found(path) == []


def test_it_is_only_taken_where_it_is_the_only_one(monkeypatch):
    """None, or several: that is said, with what tells them apart."""
    here: list[LocalSidecar] = []
    monkeypatch.setattr(local, "local_sidecars", lambda: iter(here))
    with pytest.raises(NoSuchSidecarError, match="camunda-sidecar run"):
        local.only_sidecar()
    here.append(LocalSidecar(7, TcpAddress("127.0.0.1", 1)))
    assert local.only_sidecar().pid == 7
    here.append(LocalSidecar(8, TcpAddress("127.0.0.1", 2)))
    with pytest.raises(NoSuchSidecarError, match=r"pid 7 with admin\.listen 127\.0\.0\.1:1, pid 8 .* --admin"):
        local.only_sidecar()
