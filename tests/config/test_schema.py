import jsonschema
import pytest
import yaml

from sidecar.config import json_schema
from tests.config.support import MINIMAL, ROOT, all_keys, mistakes
from tests.reference import replace_tables

VALIDATOR = jsonschema.Draft202012Validator(json_schema())
DOCUMENT = ROOT / "docs" / "configuration.md"


def test_the_schema_is_one():
    """It is valid itself."""
    jsonschema.Draft202012Validator.check_schema(json_schema())


REFUSED = [
    *("zzz: 1", "guard: {zzz: 1}", "guard: {allow_remote: 5}", "drain_timeout: 5 parsecs", "drain_timeout: 25"),
    *("limits: {header_bytes: 64k}", "limits: {connections: 0}", "refresh: {after: 1.5}", "logging: {level: loud}"),
    *("token_store: {type: disk}", "token_store: {type: memory, directory: /x}", "saas: {region: bru-2}"),
    *("listen: here", "token_requests: {issuers: {'http://k': {}}}", "guard: {hosts: one}"),
]


@pytest.mark.parametrize("text", REFUSED)
def test_the_schema_refuses_what_the_program_refuses(tmp_path, text):
    """Unknown keys, wrong units, values that are none: an editor underlines them."""
    assert list(VALIDATOR.iter_errors(yaml.safe_load(MINIMAL + text)))
    assert mistakes(tmp_path, MINIMAL + text)


ACCEPTED = [
    *("", "guard:", "drain_timeout: ${X}", "limits: {connections: '${UNSET:-5}'}", "token_store: {directory: /x}"),
    *("drain_timeout: 0", "limits: {header_bytes: 1024}", "logging: {level: '${UNSET:-info}'}", "saas: null"),
]


@pytest.mark.parametrize("text", ACCEPTED)
def test_the_schema_accepts_what_the_program_accepts(tmp_path, text):
    """References to the environment may stand anywhere, null where there is a default."""
    assert list(VALIDATOR.iter_errors(yaml.safe_load(MINIMAL + text))) == []
    assert mistakes(tmp_path, MINIMAL + text, X="5s") == {}


def test_the_reference_is_current():
    """The tables of docs/configuration.md are the model's; see tests/reference.py for how to renew them."""
    text = DOCUMENT.read_text(encoding="utf-8")
    assert replace_tables(text) == text


@pytest.mark.parametrize("key", sorted(set(all_keys())))
def test_every_key_stands_in_the_reference(key):
    """No setting is undocumented."""
    assert f"| `{key}` |" in DOCUMENT.read_text(encoding="utf-8")
