import json
from pathlib import Path

import jsonschema
import yaml

from sidecar.config import load
from tests.cli.support import CONFIG, camunda_sidecar, configuration


def test_a_valid_configuration(tmp_path):
    """What it resolves to is printed as YAML, with every default, and with secrets masked."""
    file = configuration(tmp_path)
    result = camunda_sidecar("check", "--config", file)
    assert result.exit_code == 0
    assert result.stdout.startswith(f"# {file}: valid\n")
    shown = yaml.safe_load(result.stdout)
    assert shown["routes"]["operate"]["upstream"] == "https://bru-2.operate.camunda.io/abc"
    assert shown["credentials"]["cluster"]["client_secret"] == "***"
    assert "s3cr3t" not in result.output
    assert load(configuration(tmp_path, result.stdout), {}).routes == load(file, {}).routes


def test_as_json(tmp_path):
    """The same for scripts, warnings included."""
    file = configuration(tmp_path, CONFIG + "token_requests: {issuers: {'http://k': {min_interval: 0s}}}")
    result = camunda_sidecar("check", "--json", "-c", file)
    shown = json.loads(result.stdout)
    assert shown["source"] == str(file)
    assert shown["settings"]["token_requests"]["issuers"] == {"http://k": {"min_interval": "0s"}}
    assert len(shown["warnings"]) == 1
    assert result.stderr.startswith("warning: ")


def test_every_mistake_at_once(tmp_path):
    """Mistakes go to standard error, one a line, with the exit code of a wrong configuration."""
    file = configuration(tmp_path, "listen: x\ndrain_timeout: y\nroutes: {operate: {credential: z}}")
    result = camunda_sidecar("check", "--config", file)
    assert result.exit_code == 2
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert [line.split(": ")[2] for line in lines] == [
        "drain_timeout",
        "listen",
        "routes.operate.credential",
        "routes.operate.upstream",
    ]
    assert all(line.startswith(f"error: {file}: ") and line.endswith(")") for line in lines)


def test_quiet_prints_nothing_that_is_right(tmp_path):
    """For scripts that want the exit code alone."""
    result = camunda_sidecar("check", "-q", "-c", configuration(tmp_path))
    assert (result.exit_code, result.output) == (0, "")


def test_from_the_environment(tmp_path, monkeypatch):
    """With no file, Camunda's variables are checked."""
    monkeypatch.setattr("sidecar.config.yaml_file.DEFAULT_FILE", tmp_path / "none.yaml")
    environ = {"CAMUNDA_CONSOLE_CLIENT_ID": "id", "CAMUNDA_CONSOLE_CLIENT_SECRET": "s3cr3t"}
    result = camunda_sidecar("check", environ=environ)
    assert result.stdout.startswith("# environment: valid")
    assert "s3cr3t" not in result.output
    result = camunda_sidecar("check", environ={"CAMUNDA_CONSOLE_CLIENT_ID": "id"})
    assert (result.exit_code, "CAMUNDA_CONSOLE_CLIENT_SECRET: is missing" in result.stderr) == (2, True)


def test_the_schema(tmp_path):
    """`--schema` prints the JSON Schema, whatever the configuration."""
    result = camunda_sidecar("check", "--schema", "--config", tmp_path / "none.yaml")
    assert result.exit_code == 0
    jsonschema.Draft202012Validator(json.loads(result.stdout)).validate(yaml.safe_load(CONFIG))


def test_a_store_that_cannot_be_written_is_told(tmp_path):
    """What would be shared by nobody is known before the start; a file in the way stops every user, root too."""
    (tmp_path / "file").write_text("")
    places = (tmp_path / "file", "cannot write to"), (tmp_path / "file" / "store", "cannot make")
    for directory, said in (*places, (Path("/proc/none/store"), "cannot make")):
        text = CONFIG + f"token_store: {{directory: {directory}}}\n"
        result = camunda_sidecar("check", "--json", "--config", configuration(tmp_path, text))
        assert result.exit_code == 0
        (warning,) = json.loads(result.stdout)["warnings"]
        assert f"token_store.directory: is {directory}, which this user {said}" in warning
        assert f"warning: {warning}" in result.stderr
    text = CONFIG + f"token_store: {{directory: {tmp_path / 'new' / 'store'}}}\n"
    assert camunda_sidecar("check", "--config", configuration(tmp_path, text)).stderr == ""
    assert not (tmp_path / "new").exists()


PEM = """
credentials:
  jwt: {type: client_credentials, token_url: "https://h/token", client_id: id,
    client_authentication: private_key_jwt, private_key_file: key.pem}
  static: {type: static_token, token: two words}
routes:
  x: {upstream: "https://h", credential: jwt, tls: {ca_file: key.pem}}
  y: {upstream: "https://h", credential: static}
"""


def test_keys_and_certificates_are_looked_into(tmp_path):
    """What is in a key or certificate file is checked at the start too, all of it at once."""
    (tmp_path / "key.pem").write_text("s3cr3t, and no PEM\n")
    result = camunda_sidecar("check", "--config", configuration(tmp_path, PEM))
    assert result.exit_code == 2
    paths = [line.split(": ")[2] for line in result.stderr.splitlines()]
    assert paths == ["credentials.jwt.private_key_file", "credentials.static.token", "routes.x.tls"]
    assert "s3cr3t" not in result.output
