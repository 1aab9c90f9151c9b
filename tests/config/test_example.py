import re

import jsonschema
import pytest
import yaml

from sidecar.config import json_schema, load
from tests.config.support import ENVIRON, EXAMPLE, all_keys, uncommented, with_secret_files, written

CLIENTS = {
    "ZEEBE_CLIENT_ID": "cluster-client",
    "ZEEBE_CLIENT_SECRET": "s3cr3t",
    "CAMUNDA_CONSOLE_CLIENT_ID": "organization-client",
    "CAMUNDA_CONSOLE_CLIENT_SECRET": "s3cr3t",
}


def test_the_example_loads():
    """The example is valid with nothing but Camunda's own variables set, and without a warning."""
    settings = load(EXAMPLE, ENVIRON | CLIENTS)
    assert [route.name for route in settings.routes.values()] == [
        *("operate", "optimize", "tasklist", "zeebe", "console", "hub", "modeler")
    ]
    assert settings.warnings == ()


def test_every_possibility_of_the_example_loads(tmp_path):
    """What stands in the example behind a # is valid too, all of it at once."""
    text = with_secret_files(uncommented(EXAMPLE.read_text()), tmp_path / "secrets")
    settings = load(written(tmp_path, text), ENVIRON | CLIENTS)
    used = {route.credential for route in settings.routes.values()}
    assert used == set(settings.credentials)
    assert len(used) == 10 - 1


@pytest.mark.parametrize("key", sorted(set(all_keys())))
def test_every_key_stands_in_the_example(key):
    """Whoever reads the example has seen every key there is."""
    assert re.search(rf"\b{key}:", EXAMPLE.read_text())


@pytest.mark.parametrize("change", [str, uncommented])
def test_the_schema_accepts_the_example(change):
    """The generated JSON Schema says the same of the example as the program."""
    jsonschema.Draft202012Validator(json_schema()).validate(yaml.safe_load(change(EXAMPLE.read_text())))
