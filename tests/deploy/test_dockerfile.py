"""There is no container engine here, so the Dockerfile's steps are read and replayed in a directory of their own."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import pytest

from sidecar import __version__
from sidecar.cli.wait import until_ready
from sidecar.config.settings import TcpAddress
from tests import needs
from tests.deploy.image import DOCKERFILE, USER, as_user, instructions, of, replay, tree
from tests.deploy.support import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_every_run_step_is_a_command_and_no_shell():
    """The JSON form: no shell interprets anything."""
    assert of("RUN")
    assert all(isinstance(json.loads(arguments), list) for arguments in [*of("RUN"), *of("ENTRYPOINT"), *of("CMD")])


def test_it_runs_as_nobody_in_particular():
    """A numeric user, so that Kubernetes' runAsNonRoot can see that it is not root."""
    assert of("USER") == ["65532:65532"]


def test_hadolint_has_nothing_to_say():
    """By the rules of `.hadolint.yaml`, hints included."""
    done = subprocess.run([needs.script("hadolint"), DOCKERFILE], cwd=ROOT, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_every_package_comes_by_its_hash():
    """Each installation is from a lock with hashes, or the wheel that was built here and nothing from an index."""
    installs = [command for command in map(json.loads, of("RUN")) if "install" in command and "pip" in command]
    assert len(installs) == 3
    assert all("--require-hashes" in command or {"--no-index", "--no-deps"} <= {*command} for command in installs)
    [wheel] = [command for command in map(json.loads, of("RUN")) if "wheel" in command]
    assert {"--no-build-isolation", "--no-deps"} <= {*wheel}


def test_the_image_that_runs_has_no_pip():
    """It is taken away from what the base image brings, and the program's environment never had one."""
    last = [number for number, (keyword, _) in enumerate(instructions()) if keyword == "FROM"][-1]
    commands = [json.loads(text) for keyword, text in instructions()[last:] if keyword == "RUN"]
    assert [command[2:4] + command[-1:] for command in commands] == [["pip", "uninstall", "pip"]]


def test_its_labels_say_what_it_is():
    """OCI's annotations, with the program's own version and links."""
    labels = dict(re.findall(r'org\.opencontainers\.image\.(\w+)="([^"]+)"', of("LABEL")[0]))
    urls = PROJECT["urls"]
    assert (labels["version"], labels["licenses"]) == (__version__, PROJECT["license"])
    assert (labels["source"], labels["documentation"]) == (urls["Source"], urls["Documentation"])
    assert labels["description"] == PROJECT["description"]


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
    """A directory with what the build stage makes: /opt/camunda-sidecar and /home/sidecar."""
    with tempfile.TemporaryDirectory(prefix="camunda-sidecar-image-") as name:
        root = Path(name)
        root.chmod(0o755)
        replay(root)
        shutil.rmtree(root / "src")
        yield root


def environment(image: Path) -> dict[str, str]:
    """What the image's ENV says."""
    pairs = (pair.split("=", 1) for line in of("ENV") for pair in line.split())
    placed = {name: re.sub(r"^(?=/(opt|home)/)", str(image), value) for name, value in pairs}
    return placed | {"PATH": placed["PATH"].replace("$PATH", os.environ["PATH"])}


def test_a_second_installation_gives_the_same_files(image):
    """From the locks with their hashes and the wheel, byte for byte, and byte code as well."""
    first = tree(image / "opt")
    (image / "opt").rename(image / "first")
    (image / "src").mkdir()
    replay(image, again=True)
    shutil.rmtree(image / "src")
    assert tree(image / "opt") == first


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
