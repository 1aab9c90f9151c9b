"""What other systems lack is taken away here."""

import os
import plistlib
import re
import subprocess
import sys

import pytest

from tests.deploy.support import ROOT

LACKING = {
    "uvloop": "import sys; sys.modules['uvloop'] = None",
    "fork": "import os; del os.fork",
}


def python(code: str, before: str, folder) -> subprocess.CompletedProcess:
    """Run code in processes that all begin with `before`."""
    (folder / "sitecustomize.py").write_text(before)
    environ = os.environ | {"PYTHONPATH": str(folder)}
    return subprocess.run(
        [sys.executable, *code.split()], capture_output=True, text=True, check=False, env=environ, timeout=60
    )


@pytest.mark.parametrize("lacking", LACKING)
def test_it_serves_without(lacking, tmp_path):
    """Without uvloop it runs on asyncio's own loop, and one process needs no fork."""
    done = python("-m sidecar demo --once --port 0 --requests 8", LACKING[lacking], tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "8 of 8" in done.stdout


def test_windows_is_told_where_it_runs(tmp_path):
    """One sentence and exit code 1, and no traceback of a missing module."""
    done = python("-m sidecar run", "import os; os.name = 'nt'", tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("camunda-sidecar: Windows")
    assert "WSL 2" in done.stderr


def test_the_property_list_for_macos_is_one():
    """What launchd starts is a command line that exists, with more file descriptors than macOS gives."""
    [text] = re.findall(r"```xml\n(.*?)```", (ROOT / "docs/hosts.md").read_text(), re.DOTALL)
    given = plistlib.loads(text.encode())
    assert given["ProgramArguments"][1:3] == ["run", "--config"]
    assert given["SoftResourceLimits"]["NumberOfFiles"] >= 4096
