"""No secret and no token where anybody could see it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.acceptance.peers import grants, peer, refuses, says
from tests.acceptance.support import SECRET, command, configuration, raw, running

TOKEN = "acceptance-token-5f3e"


def holds(text: bytes | str) -> list[str]:
    """Which of the two is in it."""
    content = text.encode() if isinstance(text, str) else text
    return [secret for secret in (SECRET, TOKEN) if secret.encode() in content]


@pytest.fixture
def world(tmp_path):
    """A sidecar that says all that it can, with its secret in a file and its token in use."""
    secret = tmp_path / "secret"
    secret.write_text(SECRET + "\n")
    with peer(grants(TOKEN)) as issuer, peer(says(200, b"ok")) as upstream:
        routes = {name: {"upstream": upstream.url} for name in ("operate", "optimize")}
        written = configuration(
            tmp_path,
            issuer.url + "/t",
            routes,
            logging={"level": "debug", "access": "all"},
            token_requests={"min_interval": "0s", "max_wait": "1s"},
        )
        credential = written["credentials"]["cluster"]
        del credential["client_secret"]
        credential["client_secret_file"] = str(secret)
        with running(tmp_path, written) as sidecar:
            assert sidecar.ask("/operate/x?access_token=in-the-query").status == 200
            assert upstream.requests[0].bearer == TOKEN
            assert issuer.requests[0].form["client_secret"] == SECRET
            yield sidecar, issuer, upstream


def test_nothing_that_it_says_has_a_secret(world, tmp_path):
    """Log at its loudest, metrics, status, page, errors, the command's output, the process list, the environment."""
    sidecar, issuer, upstream = world
    issuer.behaviour = refuses(401, "access_denied", f"{SECRET} is wrong")
    refused = sidecar.ask("/optimize/x")
    upstream.behaviour = says(401, f"Bearer {TOKEN} has expired".encode(), WWW_Authenticate=f'Bearer error="{TOKEN}"')
    assert sidecar.ask("/operate/x").status == 401
    echo = raw(sidecar.address, f"GET /operate/{TOKEN} HTTP/9.9\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode())
    sidecar.signal(signal.SIGHUP)
    sidecar.logged("configuration reloaded")
    pid = sidecar.process.pid
    for seen in (
        refused.body,
        echo,
        *(sidecar.operate(path).body for path in ("/", "/metrics", "/status", "/readyz", "/nothing")),
        Path(f"/proc/{pid}/cmdline").read_bytes(),
        Path(f"/proc/{pid}/environ").read_bytes(),
        command("check", "--config", sidecar.file).stdout,
        command("check", "--json", "--config", sidecar.file).stdout,
        command("explain", "GET", "/operate/x", "--config", sidecar.file).stdout,
    ):
        assert holds(seen) == [], seen
    assert sidecar.end() == 0
    assert holds(sidecar.log) == []
    assert "in-the-query" not in sidecar.log


def test_the_environment_is_what_the_user_set(world):
    """Nothing of its own is put there: a child process or `/proc` tells no more than the user did."""
    sidecar, _, _ = world
    environ = Path(f"/proc/{sidecar.process.pid}/environ").read_bytes()
    names = {pair.split(b"=", 1)[0].decode() for pair in environ.split(b"\0") if pair}
    assert names <= set(os.environ) | {"LC_CTYPE"}


def test_the_store_is_sealed_and_private(world, tmp_path):
    """A stolen file tells nothing; the directory is 0700 and every file in it 0600."""
    sidecar, _, _ = world
    assert sidecar.end() == 0
    store = tmp_path / "store"
    assert store.stat().st_mode & 0o777 == 0o700
    files = [path for path in store.rglob("*") if path.is_file()]
    assert files
    for file in files:
        assert file.stat().st_mode & 0o777 == 0o600, file
        assert holds(file.read_bytes()) == [], file
        assert b"acceptance" not in file.read_bytes(), file


def test_a_forged_authorization_never_reaches_the_upstream(world):
    """Whatever a client brings, and however it spells it, the sidecar's token alone goes out."""
    sidecar, _, upstream = world
    fields = "Authorization: Bearer mine\r\nauthorization: Basic eDp5\r\nAUTHORIZATION: x\r\nX-Other: 1\r\n"
    answer = raw(sidecar.address, f"GET /operate/x HTTP/1.0\r\nHost: localhost\r\n{fields}\r\n".encode())
    assert b" 200 " in answer
    assert upstream.requests[-1].headers["authorization"] == f"Bearer {TOKEN}"
