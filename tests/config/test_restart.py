"""What a reload leaves as it was."""

import pytest
from msgspec.structs import fields, replace

from sidecar.config.restart import NEEDS_RESTART, reloaded
from sidecar.config.settings import Admin, Authorize, MemoryStore, Settings, TcpAddress
from tests.config.support import MINIMAL, loaded


@pytest.mark.parametrize(
    ("key", "changes"),
    [
        ("listen", {"listen": TcpAddress("127.0.0.1", 1)}),
        ("admin.listen", {"admin": Admin(TcpAddress("127.0.0.1", 1))}),
        ("authorize.listen", {"authorize": Authorize(TcpAddress("127.0.0.1", 1))}),
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


GRPC = MINIMAL + "grpc: {credential: cluster, upstream: 'https://zeebe'}\n"


@pytest.mark.parametrize(("field", "value"), [("listen", TcpAddress("127.0.0.1", 1)), ("max_message", 1)])
def test_grpcs_listener_stays_and_the_rest_is_in_force(tmp_path, field, value):
    """What grpcio was started with has to wait; where the calls go does not."""
    running = loaded(tmp_path, GRPC)
    changed = replace(running.grpc, audience="other", **{field: value})
    in_force, waiting = reloaded(running, replace(running, grpc=changed))
    assert in_force.grpc == replace(running.grpc, audience="other")
    assert waiting == [f"grpc.{field}"]


def test_a_section_grpc_that_comes_or_goes(tmp_path):
    """A listener can be closed by a reload, and not opened."""
    without, running = loaded(tmp_path, MINIMAL), loaded(tmp_path, GRPC)
    assert reloaded(without, running) == (without, ["grpc"])
    assert reloaded(running, without) == (without, [])
