"""The token store when it cannot be used: serving goes on, it is seen, and it recovers."""

from __future__ import annotations

import os
import shutil

import pytest

from tests.acceptance.peers import grants, peer, says
from tests.acceptance.support import configuration, running, until

needs_permissions = pytest.mark.skipif(os.geteuid() == 0, reason="root writes wherever it likes")


def configured(tmp_path, issuer, upstream, store):
    routes = {name: {"upstream": upstream.url} for name in ("operate", "optimize")}
    return configuration(
        tmp_path,
        issuer.url + "/t",
        routes,
        token_store={"type": "file", "directory": str(store)},
        token_requests={"min_interval": "0s"},
    )


def test_a_directory_that_cannot_be_made_is_no_reason_not_to_serve(tmp_path):
    """A file stands in its place: ready, serving from memory, `store_up` 0, a log line; it recovers by itself."""
    place = tmp_path / "place"
    place.write_text("in the way")
    with peer(grants()) as issuer, peer(says(200)) as upstream:
        with running(tmp_path, configured(tmp_path, issuer, upstream, place / "store")) as sidecar:
            assert sidecar.operate("/readyz").status == 200
            assert [sidecar.ask("/operate/x").status for _ in range(5)] == [200] * 5
            assert len(issuer.requests) == 1
            assert sidecar.metric("store_up") == 0
            assert sidecar.total("store_errors_total") >= 1
            assert sidecar.status()["store"]["up"] is False
            warned = [line for line in sidecar.events if line["level"] in {"warning", "error"}]
            assert any("store" in line["event"] for line in warned), sidecar.log
            place.unlink()
            until(lambda: sidecar.metric("store_up") == 1, "the store is in use again")
            assert sidecar.ask("/operate/x").status == 200
            assert len(issuer.requests) == 1
            assert sidecar.ask("/optimize/x").status == 200
            assert sidecar.end() == 0
        with running(tmp_path, configured(tmp_path, issuer, upstream, place / "store")) as sidecar:
            assert sidecar.metric("store_up") == 1
            assert sidecar.ask("/optimize/x").status == 200
            assert len(issuer.requests) == 2


def test_a_directory_that_is_taken_away_comes_back(tmp_path):
    """Somebody cleans up: warm tokens are served on, the store is made anew, and what comes next is shared."""
    store = tmp_path / "store"
    with peer(grants()) as issuer, peer(says(200)) as upstream:
        written = configured(tmp_path, issuer, upstream, store)
        with running(tmp_path, written) as sidecar:
            assert sidecar.ask("/operate/x").status == 200
            shutil.rmtree(store)
            assert [sidecar.ask("/operate/x").status, sidecar.ask("/optimize/x").status] == [200, 200]
            assert len(issuer.requests) == 2
            until(lambda: sidecar.metric("store_up") == 1 and store.is_dir(), "the store is in use again")
            assert sidecar.end() == 0


@needs_permissions
def test_a_read_only_directory_degrades(tmp_path):
    """Likewise where it is there and cannot be written."""
    store = tmp_path / "store"
    store.mkdir(mode=0o500)
    with (
        peer(grants()) as issuer,
        peer(says(200)) as upstream,
        running(tmp_path, configured(tmp_path, issuer, upstream, store)) as sidecar,
    ):
        assert sidecar.ask("/operate/x").status == 200
        assert sidecar.metric("store_up") == 0


def test_a_corrupt_store_costs_a_token_and_no_more(tmp_path):
    """Every file overwritten with garbage: set aside and said, the token asked for anew."""
    store = tmp_path / "store"
    with peer(grants()) as issuer, peer(says(200)) as upstream:
        written = configured(tmp_path, issuer, upstream, store)
        with running(tmp_path, written) as sidecar:
            assert sidecar.ask("/operate/x").status == 200
            assert sidecar.end() == 0
        for file in store.rglob("*"):
            if file.is_file() and file.stat().st_size:
                file.write_bytes(b"\0garbage" * 40)
        with running(tmp_path, written) as sidecar:
            assert sidecar.ask("/operate/x").status == 200
            assert len(issuer.requests) == 2
            assert sidecar.end() == 0
        with running(tmp_path, written) as sidecar:
            assert sidecar.ask("/operate/x").status == 200
            assert len(issuer.requests) == 2


def test_a_directory_of_other_peoples_is_refused(tmp_path):
    """A store that others could write into is not trusted: memory alone, and it is said."""
    store = tmp_path / "store"
    store.mkdir()
    store.chmod(0o777)
    with (
        peer(grants()) as issuer,
        peer(says(200)) as upstream,
        running(tmp_path, configured(tmp_path, issuer, upstream, store)) as sidecar,
    ):
        assert sidecar.ask("/operate/x").status == 200
        is_private = store.stat().st_mode & 0o777 == 0o700
        assert is_private or sidecar.metric("store_up") == 0
