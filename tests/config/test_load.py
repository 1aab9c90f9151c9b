import textwrap

import pytest

from sidecar.config import load
from sidecar.config.settings import FileStore
from sidecar.errors import ConfigurationError

ENVIRON = {"HOME": "/home/user"}


def test_a_file_becomes_settings(tmp_path):
    """A minimal file is complete once it is loaded: products and defaults fill in the rest."""
    file = tmp_path / "config.yaml"
    file.write_text(
        textwrap.dedent("""
        saas: {region: bru-2, cluster_id: abc}
        credentials: {cluster: {type: client_credentials, client_id: id, client_secret: s3cr3t}}
        routes: {operate: {credential: cluster}}
        """)
    )
    settings = load(file, ENVIRON)
    (route,) = settings.routes.values()
    assert str(route.upstream) == "https://bru-2.operate.camunda.io/abc"
    assert (route.prefix, route.audience) == ("/operate", "operate.camunda.io")
    assert isinstance(settings.token_store, FileStore)


def test_no_configuration_at_all_says_what_to_do(monkeypatch, tmp_path):
    """Without a file and without variables there is one mistake, and it tells the way out."""
    monkeypatch.setattr("sidecar.config.yaml_file.DEFAULT_FILE", tmp_path / "none.yaml")
    with pytest.raises(ConfigurationError, match="camunda-sidecar init"):
        load(None, {})
