import json

import yaml

from sidecar.config import load
from sidecar.config.describe import describe
from tests.config.support import ENVIRON, EXAMPLE, loaded, mistakes, uncommented, with_secret_files, written
from tests.config.test_example import CLIENTS

SECRETS = """
credentials:
  a: {type: client_credentials, token_url: "https://i/t", client_id: id, client_secret: hunter2-a,
      extra: {pin: hunter2-b}}
  b: {type: client_credentials, token_url: "https://i/t", client_id: id, client_authentication: private_key_jwt,
      private_key: hunter2-c, private_key_password: hunter2-d}
  c: {type: static_token, token: hunter2-e}
  d: {type: session, login_url: "https://h/login", username: u, password: hunter2-f}
  e: {type: basic, username: u, password: hunter2-g}
routes:
  a: {upstream: "https://h", credential: a, tls: {client_key_password: hunter2-h}}
  b: {upstream: "https://h", credential: b}
  c: {upstream: "https://h", credential: c}
  d: {upstream: "https://h", credential: d}
  e: {upstream: "https://h", credential: e}
token_store: {type: redis, url: "redis://:hunter2-i@redis"}
guard: {require_header: "X-Sidecar: hunter2-j"}
"""


def test_no_secret_is_shown(tmp_path):
    """Every secret of every type is masked, those of the environment's proxy included."""
    settings = loaded(tmp_path, SECRETS, HTTPS_PROXY="http://user:hunter2-k@proxy:3128")
    shown = json.dumps(describe(settings))
    assert "hunter2" not in shown
    assert "hunter2" not in repr(settings)
    assert describe(settings)["credentials"]["c"] == {"type": "static_token", "token": "***"}
    assert describe(settings)["routes"]["a"]["proxy"] == "http://***@proxy:3128"


def test_what_is_shown_is_valid_again(tmp_path):
    """What a configuration resolves to is a configuration, and resolves to the same."""
    text = with_secret_files(uncommented(EXAMPLE.read_text()), tmp_path / "secrets")
    first = load(written(tmp_path, text), ENVIRON | CLIENTS)
    shown = describe(first)
    again = loaded(tmp_path, yaml.safe_dump(shown, sort_keys=False))
    assert describe(again) == shown
    assert [route.upstream for route in again.routes.values()] == [route.upstream for route in first.routes.values()]
    assert mistakes(tmp_path, yaml.safe_dump(shown, sort_keys=False)) == {}
