"""The commands beside `run`, as scripts and people use them."""

from __future__ import annotations

import json
import shlex
import signal
import stat
import subprocess
import sys

import pytest
import yaml

from tests.acceptance.peers import grants, peer, refuses, says, standin
from tests.acceptance.support import (
    SECRET,
    clean_environment,
    command,
    configuration,
    ending,
    plain,
    running,
    spawn,
    until,
    write,
)

CONSOLE_FILE = """\
export ZEEBE_ADDRESS='11111111-1111-1111-1111-111111111111.bru-2.zeebe.camunda.io:443'
export ZEEBE_REST_ADDRESS='https://bru-2.zeebe.camunda.io/11111111-1111-1111-1111-111111111111'
export ZEEBE_CLIENT_ID='the-client'
export ZEEBE_CLIENT_SECRET='acceptance-client-secret-71d0'
export ZEEBE_AUTHORIZATION_SERVER_URL='https://login.cloud.camunda.io/oauth/token'
export ZEEBE_TOKEN_AUDIENCE='zeebe.camunda.io'
export CAMUNDA_CLUSTER_ID='11111111-1111-1111-1111-111111111111'
export CAMUNDA_CLUSTER_REGION='bru-2'
export CAMUNDA_CREDENTIALS_SCOPES='Zeebe,Tasklist,Operate,Optimize,Secrets'
export CAMUNDA_OAUTH_URL='https://login.cloud.camunda.io/oauth/token'
"""


# --- token -------------------------------------------------------------------------------------------------------


def test_token_prints_the_shared_token_and_nothing_else(tmp_path):
    """From the cache that a running sidecar shares, both ways round: one token request in all."""
    with peer(grants()) as issuer, peer(says(200)) as upstream:
        written = configuration(tmp_path, issuer.url + "/t", {"operate": {"upstream": upstream.url}})
        file = write(tmp_path / "config.yaml", written)
        first = command("token", "operate", "--config", file)
        assert (first.returncode, first.stdout, first.stderr) == (0, "token-1\n", "")
        with running(tmp_path, written) as sidecar:
            assert sidecar.ask("/operate/x").status == 200
            assert upstream.requests[0].bearer == "token-1"
            second = command("token", "operate", "--config", file)
            assert (second.stdout, second.stderr) == ("token-1\n", "")
        assert len(issuer.requests) == 1


def test_token_says_why_there_is_none(tmp_path):
    """A refused credential is exit code 1, an unknown route 2; standard output stays empty."""
    with peer(refuses(401, "access_denied")) as issuer:
        written = configuration(tmp_path, issuer.url + "/t", {"operate": {"upstream": "http://127.0.0.1:9"}})
        file = write(tmp_path / "config.yaml", written)
        for _ in range(2):
            refused = command("token", "operate", "--config", file)
            assert (refused.returncode, refused.stdout) == (1, "")
            assert "access_denied" in refused.stderr
            assert "cluster" in refused.stderr
            assert SECRET not in refused.stderr
        assert len(issuer.requests) == 1  # the quarantine is on the store
        unknown = command("token", "optimise", "--config", file)
        assert (unknown.returncode, unknown.stdout) == (2, "")
        assert "operate" in unknown.stderr


# --- doctor ------------------------------------------------------------------------------------------------------


def test_doctor_of_a_whole_setup(tmp_path):
    """Everything works: exit code 0, each route's DNS, issuer, audience and upstream named; no token is shown."""
    with standin(interval=0.0) as camunda:
        routes = {name: {"upstream": camunda.upstream(name)} for name in ("operate", "optimize")}
        written = configuration(tmp_path, camunda.token_url, routes, token_requests={"min_interval": "0s"})
        written["credentials"]["cluster"] |= {
            "client_id": camunda.cluster_client.client_id,
            "client_secret": camunda.cluster_client.secret,
        }
        result = command("doctor", "--config", write(tmp_path / "config.yaml", written))
        assert result.returncode == 0, result.stdout + result.stderr
        assert "operate" in result.stdout
        assert "optimize" in result.stdout
        assert camunda.cluster_client.secret not in result.stdout + result.stderr
        assert "eyJ" not in result.stdout + result.stderr


def test_doctor_names_what_is_wrong_with_its_cure(tmp_path):
    """A refused client and an upstream that is down are two different sentences; exit code 1."""
    with peer(refuses(401, "access_denied", "Unauthorized")) as issuer:
        written = configuration(tmp_path, issuer.url + "/t", {"operate": {"upstream": "http://127.0.0.1:9"}})
        file = write(tmp_path / "config.yaml", written)
        result = command("doctor", "--config", file)
        assert result.returncode == 1
        assert "access_denied" in result.stdout
        assert "refuse" in result.stdout
        findings = json.loads(command("doctor", "--json", "--config", file).stdout)
        assert {finding["result"] for finding in findings} >= {"ok", "failed"}
        assert SECRET not in result.stdout


def test_a_doctor_that_succeeds_ends_the_quarantine_of_a_running_sidecar(tmp_path):
    """A permission that was added in the Console changes no secret: doctor is the way to say so."""
    with peer(refuses(403, "access_denied", "no such audience")) as issuer, peer(says(200)) as upstream:
        written = configuration(
            tmp_path,
            issuer.url + "/t",
            {"operate": {"upstream": upstream.url}},
            token_requests={"min_interval": "0s"},
        )
        with running(tmp_path, written) as sidecar:
            assert sidecar.ask("/operate/x").problem["code"] == "credential_rejected"
            issuer.behaviour = grants("granted")
            assert sidecar.ask("/operate/x").problem["code"] == "credential_rejected"
            doctor = command("doctor", "--config", sidecar.file)
            assert doctor.returncode == 0, doctor.stdout
            until(lambda: sidecar.ask("/operate/x").status == 200, "the quarantine is over", 5.0)
            assert upstream.requests[-1].bearer == "granted"
            assert len(issuer.requests) == 2
            assert sidecar.metric("quarantined", credential="cluster", audience="operate.camunda.io") == 0


# --- init, explain, status, demo -----------------------------------------------------------------------------------


def test_init_from_the_consoles_file(tmp_path):
    """What the Console lets one download becomes a configuration with its secret in a private file; it checks."""
    credentials, file = tmp_path / "downloaded.txt", tmp_path / "out" / "config.yaml"
    credentials.write_text(CONSOLE_FILE)
    made = command("init", credentials, "--config", file)
    assert made.returncode == 0, made.stderr
    assert SECRET not in made.stdout + made.stderr + file.read_text()
    [secret] = [path for path in file.parent.iterdir() if path != file]
    assert (stat.S_IMODE(secret.stat().st_mode), secret.read_text().strip()) == (0o600, SECRET)
    checked = command("check", "--json", "--config", file)
    settings = json.loads(checked.stdout)["settings"]
    assert set(settings["routes"]) == {"operate", "optimize", "tasklist", "zeebe"}
    upstream = "https://bru-2.operate.camunda.io/11111111-1111-1111-1111-111111111111"
    assert settings["routes"]["operate"]["upstream"] == upstream
    again = command("init", credentials, "--config", file)
    assert again.returncode == 2
    assert "--force" in again.stderr


def test_init_from_the_environment_keeps_secrets_there(tmp_path):
    """The file refers to the variables; with the same environment it is what the environment alone is."""
    environment = {
        "CAMUNDA_CONSOLE_CLIENT_ID": "id",
        "CAMUNDA_CONSOLE_CLIENT_SECRET": SECRET,
        "HOME": str(tmp_path),
    }
    file = tmp_path / "config.yaml"
    assert command("init", "--config", file, env=environment).returncode == 0
    assert SECRET not in file.read_text()
    by_file = json.loads(command("check", "--json", "--config", file, env=environment).stdout)["settings"]
    by_environment = json.loads(command("check", "--json", env=environment).stdout)["settings"]
    assert by_file == by_environment
    assert command("init", "--config", tmp_path / "none.yaml").returncode == 2


@pytest.mark.parametrize(
    ("method", "path", "says_", "code"),
    [
        ("GET", "/operate/v1/x?y=1", "https://bru-2.operate.camunda.io/cluster/v1/x?y=1", 0),
        ("GET", "/operate/v1/x", "operate.camunda.io", 0),
        ("GET", "/optimize/api/readyz", "public", 0),
        ("DELETE", "/tasklist/v1/x", "forbidden_by_policy", 1),
        ("GET", "/nothing", "no_route", 1),
        ("GET", "/operate/../x", "bad_request", 1),
    ],
)
def test_explain_says_what_becomes_of_a_request(tmp_path, method, path, says_, code):
    """Route, credential, audience, upstream URL and policy, and 1 for a refusal; nothing is sent."""
    text = f"""\
saas: {{region: bru-2, cluster_id: cluster}}
credentials: {{cluster: {{type: client_credentials, client_id: id, client_secret: {SECRET}}}}}
routes: {{operate: {{credential: cluster}}, optimize: {{credential: cluster}},
  tasklist: {{credential: cluster, allow: [GET /v1/**]}}}}
"""
    result = command("explain", method, path, "--config", write(tmp_path / "config.yaml", text))
    assert result.returncode == code
    assert says_ in result.stdout
    assert SECRET not in result.stdout


def test_what_init_prints_is_what_works(tmp_path):
    """The printed command, word for word, from any directory: what was written is not where `check` looks by itself."""
    directory = tmp_path / "a directory"
    directory.mkdir()
    (directory / "credentials.txt").write_text(CONSOLE_FILE)
    made = command("init", "credentials.txt", cwd=directory)
    written = directory / "camunda-sidecar.yaml"
    assert made.stdout.splitlines()[0].startswith(f"Wrote {written}")
    following = made.stdout.splitlines()[-1].removeprefix("Next: ")
    words = [shlex.split(each) for each in following.split(" && ")]
    assert words == [["camunda-sidecar", name, "--config", str(written)] for name in ("check", "run")]
    checked = command(*words[0][1:], cwd=tmp_path)
    assert checked.returncode == 0, checked.stderr
    named = {"CAMUNDA_SIDECAR_CONFIG": str(tmp_path / "named.yaml")}
    made = command("init", directory / "credentials.txt", env=named)
    assert made.stdout.splitlines()[-1] == "Next: camunda-sidecar check && camunda-sidecar run"


def test_a_running_sidecar_is_asked_without_its_configuration(tmp_path):
    """`--admin` and CAMUNDA_SIDECAR_ADMIN are enough, over TCP and a Unix socket, with the file broken or gone."""
    for admin in ("127.0.0.1:0", f"unix:{tmp_path}/admin.sock"):
        written = plain(tmp_path, "http://127.0.0.1:9", drain_timeout="7s")
        with running(tmp_path, written | {"admin": {"listen": admin}}) as sidecar:
            write(sidecar.file, "broken: [")
            assert command("status", "--config", sidecar.file).returncode == 2
            told = json.loads(command("status", "--json", "--admin", sidecar.admin).stdout)
            assert (told["pid"], told["drain"]) == (sidecar.process.pid, 7.0)
            environment = {"CAMUNDA_SIDECAR_ADMIN": sidecar.admin, "CAMUNDA_SIDECAR_CONFIG": str(sidecar.file)}
            assert command("wait", env=environment).returncode == 0
            assert command("shutdown", env=environment).stdout == f"ended (pid {sidecar.process.pid})\n"
            assert sidecar.ended() == 0


def test_a_sidecar_listens_where_it_is_told(tmp_path):
    """Options before variables before the file; a container without a file can be reached."""
    file = write(tmp_path / "config.yaml", plain(tmp_path, "http://127.0.0.1:9") | {"listen": "127.0.0.1:9"})
    variables = {"CAMUNDA_SIDECAR_LISTEN": "127.0.0.1:9", "CAMUNDA_SIDECAR_ADMIN": f"unix:{tmp_path}/admin.sock"}
    arguments = ("run", "--config", str(file), "--listen", f"unix:{tmp_path}/proxy.sock")
    with ending(spawn(*arguments, env=variables)) as sidecar:
        sidecar.started()
        assert (sidecar.address, sidecar.admin) == (f"unix:{tmp_path}/proxy.sock", f"unix:{tmp_path}/admin.sock")
        assert sidecar.end() == 0
    remote = {"CAMUNDA_SIDECAR_LISTEN": "0.0.0.0:8600", "CAMUNDA_CONSOLE_CLIENT_ID": "i"}
    remote["CAMUNDA_CONSOLE_CLIENT_SECRET"] = SECRET
    refused = command("check", env=remote)
    assert refused.returncode == 2
    assert "CAMUNDA_SIDECAR_ALLOW_REMOTE=true" in refused.stderr
    allowed = {"CAMUNDA_SIDECAR_ALLOW_REMOTE": "true", "CAMUNDA_SIDECAR_HOSTS": "sidecar,sidecar.internal"}
    checked = yaml.safe_load(command("check", env=remote | allowed).stdout)
    assert checked["listen"] == "0.0.0.0:8600"
    assert checked["guard"] == {"hosts": ["sidecar", "sidecar.internal"], "allow_remote": True}


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_port_in_use_names_the_other_sidecar(tmp_path, workers):
    """Its pid and its configuration, whether the admin listener is the same or the other one has to be looked for."""
    (tmp_path / "other").mkdir()
    first = plain(tmp_path, "http://127.0.0.1:9", admin={"listen": f"unix:{tmp_path}/admin.sock"})
    with running(tmp_path / "other", first) as other:
        told = f"pid {other.process.pid}, configuration {other.file}"
        second = write(tmp_path / "config.yaml", plain(tmp_path, "http://127.0.0.1:9", listen=other.address))
        refused = command("run", "--config", second, "--workers", workers)
        assert (refused.returncode, told in refused.stderr) == (1, True), refused.stderr
        refused = command("run", "--config", second, "--admin-listen", other.admin, "--listen", "127.0.0.1:0")
        assert (refused.returncode, told in refused.stderr) == (1, True), refused.stderr


def test_status_is_for_people_and_for_scripts(tmp_path):
    """Tokens, budget and routes; never a token's value."""
    with peer(grants("a-token-value")) as issuer, peer(says(200)) as upstream:
        written = configuration(tmp_path, issuer.url + "/t", {"operate": {"upstream": upstream.url}})
        with running(tmp_path, written) as sidecar:
            assert sidecar.ask("/operate/x").status == 200
            # The port was 0: only the running sidecar's own address tells where it is.
            written["admin"]["listen"] = sidecar.admin
            sidecar.write(written)
            readable = command("status", "--config", sidecar.file)
            structured = command("status", "--json", "--config", sidecar.file)
            assert (readable.returncode, structured.returncode) == (0, 0)
            for words in ("operate.camunda.io", "cluster", "fresh", "1.25", "/operate"):
                assert words in readable.stdout
            assert json.loads(structured.stdout)["pid"] == sidecar.process.pid
            assert "a-token-value" not in readable.stdout + structured.stdout
            port_zero = write(tmp_path / "zero.yaml", written | {"admin": {"listen": "127.0.0.1:0"}})
            unknown = command("status", "--config", port_zero)
            assert (unknown.returncode, len(unknown.stderr.splitlines())) == (1, 1)


def test_demo_once_shows_the_main_job(tmp_path):
    """A table a newcomer understands: everything served, one token an audience, none refused."""
    result = command(
        "demo", "--once", "--requests", "40", "--clients", "4", "--port", "0", env={"TMPDIR": str(tmp_path)}
    )
    assert result.returncode == 0, result.stdout + result.stderr
    for words in ("/operate", "/optimize", "/console", "/hub", "40 of 40"):
        assert words in result.stdout
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_command_leaves_no_traceback(tmp_path):
    """Ctrl-C on `wait` is a person's choice, and no fault."""
    file = write(
        tmp_path / "config.yaml",
        yaml.safe_dump(configuration(tmp_path, "http://127.0.0.1:1/t", {"a": {"upstream": "http://127.0.0.1:9"}})),
    )
    # --help first: the interpreter and the command are loaded, so that the interrupt meets the waiting.
    text = file.read_text().replace("listen: 127.0.0.1:0", "listen: 127.0.0.1:1")
    child = subprocess.Popen(
        [sys.executable, "-X", "importtime", "-m", "sidecar", "wait", "--config", str(write(file, text))],
        stderr=subprocess.PIPE,
        env=clean_environment(),
        text=True,
    )
    said = ""
    for line in child.stderr:
        said += line
        if "sidecar.admin.client" in line:
            break
    child.send_signal(signal.SIGINT)
    rest = child.communicate(timeout=30)[1]
    assert "Traceback" not in rest
    assert child.returncode not in (0, 2)
