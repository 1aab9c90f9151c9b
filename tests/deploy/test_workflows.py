"""The workflows, Renovate's configuration, and the pages for whoever contributes or reports."""

import json
import re
import subprocess
import tomllib

import pytest
import yaml

from sidecar import __version__
from tests import needs
from tests.deploy.support import ROOT

WORKFLOWS = {
    path.stem: yaml.safe_load(path.read_text()) for path in sorted((ROOT / ".github/workflows").glob("*.yaml"))
}
JOBS = [(name, job, each) for name, workflow in WORKFLOWS.items() for job, each in workflow["jobs"].items()]
EVERY = pytest.mark.parametrize("job", [each for *_, each in JOBS], ids=[f"{name}-{job}" for name, job, _ in JOBS])


def test_actionlint_has_nothing_to_say():
    """Syntax, expressions, shell scripts, and actions that are out of date."""
    done = subprocess.run([needs.script("actionlint")], cwd=ROOT, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("workflow", WORKFLOWS.values(), ids=WORKFLOWS)
def test_a_workflow_may_read_and_nothing_more(workflow):
    """A job that writes says what, and no pull request of a stranger's runs with secrets."""
    assert workflow["permissions"] == {"contents": "read"}
    assert "pull_request_target" not in workflow[True]  # YAML 1.1 reads `on` as true


@EVERY
def test_no_job_leaves_its_token_behind_or_runs_what_an_event_says(job):
    """The checkout keeps no credential in .git; a script gets the event's words as variables, never spliced in."""
    for step in job["steps"]:
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False
        assert not re.search(r"\$\{\{\s*(github\.(event|head_ref|ref_name|actor)|inputs)", step.get("run", ""))


@EVERY
def test_a_job_runs_what_the_repository_has(job):
    """`make` targets and scripts exist."""
    script = "\n".join(step.get("run", "") for step in job["steps"])
    targets = set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z-]+)", script)) <= targets
    for path in re.findall(r"(?:^| )((?:\.ci|requirements|deploy|tests)/[\w./-]+)", script):
        assert (ROOT / path).exists(), path


def test_a_release_builds_for_both_architectures_and_signs():
    """The image with its SBOM and provenance, by the workflow's own identity."""
    job = WORKFLOWS["release"]["jobs"]["image"]
    [build] = [step["with"] for step in job["steps"] if "build-push" in step.get("uses", "")]
    assert build["platforms"] == "linux/amd64,linux/arm64"
    assert (build["sbom"], build["provenance"]) == (True, "mode=max")
    assert any("cosign sign" in step.get("run", "") for step in job["steps"])
    assert job["permissions"]["id-token"] == "write"


def test_wheels_are_compiled_for_each_python_that_is_supported():
    """The classifiers' versions, with the data plane compiled."""
    [step] = [
        each for each in WORKFLOWS["release"]["jobs"]["wheels"]["steps"] if "cibuildwheel" in each.get("uses", "")
    ]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    versions = re.findall(r"Python :: (3)\.(\d+)$", "\n".join(project["classifiers"]), re.MULTILINE)
    assert step["env"]["CIBW_BUILD"].split() == [f"cp{major}{minor}-*" for major, minor in versions]
    assert "CAMUNDA_SIDECAR_COMPILED=1" in step["env"]["CIBW_ENVIRONMENT"]


def test_the_sbom_lists_every_package_of_the_lock(tmp_path):
    """The release's own command; each component has its version, and hashes from the lock."""
    script = "\n".join(step.get("run", "") for step in WORKFLOWS["release"]["jobs"]["source"]["steps"])
    [arguments] = re.findall(r"cyclonedx-py (.*)", script)
    command = arguments.replace("dist/", f"{tmp_path}/").split()
    done = subprocess.run(
        [needs.script("cyclonedx-py"), *command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    bom = json.loads((tmp_path / "camunda-sidecar.cdx.json").read_text())
    locked = dict(
        re.findall(r"^([a-z0-9-]+)==([^\s;]+)", (ROOT / "requirements/runtime.txt").read_text(), re.MULTILINE)
    )
    assert {each["name"]: each["version"] for each in bom["components"]} == locked
    assert bom["metadata"]["component"]["name"] == "camunda-sidecar"


def test_renovate_pins_digests_and_keeps_the_locks():
    """Base images and actions by digest; the locks by the command in their first lines."""
    given = json.loads((ROOT / "renovate.json").read_text())
    assert {"docker:pinDigests", "helpers:pinGitHubActionDigests"} <= {*given["extends"]}
    [pattern] = given["pip-compile"]["managerFilePatterns"]
    assert all(re.search(pattern.strip("/"), f"requirements/{name}.txt") for name in ("runtime", "build"))
    defaults = dict(re.findall(r"^ARG (\w+)=(\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
    stages = re.findall(r"^FROM \$\{(\w+)\}", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert [defaults[name].partition("@")[0].partition(":")[0] for name in stages] == ["python", "python"]


def test_a_release_begins_where_the_page_says():
    """Each file that CONTRIBUTING.md names has the version."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    for path in ("sidecar/__init__.py", "deploy/helm/camunda-sidecar/Chart.yaml"):
        assert f"`{path}`" in text
        assert __version__ in (ROOT / path).read_text()


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "SECURITY.md"])
def test_every_link_and_target_of_a_page_exists(page):
    """What it points at is there."""
    text = (ROOT / page).read_text()
    assert [path for path in re.findall(r"\]\(([^):#]+)\)", text) if not (ROOT / path).exists()] == []
    targets = set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`?make ([a-z-]+)", text)) <= targets | {"are", "test"}
