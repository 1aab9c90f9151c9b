import subprocess
import sys
from importlib.util import find_spec

import pytest

from sidecar import __version__, build
from sidecar.cli import COMMANDS, CommandGroup, main
from sidecar.errors import ConfigurationError, GrantFailedError, Mistake
from tests.cli.support import CONFIG, camunda_sidecar, configuration

HEAVY = ("aiohttp", "cryptography", "uvloop", "redis", "prometheus_client", "joserfc", "asyncio")
NOT_FOR_RUN = (
    "aiohttp.web",
    "aiohttp.web_app",
    "cryptography",
    "ctypes",
    "joserfc",
    "jsonschema",
    "multiprocessing",
    "redis",
    "sidecar.cli.doctor",
    "sidecar.config.schema",
    "sidecar.credentials.assertion",
    "sidecar.credentials.doctor",
    "sidecar.demo",
    "sidecar.tokens.stores.redis",
    "sidecar.workers",
    "unittest",
)
"""What only some configurations or moments need: other stores, a key of one's own, several workers."""


def test_help_names_every_command():
    """`--help` is where a newcomer begins: commands, where the configuration is found, exit codes."""
    result = camunda_sidecar("--help")
    assert result.exit_code == 0
    assert all(f"  {name} " in result.output for name in COMMANDS)
    assert "CAMUNDA_SIDECAR_CONFIG" in result.output
    assert "Exit codes" in result.output


@pytest.mark.parametrize("name", [name for name in COMMANDS if find_spec(f"sidecar.cli.{name}")])
def test_every_command_explains_itself(name):
    """Each command has a help text, and takes --config; the demo brings its own, and a shell's script needs none."""
    result = camunda_sidecar(name, "--help")
    assert result.exit_code == 0
    assert name in {"demo", "completion"} or "--config" in result.output
    assert len(result.output.splitlines()) > 8


def test_the_version():
    """`--version` is one line, and says which build of the data plane it is."""
    assert camunda_sidecar("--version").output == f"camunda-sidecar {__version__} ({build.kind()})\n"


@pytest.mark.parametrize("arguments", [["runn"], ["--zzz"], ["check", "--zzz"], ["explain", "GET"]])
def test_wrong_usage_is_exit_code_2(arguments):
    """Scripts can tell wrong usage from failure."""
    result = camunda_sidecar(*arguments)
    assert result.exit_code == 2
    assert "Error" in result.stderr


def test_a_mistyped_command_gets_a_suggestion():
    """The one that it looks like, and none where it looks like none."""
    assert "Did you mean 'status'?" in camunda_sidecar("stauts").stderr
    assert "Did you mean" not in camunda_sidecar("zzz").stderr


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (
            ConfigurationError([Mistake("b.yaml", "y", "wrong"), Mistake("a.yaml", "x", "bad", "cure")]),
            2,
            "a.yaml: x: bad (cure)",
        ),
        (GrantFailedError("The issuer did not answer."), 1, "error: The issuer did not answer."),
    ],
)
def test_foreseen_errors_are_messages(monkeypatch, error, code, says):
    """A foreseen error is a line on standard error and an exit code, never a traceback."""

    def fails(*_):
        raise error

    monkeypatch.setattr("sidecar.cli.check.load_settings", fails)
    result = camunda_sidecar("check")
    assert result.exit_code == code
    assert says in result.stderr
    assert result.stdout == ""
    assert isinstance(result.exception, SystemExit)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["check", "--help"], ["check"]])
def test_small_commands_start_without_the_data_plane(arguments, tmp_path):
    """`--help` and `check` import nothing heavy, so that they are instant; the whole is measured elsewhere."""
    file = configuration(tmp_path)
    code = (
        "import sys; from sidecar.cli import main\n"
        f"try: main({[*arguments]!r})\n"
        f"finally: print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    environ = {"CAMUNDA_SIDECAR_CONFIG": str(file)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environ, check=True)
    assert done.stderr == "[]\n"


RUN_AND_LIST = f"""
import asyncio, sys
from sidecar.service import Service

async def ready(self):
    loaded = [name for name in {NOT_FOR_RUN!r} if name in sys.modules]
    await self.start()
    warming = [each for each in asyncio.all_tasks() if each.get_coro().__name__ == "warm"]
    await asyncio.gather(*warming)
    print(loaded, "uvloop" in sys.modules, len(warming), "cryptography" in sys.modules)
    await self.close()

Service.run = ready
from sidecar.cli import main
main(["run"])
"""


def test_run_imports_nothing_that_it_rarely_needs(tmp_path):
    """Memory and time of the start go into what serves: the rest is imported when it is first wanted.

    An idle sidecar has derived its keys and looked into the store, and still has no cipher: that comes with a record.
    """
    file = configuration(tmp_path, CONFIG + "listen: 127.0.0.1:0\nadmin: {listen: '127.0.0.1:0'}\n")
    environ = {"CAMUNDA_SIDECAR_CONFIG": str(file), "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", RUN_AND_LIST], capture_output=True, text=True, env=environ, check=True)
    assert done.stdout == f"[] {find_spec('uvloop') is not None} 3 False\n"


def test_a_terminal_that_is_not_utf_8():
    """What it cannot show is escaped; a help text is no reason for a traceback."""
    environ = {"PYTHONIOENCODING": "latin-1"}
    done = subprocess.run(
        [sys.executable, "-m", "sidecar", "--help"], capture_output=True, text=True, env=environ, check=True
    )
    assert "\\u2026" in done.stdout


def test_python_m_sidecar():
    """`python -m sidecar` is the same program."""
    done = subprocess.run([sys.executable, "-m", "sidecar", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"camunda-sidecar {__version__} ({build.kind()})\n"
    assert isinstance(main, CommandGroup)
