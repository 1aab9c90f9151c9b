"""Each peer is really configured for this job: prefix replaced, Authorization set, keep-alive, TLS verified."""

import json
from pathlib import Path

import pytest
import yaml

from bench import origin
from bench.options import PEERS, SECTIONS, parse
from bench.peers.all import KINDS
from bench.site import BASE_PATH, Route, Site

_SITE = Site(
    directory=Path("/nowhere"),
    ca_file=Path("/nowhere/ca.pem"),
    certificate_file=Path("/nowhere/origin.pem"),
    key_file=Path("/nowhere/origin.key"),
    token="the-token",
    client_id="the-client",
    client_secret="the-secret",
    issuer_port=4000,
    routes=(Route("plain", 5001, tls=False), Route("tls", 5002, tls=True)),
)
_PROXIES = [kind for kind in KINDS if kind.name not in ("direct", "relay")]


def test_the_field_is_complete():
    """What `--peers` offers is what there is."""
    assert tuple(kind.name for kind in KINDS) == PEERS


@pytest.mark.parametrize("kind", _PROXIES, ids=lambda kind: kind.name)
def test_a_proxy_is_told_everything(kind, tmp_path):
    """Both upstreams, the path that replaces the prefix, the CA, and the token or the way to one."""
    kind().command(_SITE, tmp_path, 6000, 1)
    text = "\n".join(path.read_text() for path in tmp_path.iterdir() if path.is_file())
    for part in ("6000", "5001", "5002", BASE_PATH, "/nowhere/ca.pem", "/plain", "/tls"):
        assert part in text
    assert ("the-token" in text) != ("the-secret" in text)


def test_envoy_fetches_its_own_token(tmp_path):
    """Envoy does what the sidecar does: client credentials, kept and renewed."""
    kind = next(kind for kind in KINDS if kind.name == "envoy")
    kind().command(_SITE, tmp_path, 6000, 1)
    filters = json.loads((tmp_path / "envoy.json").read_text())["static_resources"]["listeners"][0]["filter_chains"][0]
    names = [one["name"] for one in filters["filters"][0]["typed_config"]["http_filters"]]
    assert names == ["envoy.filters.http.credential_injector", "envoy.filters.http.router"]


@pytest.mark.parametrize("name", ["sidecar", "compiled"])
def test_the_sidecar_runs_with_what_it_ships(name, tmp_path):
    """No limit, log or guard is switched off for the benchmark."""
    kind = next(kind for kind in KINDS if kind.name == name)
    kind().command(_SITE, tmp_path, 6000, 1)
    written = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert set(written) == {"listen", "admin", "credentials", "routes", "token_store"}
    assert all(
        set(route) <= {"prefix", "upstream", "credential", "audience", "tls"} for route in written["routes"].values()
    )


def test_what_does_not_read_http_is_sent_the_token_by_the_client():
    """The relay and the bare origin are asked for the origin's own path, with the token."""
    for kind in KINDS:
        target = kind().target(_SITE, 6000, _SITE.route("tls"))
        blind = kind.name in ("direct", "relay")
        assert (target.base == BASE_PATH) is blind
        assert ("Authorization" in target.headers) is blind


def test_the_origins_count_is_read():
    """The page is nginx's stub_status; anything else is an error and no zero."""
    page = "Active connections: 3 \nserver accepts handled requests\n 16 16 4711 \nReading: 0 Writing: 1 Waiting: 2 \n"
    assert origin.parse_count(page) == 4711
    with pytest.raises(ValueError, match="stub_status"):
        origin.parse_count("<html>")


def test_quick_is_quick_and_never_published():
    """A quick run is for working on one thing; only a whole one may change the documents."""
    quick, whole = parse(["--quick"]), parse([])
    assert quick.complete is False
    assert whole.complete is True
    assert quick.rounds * quick.seconds < whole.rounds * whole.seconds
    assert parse(["--only", "tls,throughput"]).sections == ("throughput", "tls")
    assert parse(["--peers", "envoy"]).complete is False
    assert set(whole.sections) == set(SECTIONS)


def test_an_unknown_name_is_a_usage_error(capsys):
    """Exit code 2, and the names that there are."""
    with pytest.raises(SystemExit) as caught:
        parse(["--only", "speed"])
    assert caught.value.code == 2
    assert "choose from throughput" in capsys.readouterr().err
