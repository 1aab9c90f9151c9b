"""What a reload leaves as it was."""

from dataclasses import fields, replace

import pytest

from sidecar.config.restart import NEEDS_RESTART, reloaded
from sidecar.config.settings import MemoryStore, Settings, TcpAddress
from tests.config.support import MINIMAL, loaded


@pytest.mark.parametrize(
    ("key", "changes"),
    [
        ("listen", {"listen": TcpAddress("127.0.0.1", 1)}),
        ("admin.listen", {"admin_listen": TcpAddress("127.0.0.1", 1)}),
        ("token_store", {"token_store": MemoryStore()}),
    ],
)
def test_what_needs_a_restart_stays_and_is_told(tmp_path, key, changes):
    """The rest is in force; what was changed and changed back is nothing to be told of."""
    running = loaded(tmp_path, MINIMAL)
    written = replace(running, drain_timeout=1.0, **changes)
    in_force, waiting = reloaded(running, written)
    assert (in_force, waiting) == (replace(running, drain_timeout=1.0), [key])
    assert reloaded(in_force, running) == (running, [])


def test_every_key_is_a_setting():
    """The table names fields that there are."""
    assert set(NEEDS_RESTART.values()) <= {field.name for field in fields(Settings)}
