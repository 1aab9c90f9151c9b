"""The systemd unit that the operations page shows."""

import configparser
import re
import shlex

from click.testing import CliRunner
from msgspec.structs import fields

from sidecar.cli import main
from sidecar.config.settings import Settings
from tests.deploy.support import ROOT

[TEXT] = re.findall(r"```ini\n(.*?)```", (ROOT / "docs/operations.md").read_text(), re.DOTALL)
UNIT = configparser.ConfigParser(strict=True)
UNIT.optionxform = str
UNIT.read_string(TEXT)


def default(name: str) -> float:
    """A setting's default, in seconds."""
    return next(field.default for field in fields(Settings) if field.name == name)


def test_it_can_be_enabled():
    """`systemctl enable` needs an [Install] section; without one the sidecar is gone after the next boot."""
    assert UNIT["Install"]["WantedBy"] == "multi-user.target"
    assert UNIT["Unit"]["After"] == "network-online.target"


def test_it_starts_and_reloads_by_what_exists():
    """The command line can be typed, and the signal is the one that a reload listens for."""
    program, name, *options = shlex.split(UNIT["Service"]["ExecStart"])
    assert program.endswith("/camunda-sidecar")
    told = CliRunner().invoke(main, [name, "--help"]).output
    assert all(option in told for option in options if option.startswith("--"))
    assert UNIT["Service"]["ExecReload"].split()[1:] == ["-HUP", "$MAINPID"]


def test_a_drain_has_its_time():
    """No process that still drains by its defaults is killed by systemd."""
    assert float(UNIT["Service"]["TimeoutStopSec"]) >= default("drain_delay") + default("drain_timeout") + 5


def test_the_token_store_is_in_the_units_own_directory():
    """`ProtectSystem=strict` leaves StateDirectory alone to be written to, and the default store is below it."""
    service = UNIT["Service"]
    assert service["ProtectSystem"] == "strict"
    assert f"{service['Environment']}/{service['StateDirectory']}" == "XDG_STATE_HOME=/var/lib/camunda-sidecar"
