"""The systemd units in deploy/systemd, by systemd's own tools and by what the program has."""

import shlex
import subprocess
import sys

import pytest
from click.testing import CliRunner

from sidecar.cli import main
from sidecar.config.settings import Settings
from tests import needs
from tests.deploy.support import DEPLOY

FOLDER = DEPLOY / "systemd"
SERVICE = FOLDER / "camunda-sidecar.service"


def unit(path=SERVICE) -> dict[str, dict[str, list[str]]]:
    """Sections, keys and their values; a key may stand several times."""
    found: dict[str, dict[str, list[str]]] = {}
    for line in path.read_text().splitlines():
        if line.startswith("["):
            section = found.setdefault(line.strip("[]"), {})
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            section.setdefault(key, []).append(value)
    return found


@pytest.fixture
def installed(tmp_path):
    """The units with a program that exists here."""
    for path in FOLDER.iterdir():
        text = path.read_text().replace("/opt/camunda-sidecar/bin/camunda-sidecar", sys.executable)
        (tmp_path / path.name).write_text(text)
    return tmp_path


def analyze(*arguments: object) -> subprocess.CompletedProcess:
    program = needs.program("systemd-analyze", package="systemd")
    return subprocess.run([program, *map(str, arguments)], check=False, capture_output=True, text=True)


def test_systemd_accepts_the_units(installed):
    """`systemd-analyze verify`: no unknown key, no value that it ignores."""
    done = analyze("verify", *sorted(installed.iterdir()))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_service_is_hardened(installed):
    """`systemd-analyze security`: at most 1.5 of 10, of which most is the network."""
    done = analyze("security", "--offline=true", "--threshold=15", installed / SERVICE.name)
    assert done.returncode == 0, done.stdout


def test_it_can_be_enabled():
    """`systemctl enable` needs an [Install] section; without one the sidecar is gone after the next boot."""
    assert unit()["Install"]["WantedBy"] == ["multi-user.target"]
    assert unit()["Unit"]["After"] == ["network-online.target"]


def test_it_starts_and_reloads_by_what_exists():
    """The command line can be typed, and the signal is the one that a reload listens for."""
    program, name, *options = shlex.split(unit()["Service"]["ExecStart"][0])
    assert program.endswith("/camunda-sidecar")
    told = CliRunner().invoke(main, [name, "--help"]).output
    assert all(option in told for option in options if option.startswith("--"))
    assert unit()["Service"]["ExecReload"][0].split()[1:] == ["-HUP", "$MAINPID"]


def test_systemd_hears_of_it_and_holds_its_port():
    """`Type=notify` with a watchdog, and a socket at the default address, since any other is refused at the start."""
    service, sockets = unit()["Service"], unit(FOLDER / "camunda-sidecar.socket")["Socket"]
    assert (service["Type"], sockets["ListenStream"]) == (["notify"], [str(Settings().listen)])
    assert float(service["WatchdogSec"][0].rstrip("s")) >= 10
    assert sockets["Service"] == [SERVICE.name]


def test_a_drain_has_its_time():
    """No process that still drains by its defaults is killed by systemd."""
    settings = Settings()
    assert float(unit()["Service"]["TimeoutStopSec"][0]) >= settings.drain_delay + settings.drain_timeout + 5


def test_the_token_store_is_in_the_units_own_directory():
    """`ProtectSystem=strict` leaves StateDirectory alone to be written to, and the default store is below it."""
    service = unit()["Service"]
    assert service["ProtectSystem"] == ["strict"]
    assert f"{service['Environment'][0]}/{service['StateDirectory'][0]}" == "XDG_STATE_HOME=/var/lib/camunda-sidecar"


def test_it_works_where_no_memory_is_both_writable_and_executable():
    """What `MemoryDenyWriteExecute` does, by the kernel's own switch: no package needs such memory."""
    code = (
        "import ctypes, os, sys\n"
        "if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0): sys.exit(77)\n"  # PR_SET_MDWE, since Linux 6.3
        "os.execv(sys.executable, [sys.executable, *'-m sidecar demo --once --port 0 --requests 8'.split()])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=60)
    if done.returncode == 77:
        pytest.skip("this kernel has no PR_SET_MDWE")
    assert done.returncode == 0, done.stdout + done.stderr
