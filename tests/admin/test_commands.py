import asyncio
import json
import subprocess
import sys
from functools import partial

import click
import pytest
from click.testing import CliRunner

from sidecar.admin.problems import with_problems
from sidecar.admin.readiness import Readiness
from sidecar.admin.status_model import IssuerStatus, StoreStatus, TokenStatus
from sidecar.cli import main
from sidecar.cli.status import render
from tests.admin.support import serving, status

CONFIGURATION = """\
listen: 127.0.0.1:0
admin: {{listen: "{admin}"}}
credentials: {{none: {{type: none}}}}
routes: {{api: {{upstream: "http://127.0.0.1:9", credential: none}}}}
token_store: {{type: memory}}
"""

SLEEPER = """\
import signal, time
signal.signal(signal.SIGTERM, {handler})
print("on", flush=True)
time.sleep(60)
"""
TERMINATES = SLEEPER.format(handler="lambda *_: exit(0)")
IGNORES = SLEEPER.format(handler="signal.SIG_IGN")


@pytest.fixture
def ask(tmp_path):
    """Runs a command with a configuration whose admin listener is `address`."""

    async def run(address, *arguments):
        file = tmp_path / "config.yaml"
        file.write_text(CONFIGURATION.format(admin=address))
        return await asyncio.to_thread(CliRunner().invoke, main, [arguments[0], "--config", str(file), *arguments[1:]])

    return run


@pytest.fixture
def process():
    """Starts a process that runs `code` and has printed `on`."""
    started = []

    def start(code):
        child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        started.append(child)
        assert child.stdout.readline() == b"on\n"
        return child

    yield start
    for child in started:
        child.kill()
        child.wait()
        child.stdout.close()


async def test_status_is_readable_and_as_json(ask):
    """A table for people, everything as JSON for scripts."""
    async with serving() as running:
        readable = await ask(running.address, "status")
        structured = await ask(running.address, "status", "--json")
    assert (readable.exit_code, structured.exit_code) == (0, 0)
    assert "operate.camunda.io  cluster" in readable.output
    assert json.loads(structured.output)["pid"] == 4711


@pytest.mark.parametrize("command", [["status"], ["shutdown"], ["wait", "--timeout", "0"]])
async def test_nothing_running_is_exit_code_1_and_one_message(ask, command):
    """Not running is said with its cure, never as a traceback."""
    async with serving() as running:
        gone = running.address
    result = await ask(gone, *command)
    assert result.exit_code == 1
    assert f"No sidecar answers at admin.listen {gone}" in result.output
    assert "Traceback" not in result.output


async def test_wait_ends_when_ready(ask):
    """It waits through not-ready, and exits 0 at readiness."""
    readiness = Readiness("listeners")
    async with serving(readiness=readiness) as running:
        waiting = asyncio.create_task(ask(running.address, "wait", "--timeout", "30"))
        readiness.done("listeners")
        result = await waiting
    assert (result.exit_code, result.output) == (0, "")


async def test_wait_gives_up_with_the_reason(ask):
    """After --timeout: exit code 1, and why it was not ready."""
    async with serving(readiness=Readiness("listeners")) as running:
        result = await ask(running.address, "wait", "--timeout", "0.2")
    assert (result.exit_code, result.output) == (1, "error: not ready after 0.2 s: waiting for: listeners\n")


async def test_shutdown_ends_the_process_and_waits_for_it(ask, process):
    """The pid is the one that /status tells; the command returns when that process is gone."""
    child = process(TERMINATES)
    async with serving(status=lambda: status(pid=child.pid)) as running:
        result = await ask(running.address, "shutdown")
    assert (result.exit_code, result.output) == (0, f"ended (pid {child.pid})\n")
    assert child.wait(10) == 0


async def test_shutdown_gives_up_after_its_timeout(ask, process):
    """A sidecar that drains longer than the patience is left to it, and the exit code is 1."""
    child = process(IGNORES)
    async with serving(status=lambda: status(pid=child.pid)) as running:
        result = await ask(running.address, "shutdown", "--timeout", "0.1")
    assert result.exit_code == 1
    assert "has not ended within 0.1 s" in result.output
    assert child.poll() is None


async def test_shutdown_of_a_process_that_is_not_here(ask, process):
    """A pid of another container's is not somebody else's process here."""
    child = process(TERMINATES)
    child.kill()
    child.wait()
    async with serving(status=lambda: status(pid=child.pid)) as running:
        result = await ask(running.address, "shutdown")
    assert result.exit_code == 1
    assert "runs in another container" in result.output


def test_the_table_tells_what_is_wrong():
    """Quarantine, cool-down and a store that is down stand in the table in words."""
    now = 1_800_000_060.0
    shown = status(
        ready=False,
        reason="draining",
        tokens=(
            TokenStatus(
                credential="cluster",
                audience="operate.camunda.io",
                state="quarantined",
                quarantined_until=now + 90,
                detail="The issuer refused it.",
            ),
            TokenStatus(credential="cluster", state="stale", expires_at=now + 3700),
        ),
        issuers=(IssuerStatus(issuer="https://login.example", min_interval=1.25, cooldown_until=now + 30),),
        store=StoreStatus(type="file", location="/var/lib/sidecar", up=False),
    )
    text = click.unstyle("\n".join(render(shown)))
    for words in (
        "draining, up 1 min",
        "quarantined  asked again in 1 min 30 s",
        "The issuer refused it.",
        "1 h 1 min",
        "1.25 s",
        "cooling down for 30 s",
        "token store: file /var/lib/sidecar, down",
    ):
        assert words in text


async def test_check_is_a_monitoring_check(ask):
    """Exit code 1 while there are problems, 0 without, in words and as JSON; without --check it is 0."""
    down = StoreStatus(type="file", location="/tokens", up=False)
    codes = []
    for store in (down, StoreStatus(type="memory")):
        async with serving(status=partial(with_problems, status(store=store))) as running:
            for options in ((), ("--check",), ("--check", "--json")):
                result = await ask(running.address, "status", *options)
                codes.append(result.exit_code)
    assert codes == [0, 1, 1, 0, 0, 0]


def test_problems_stand_before_everything_else():
    """The worst first, each with its cure; a sidecar that is ready is not said to be well beside a critical one."""
    refused = TokenStatus(credential="cluster", state="quarantined", detail="access_denied")
    shown = with_problems(status(tokens=(refused,), store=StoreStatus(type="memory", up=False)))
    lines = list(render(shown))
    assert [click.unstyle(line).split(":")[0] for line in lines[:4:2]] == ["critical", "warning"]
    assert "access_denied" in lines[0]
    assert "for 0 s, code credential_refused. Correct" in lines[1]
    assert f"0.1.0, {click.style('ready', fg='red')}, up" in lines[4]


async def test_asking_needs_no_secret(tmp_path):
    """Whoever may ask the listener need not be able to read the secrets, nor have the sidecar's variables."""
    file = tmp_path / "config.yaml"
    async with serving() as running:
        file.write_text(
            f'admin: {{listen: "{running.address}"}}\n'
            'credentials: {c: {type: client_credentials, client_id: "${NOT_SET}", client_secret_file: /nowhere}}\n'
            'routes: {api: {upstream: "http://127.0.0.1:9", credential: c}}\n'
        )
        for command in ("status", "wait"):
            result = await asyncio.to_thread(CliRunner().invoke, main, [command, "--config", str(file)])
            assert result.exit_code == 0, result.output
