import contextlib
import json

import jsonschema
import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sidecar.config import json_schema, load
from sidecar.config.credentials_file import decode, read_credentials
from sidecar.config.describe import describe
from sidecar.config.report import Report
from sidecar.config.scaffold import scaffold
from sidecar.errors import ConfigurationError
from tests.config.support import ENVIRON, EXAMPLE, uncommented, with_secret_files, written
from tests.config.test_example import CLIENTS

WHOLE = yaml.safe_load(uncommented(EXAMPLE.read_text()))
VALIDATOR = jsonschema.Draft202012Validator(json_schema())


def places(value, path=()):
    """The path of every value, containers included."""
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        yield (*path, key)
        if isinstance(item, dict | list):
            yield from places(item, (*path, key))


def changed(value, path, new):
    key, *rest = path
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[key] = changed(value[key], rest, new) if rest else new
    return copy


text = st.sampled_from(
    [
        *("", "x", "5s", "64KiB", "/", "/a/**", "https://h/a", "127.0.0.1:1", "${X}", "${X:-y}", "~", "~/x", "a b"),
        *("GET /x", "file", "none", "ü", "\0", "a:b", "operate", "cluster", "http://localhost:8600", "unix:/x"),
    ]
)
scalars = st.sampled_from([None, True, False, 0, 1, -1, 0.5, 1e9]) | text
keys = st.text("ab_:/ ", max_size=3)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=5,
)
changes = st.lists(st.tuples(st.sampled_from(list(places(WHOLE))), values), min_size=1, max_size=3)


@pytest.fixture(name="directory", scope="module")
def _directory(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@example(changes=[(("saas", "region"), -1)])
@given(changes=changes)
def test_any_change_loads_or_is_a_mistake(directory, changes):
    """Whatever stands anywhere, the answer is settings or mistakes; the schema refuses no text that is taken."""
    document = WHOLE
    for path, new in changes:
        with contextlib.suppress(KeyError, IndexError, TypeError, AttributeError, ValueError):
            document = changed(document, path, new)
    file = written(directory, with_secret_files(json.dumps(document), directory / "secrets"))
    try:
        loaded = load(file, ENVIRON | CLIENTS)
    except ConfigurationError:
        return
    describe(loaded)
    if all(isinstance(new, str) for _, new in changes):
        assert [error.json_path for error in VALIDATOR.iter_errors(document)] == []


@settings(max_examples=200, deadline=None)
@given(content=st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_file_loads_or_is_a_mistake(directory, content):
    """Any bytes at all end in mistakes, never in a traceback."""
    file = directory / "any.yaml"
    file.write_bytes(content)
    with pytest.raises(ConfigurationError):
        load(file, {})


@settings(max_examples=200, deadline=None)
@given(content=st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_file_is_a_credentials_file_or_a_mistake(content):
    """`init` copes with whatever file it is given."""
    report = Report("file")
    assert bool(read_credentials(decode(content, report), report)) is not bool(report.mistakes)


@settings(max_examples=200, deadline=None)
@given(
    client=st.text(min_size=1).filter(lambda value: value.isprintable() and value == value.strip()),
    audience=st.text(min_size=1).filter(lambda value: value.isprintable() and value == value.strip()),
)
def test_what_init_writes_means_what_was_there(directory, client, audience):
    """No value changes its meaning by being written as YAML: quotes, colons, references, numbers, words like `null`."""
    variables = {
        "ZEEBE_CLIENT_ID": client,
        "ZEEBE_CLIENT_SECRET": "s",
        "ZEEBE_REST_ADDRESS": "http://localhost:8080",
        "ZEEBE_TOKEN_AUDIENCE": audience,
        "CAMUNDA_OAUTH_URL": "http://localhost:18080/token",
    }
    made = scaffold(variables, Report("file"), references=False)
    written(directory, "s", "cluster-client-secret")
    file = directory / "made.yaml"
    file.write_text(made.text, encoding="utf-8")
    loaded = load(file, {})
    assert (loaded.credentials["cluster"].client_id, loaded.all_routes[0].audience) == (client, audience)
