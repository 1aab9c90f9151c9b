import pytest

from sidecar.config import Running, running
from sidecar.config.settings import TcpAddress
from sidecar.errors import ConfigurationError
from tests.config.support import written

DEFAULT = Running(TcpAddress("127.0.0.1", 8601), 25.0)
OTHER = "admin: {listen: 127.0.0.1:9601}\ndrain_delay: 5s\ndrain_timeout: 3s\n"
TABLE = [
    ("", DEFAULT),
    (OTHER, Running(TcpAddress("127.0.0.1", 9601), 8.0)),
    (OTHER + "credentials: {c: {type: static_token, token_file: /none}}\nroutes: {a: {b: c}}\nzzz: 1", None),
    (OTHER + "routes: '${UNSET}'", None),
]


@pytest.mark.parametrize(("text", "expected"), TABLE)
def test_a_running_sidecar_is_found_without_its_secrets(tmp_path, text, expected):
    """Another user, or a probe, can ask a sidecar without its secret files and variables."""
    assert running(written(tmp_path, text), {}) == (expected or TABLE[1][1])


def test_without_a_file_it_is_where_it_is_by_default(tmp_path, monkeypatch):
    """A sidecar that runs by environment variables is found from a shell that has none of them."""
    monkeypatch.setattr("sidecar.config.source.DEFAULT_FILE", tmp_path / "none.yaml")
    assert running(None, {}) == DEFAULT


@pytest.mark.parametrize("text", ["admin: {listen: x}", "drain_timeout: x", "just text", "a: [", "admin: {listne: x}"])
def test_what_is_asked_for_has_to_be_right(tmp_path, text):
    """A wrong address is a mistake here too."""
    with pytest.raises(ConfigurationError):
        running(written(tmp_path, text), {})
