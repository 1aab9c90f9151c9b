"""There is no container engine here, so the Dockerfile's steps are read and replayed in a directory of their own."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from sidecar import __version__
from sidecar.cli.wait import until_ready
from sidecar.config.settings import TcpAddress
from tests.deploy.support import ROOT

DOCKERFILE = ROOT / "Dockerfile"
USER = 65532


def instructions() -> list[tuple[str, str]]:
    """Keyword and arguments of each instruction."""
    lines = (line for line in DOCKERFILE.read_text().splitlines() if line and not line.startswith("#"))
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in lines]


def of(keyword: str) -> list[str]:
    return [arguments for found, arguments in instructions() if found == keyword]


def test_every_run_step_is_a_command_and_no_shell():
    """The JSON form: no shell interprets anything."""
    assert of("RUN")
    assert all(isinstance(json.loads(arguments), list) for arguments in [*of("RUN"), *of("ENTRYPOINT"), *of("CMD")])


def test_it_runs_as_nobody_in_particular():
    """A numeric user, so that Kubernetes' runAsNonRoot can see that it is not root."""
    assert of("USER") == ["65532:65532"]


def test_what_is_copied_exists_and_is_let_through():
    """Each source stands in the tree and in .dockerignore's list of exceptions."""
    sources = {source for line in of("COPY") if not line.startswith("--") for source in line.split()[:-1]}
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert sources == allowed
    assert all((ROOT / source).exists() for source in sources)
    assert "*" in (ROOT / ".dockerignore").read_text().splitlines()


def test_the_health_check_and_the_command_are_commands_that_exist():
    """`run` and `wait` with its option, as the command line has them."""
    [health] = of("HEALTHCHECK")
    command = json.loads(health[health.index("[") :])
    assert [*json.loads(of("ENTRYPOINT")[0]), *json.loads(of("CMD")[0])] == ["camunda-sidecar", "run"]
    assert command[:2] == ["camunda-sidecar", "wait"]
    help_text = subprocess.run([sys.executable, "-m", "sidecar", "wait", "--help"], check=True, capture_output=True)
    assert all(option.encode() in help_text.stdout for option in command[2:] if option.startswith("--"))


@pytest.fixture(scope="module")
def image():
    """A directory with what the build stage makes: /src, /opt/camunda-sidecar, /home/sidecar."""
    with tempfile.TemporaryDirectory(prefix="camunda-sidecar-image-") as name:
        root = Path(name)
        root.chmod(0o755)
        shutil.copytree(ROOT / "sidecar", root / "src/sidecar", ignore=shutil.ignore_patterns("__pycache__"))
        for file in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
            shutil.copy(ROOT / file, root / "src")
        (root / "opt").mkdir()
        (root / "home").mkdir()
        arguments = dict(pair.split("=", 1) for pair in of("ARG") if "=" in pair)
        for step in map(json.loads, of("RUN")):
            placed = [re.sub(r"^(?=/(opt|home)/)", name, part) for part in step]
            if placed[0] == "python":
                placed[0] = interpreter() if "venv" in placed else sys.executable
                if "compileall" in placed:
                    placed[0] = f"{name}/opt/camunda-sidecar/bin/python"
            if placed[0] == "install" and os.geteuid() != 0:
                placed = [*placed[:4], placed[-1]]  # only root can give a directory away
            result = subprocess.run(
                placed, cwd=root / "src", check=False, capture_output=True, text=True, env=os.environ | arguments
            )
            assert result.returncode == 0, f"{placed}\n{result.stdout}\n{result.stderr}"
        shutil.rmtree(root / "src")
        yield root


def environment(image: Path) -> dict[str, str]:
    """What the image's ENV says."""
    pairs = (pair.split("=", 1) for line in of("ENV") for pair in line.split())
    placed = {name: re.sub(r"^(?=/(opt|home)/)", str(image), value) for name, value in pairs}
    return placed | {"PATH": placed["PATH"].replace("$PATH", os.environ["PATH"])}


def as_user(user: int = USER, group: int = USER) -> dict:
    """What makes a subprocess the image's user; nothing where this user may not do that."""
    return {"user": user, "group": group, "extra_groups": []} if os.geteuid() == 0 else {}


def interpreter() -> str:
    """One that the image's user may execute too; this test's own may stand in root's home."""
    for candidate in (sys.executable, "/usr/bin/python3"):
        code = "import sys, venv; sys.exit(sys.version_info < (3, 11))"
        try:
            if subprocess.run([candidate, "-c", code], check=False, cwd="/", **as_user()).returncode == 0:
                return candidate
        except OSError:
            continue
    pytest.skip(f"no Python 3.11 here that uid {USER} may execute")


def test_the_package_is_installed_whole_and_byte_compiled(image):
    """Every module has its byte code, data files are there, and pip is not."""
    [installed] = (image / "opt/camunda-sidecar/lib").glob("python3*/site-packages")
    modules = {path.relative_to(ROOT / "sidecar") for path in (ROOT / "sidecar").rglob("*.py")}
    assert {path for path in modules if not (installed / "sidecar" / path).exists()} == set()
    compiled = {path.relative_to(installed).name.split(".")[0] for path in (installed / "sidecar").rglob("*.pyc")}
    assert compiled >= {path.stem for path in modules}
    assert (installed / "sidecar/admin/page.html").exists()
    assert not (installed / "pip").exists()


@pytest.mark.parametrize(("user", "group"), [(USER, USER), (1_000_660_000, 0)], ids=["65532", "OpenShift"])
def test_it_serves_as_its_user_on_a_read_only_root(image, user, group):
    """With no write permission anywhere but in its home: it gets ready, keeps tokens there, and ends with 0 at SIGTERM.

    As uid 65532, and as a uid of OpenShift's choosing, which is in group 0.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    configuration = image / "config.yaml"
    configuration.write_text(
        f"listen: 127.0.0.1:0\nadmin: {{listen: 127.0.0.1:{port}}}\n"
        "credentials: {none: {type: none}}\nroutes: {api: {upstream: 'http://127.0.0.1:9', credential: none}}\n"
    )
    environ, chosen = environment(image), as_user(user, group)
    command = [str(image / "opt/camunda-sidecar/bin/camunda-sidecar")]
    told = subprocess.run(
        [*command, "--version"],
        check=True,
        capture_output=True,
        text=True,
        env=environ,
        cwd="/",
        **chosen,
    )
    assert told.stdout == f"camunda-sidecar {__version__} (compiled)\n"
    before = {path for path in image.rglob("*") if "home" not in path.parts}
    serving = subprocess.Popen(
        [*command, "run", "--config", str(configuration)],
        env=environ,
        cwd="/",
        stderr=subprocess.PIPE,
        **chosen,
    )
    try:
        reason = until_ready(lambda: TcpAddress("127.0.0.1", port), 20)
        serving.terminate()
        _, log = serving.communicate(timeout=20)
    finally:
        serving.kill()
    assert reason is None, log.decode()
    assert serving.returncode == 0, log.decode()
    assert {path for path in image.rglob("*") if "home" not in path.parts} == before
    assert b"store" not in log
    shutil.rmtree(image / "home/sidecar/.local")
