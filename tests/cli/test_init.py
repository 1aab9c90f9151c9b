import stat

import pytest

from sidecar.config import load
from tests.cli.support import camunda_sidecar
from tests.config.test_scaffold import ORGANIZATION, SECRET, SHELL

ENVIRON = {"CAMUNDA_CONSOLE_CLIENT_ID": "id", "CAMUNDA_CONSOLE_CLIENT_SECRET": "s3cr3t"}


@pytest.fixture(name="output")
def _output(tmp_path):
    return tmp_path / "made" / "config.yaml"


@pytest.fixture(name="credentials")
def _credentials(tmp_path):
    file = tmp_path / "credentials.txt"
    file.write_text(SHELL)
    return file


def test_from_the_consoles_file(output, credentials):
    """The configuration loads, and the secret is in a file of its own that only its owner can read."""
    result = camunda_sidecar("init", credentials, "--config", output)
    assert result.exit_code == 0
    secret = output.parent / "cluster-client-secret"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert SECRET not in output.read_text() + result.output
    assert load(output, {}).credentials["cluster"].client_secret.read().reveal() == SECRET
    assert sorted(path.name for path in output.parent.iterdir()) == ["cluster-client-secret", "config.yaml"]
    assert camunda_sidecar("check", "--config", output).exit_code == 0


def test_from_standard_input(output):
    """`-` is standard input, so that a file from another machine need not be saved here."""
    result = camunda_sidecar("init", "-", "--config", output, stdin=ORGANIZATION.encode())
    assert result.exit_code == 0
    assert [route.name for route in load(output, {}).all_routes] == ["console", "hub", "modeler"]


def test_from_the_environment(output):
    """The values stay in the environment, where they were."""
    result = camunda_sidecar("init", "--config", output, environ=ENVIRON)
    assert result.exit_code == 0
    assert "s3cr3t" not in output.read_text()
    assert len(load(output, ENVIRON).routes) == 3
    assert list(output.parent.iterdir()) == [output]


def test_where_it_is_written(tmp_path, monkeypatch):
    """--config, then CAMUNDA_SIDECAR_CONFIG, then the working directory."""
    monkeypatch.chdir(tmp_path)
    assert camunda_sidecar("init", environ=ENVIRON).exit_code == 0
    assert (tmp_path / "camunda-sidecar.yaml").exists()
    named = tmp_path / "named.yaml"
    assert camunda_sidecar("init", environ={**ENVIRON, "CAMUNDA_SIDECAR_CONFIG": str(named)}).exit_code == 0
    assert named.exists()


@pytest.mark.parametrize("taken", ["config.yaml", "cluster-client-secret"])
def test_nothing_is_overwritten_unasked(output, credentials, taken):
    """Not the configuration, and not a secret beside it; --force does."""
    output.parent.mkdir()
    (output.parent / taken).write_text("mine")
    result = camunda_sidecar("init", credentials, "--config", output)
    assert result.exit_code == 2
    assert "--force" in result.stderr
    assert [path.read_text() for path in output.parent.iterdir()] == ["mine"]
    assert camunda_sidecar("init", credentials, "--force", "--config", output).exit_code == 0
    assert len(load(output, {}).routes) == 4


def test_force_does_not_write_through_a_link(output, credentials, tmp_path):
    """A secret goes into a new file of its own, wherever a link of that name points."""
    output.parent.mkdir()
    (tmp_path / "elsewhere").write_text("untouched")
    (output.parent / "cluster-client-secret").symlink_to(tmp_path / "elsewhere")
    assert camunda_sidecar("init", credentials, "--force", "--config", output).exit_code == 0
    assert (tmp_path / "elsewhere").read_text() == "untouched"
    assert stat.S_IMODE((output.parent / "cluster-client-secret").lstat().st_mode) == 0o600


BAD = [
    (b"nothing of the kind", "is no credentials file"),
    (b"\xff\xfe\x00", "is not text"),
    (SHELL.replace("ZEEBE_CLIENT_SECRET", "X").encode(), "ZEEBE_CLIENT_SECRET"),
    (SHELL.replace("'syd-1'", "'Syd 1'").encode(), "CAMUNDA_CLUSTER_REGION"),
]


@pytest.mark.parametrize(("content", "says"), BAD)
def test_a_file_that_makes_no_configuration(output, credentials, content, says):
    """It is said what is wrong, and nothing is written."""
    credentials.write_bytes(content)
    result = camunda_sidecar("init", credentials, "--config", output)
    assert result.exit_code == 2
    assert says in result.stderr
    assert SECRET not in result.output
    assert not output.exists()
    assert not list(output.parent.glob("*"))


def test_an_environment_without_a_client(output):
    """With nothing to write from, the variables are named."""
    result = camunda_sidecar("init", "--config", output)
    assert result.exit_code == 2
    assert "ZEEBE_CLIENT_ID" in result.stderr


def test_a_place_that_cannot_be_written(tmp_path, credentials):
    """A clear message, no traceback."""
    (tmp_path / "file").write_text("")
    result = camunda_sidecar("init", credentials, "--config", tmp_path / "file" / "config.yaml")
    assert result.exit_code == 1
    assert "cannot be written" in result.stderr
