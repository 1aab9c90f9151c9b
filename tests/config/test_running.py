from pathlib import Path

import pytest

from sidecar.config import admin_address
from sidecar.config.settings import TcpAddress, UnixAddress
from sidecar.errors import ConfigurationError
from tests.config.support import written

DEFAULT = TcpAddress("127.0.0.1", 8601)
OTHER = "admin: {listen: 127.0.0.1:9601}\n"
TABLE = [
    ("", DEFAULT),
    (OTHER, TcpAddress("127.0.0.1", 9601)),
    (
        OTHER + "credentials: {c: {type: static_token, token_file: /none}}\nroutes: {a: {b: c}}\nzzz: 1",
        TcpAddress("127.0.0.1", 9601),
    ),
    (OTHER + "routes: '${UNSET}'", TcpAddress("127.0.0.1", 9601)),
]


@pytest.mark.parametrize(("text", "expected"), TABLE)
def test_a_running_sidecar_is_found_without_its_secrets(tmp_path, text, expected):
    """Another user, or a probe, can ask a sidecar without its secret files and variables."""
    assert admin_address(written(tmp_path, text), {}) == expected


def test_a_broken_configuration_or_none_is_not_needed(tmp_path):
    """Where CAMUNDA_SIDECAR_ADMIN says where to ask, no file is looked at."""
    environ = {"CAMUNDA_SIDECAR_ADMIN": "unix:/run/x.sock", "CAMUNDA_SIDECAR_CONFIG": "/no/such/file"}
    assert admin_address(None, environ) == UnixAddress(Path("/run/x.sock"))
    assert admin_address(written(tmp_path, "a: ["), environ) == UnixAddress(Path("/run/x.sock"))


def test_without_a_file_it_is_where_it_is_by_default(tmp_path, monkeypatch):
    """A sidecar that runs by environment variables is found from a shell that has none of them."""
    monkeypatch.setattr("sidecar.config.yaml_file.DEFAULT_FILE", tmp_path / "none.yaml")
    assert admin_address(None, {}) == DEFAULT


@pytest.mark.parametrize("text", ["admin: {listen: x}", "just text", "a: [", "admin: {listne: x}"])
def test_what_is_asked_for_has_to_be_right(tmp_path, text):
    """A wrong address is a mistake here too."""
    with pytest.raises(ConfigurationError):
        admin_address(written(tmp_path, text), {})
