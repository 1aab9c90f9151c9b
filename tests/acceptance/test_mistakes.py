"""A wrong configuration or command line: every mistake at once, with its cure; exit code 2."""

from __future__ import annotations

import json
import re

import jsonschema
import pytest
import yaml

from tests.acceptance.support import SECRET, command, write

FIVE = f"""\
listen: 127.0.0.1:99999
drain_timeout: soon
colour: green
credentials:
  cluster: {{type: client_credentials, client_id: x, client_secret: {SECRET}}}
  other: {{type: client_credentials, client_id: x, client_secret_file: /no/such/file}}
routes:
  operate: {{credential: clutser, upstream: "http://127.0.0.1:1"}}
  reports: {{credential: cluster, uptream: "http://127.0.0.1:1"}}
"""
PLACES = [
    "colour",
    "credentials.other.client_secret_file",
    "drain_timeout",
    "listen",
    "routes.operate.credential",
    "routes.reports.upstream",
    "routes.reports.uptream",
]


@pytest.mark.parametrize("name", ["check", "run"])
def test_all_mistakes_in_one_go(tmp_path, name):
    """Each is one line with the file, the key's path and the cure; none quotes a secret."""
    file = write(tmp_path / "config.yaml", FIVE)
    result = command(name, "--config", file)
    assert (result.returncode, result.stdout) == (2, "")
    lines = result.stderr.splitlines()
    matched = [re.fullmatch(rf"error: {re.escape(str(file))}: ([\w.]+): (.+) \((.+)\)", line) for line in lines]
    assert all(matched), result.stderr
    assert [match[1] for match in matched] == PLACES
    assert SECRET not in result.stderr


NONE = "credentials: {c: {type: none}}\n"
ONE = "routes: {a: {upstream: 'http://127.0.0.1:9', credential: c}}\n"


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (NONE + ONE + "listen: '127.0.0.1:9'", "routes.a.upstream"),
        (NONE + ONE.replace("}}", "}, b: {upstream: 'http://u', credential: c, prefix: /a}}"), "routes.b.prefix"),
        (NONE + ONE + "listen: '0.0.0.0:8600'", "allow_remote"),
        (NONE + ONE + "drain_timeout: ${NOT_SET_AT_ALL}", "NOT_SET_AT_ALL"),
        ("routes: {operate: {credential: c}}\n" + NONE.replace("none", "client_credentials, client_id: x"), "saas"),
        (ONE + NONE.replace("none", 'static_token, token: "two words"'), "credentials.c.token"),
        ("routes: [unclosed", "line 1"),
        ("- a\n- list", "mapping"),
        ("", "routes"),
    ],
)
def test_each_mistake_names_its_place(tmp_path, text, where):
    """What cannot work is refused before it is tried."""
    result = command("check", "--config", write(tmp_path / "config.yaml", text))
    assert result.returncode == 2, result.stdout
    assert where in result.stderr
    assert str(tmp_path / "config.yaml") in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-command"],
        ["run", "--no-such-option"],
        ["run", "stray"],
        ["explain", "GET"],
        ["wait", "--timeout", "soon"],
        ["run", "--config", "/no/such/file.yaml"],
        ["check", "--config", "/"],
    ],
)
def test_wrong_usage_is_exit_code_2(arguments):
    """Usage and configuration alike; the message is on standard error."""
    result = command(*arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr


def test_variables_are_expanded_in_values_alone(tmp_path):
    """`${NAME}` and `${NAME:-default}` in the parsed strings: what a variable holds never becomes YAML."""
    text = """\
credentials: {c: {type: client_credentials, client_id: "${CLIENT}", client_secret: "${PASSWORD:-unset}"}}
routes: {a: {upstream: "${UPSTREAM:-http://127.0.0.1:9/base}", credential: c}}
"""
    file = write(tmp_path / "config.yaml", text)
    environment = {"CLIENT": "x}, listen: 0.0.0.0:1 # ${PASSWORD}"}
    result = command("check", "--json", "--config", file, env=environment)
    assert result.returncode == 0, result.stderr
    settings = json.loads(result.stdout)["settings"]
    assert settings["credentials"]["c"]["client_id"] == environment["CLIENT"]
    assert settings["routes"]["a"]["upstream"] == "http://127.0.0.1:9/base"
    assert settings["listen"] == "127.0.0.1:8600"


def test_check_masks_every_secret_and_shows_every_default(tmp_path):
    """What it prints is a whole configuration again, in YAML, that can be shown to anybody."""
    text = f"""\
credentials:
  a: {{type: client_credentials, client_id: x, client_secret: {SECRET}}}
  b: {{type: static_token, token: {SECRET}}}
  c: {{type: basic, username: u, password: {SECRET}}}
  d: {{type: session, login_url: "http://127.0.0.1:9/login", username: u, password: {SECRET}}}
routes:
  operate: {{credential: a, upstream: "http://127.0.0.1:9"}}
  b: {{credential: b, upstream: "http://127.0.0.1:9"}}
  c: {{credential: c, upstream: "http://127.0.0.1:9"}}
  d: {{credential: d, upstream: "http://127.0.0.1:9"}}
"""
    result = command("check", "--config", write(tmp_path / "config.yaml", text))
    assert result.returncode == 0, result.stderr
    assert SECRET not in result.stdout + result.stderr
    shown = yaml.safe_load(result.stdout)
    assert shown["listen"] == "127.0.0.1:8600"
    assert shown["admin"]["listen"] == "127.0.0.1:8601"
    assert shown["credentials"]["a"]["token_url"] == "https://login.cloud.camunda.io/oauth/token"
    assert shown["routes"]["operate"]["audience"] == "operate.camunda.io"
    assert shown["token_requests"]["min_interval"] == "1.25s"
    assert shown["token_store"]["type"] == "file"
    again = command("check", "--config", write(tmp_path / "again.yaml", result.stdout))
    assert again.returncode == 0, again.stderr


def test_the_schema_is_a_json_schema_that_the_example_meets(tmp_path):
    """`check --schema` is what editors use; the project's own example is valid by it."""
    schema = json.loads(command("check", "--schema").stdout)
    validator = jsonschema.validators.validator_for(schema)
    validator.check_schema(schema)
    validator(schema).validate(yaml.safe_load("routes: {operate: {credential: c}}\ncredentials: {c: {type: none}}"))
    with pytest.raises(jsonschema.ValidationError):
        validator(schema).validate({"routes": {"operate": {"credential": "c", "uptream": "x"}}})
