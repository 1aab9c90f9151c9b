"""Each command of docs/kubernetes.md is run as far as it goes without an API server."""

import json
import re
import shlex
import subprocess

import pytest
import yaml

from tests import needs
from tests.deploy.charts import CHART, NAMESPACE, kubectl, kustomize, mistakes, one, pod_of, render, values
from tests.deploy.pod_security import violations
from tests.deploy.support import DEPLOY, ROOT
from tests.deploy.test_chart import loaded, pods
from tests.deploy.test_injection import admitted

PAGE = (ROOT / "docs/kubernetes.md").read_text()
[VALUES] = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
BLOCKS = "".join(re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)).replace("\\\n", " ")
COMMANDS = [line for line in BLOCKS.splitlines() if line and not line.startswith("PASSWORD=")]
SERVER = ("get", "logs", "exec", "port-forward", "rollout", "apply", "label")


def commands(*words: str) -> list[list[str]]:
    """The page's commands that begin with a program and have a subcommand, without the namespace's option."""
    program, *rest = words
    split = [
        shlex.split(re.sub(r"\$\([^)]*\)|\$PASSWORD", "generated", line).replace(f"--namespace {NAMESPACE} ", ""))
        for line in COMMANDS
    ]
    return [parts for parts in split if parts[0] == program and (not rest or parts[1] in rest)]


def run(command: list[str]) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stderr}"
    return done.stdout


def test_every_command_has_its_test():
    """None stands on the page that nothing here looks at."""
    seen = [*commands("kubectl", "create", "kustomize", "patch", *SERVER), *commands("helm"), *commands("docker")]
    assert len(seen) == len(COMMANDS)


@pytest.mark.parametrize("command", commands("kubectl", "create"), ids=" ".join)
def test_what_is_created_is_accepted(command):
    """`kubectl create` as it stands there, by itself."""
    made = json.loads(run([kubectl(), *command[1:], "--dry-run=client", "--output=json"]))
    made["metadata"].pop("creationTimestamp", None)
    assert mistakes([made], "1.37") == []


def test_the_secrets_have_the_keys_that_the_values_name():
    """What the page creates is what its values mount."""
    created = {}
    for command in commands("kubectl", "create"):
        if command[2] == "secret":
            created[command[4]] = {part.split("=")[1] for part in command if part.startswith("--from-literal=")}
    for given in (yaml.safe_load(VALUES), values("cluster")):
        for secret in given["secrets"].values():
            wanted = {*secret.get("keys", []), *secret.get("env", {}).values()}
            assert wanted <= created.get(secret["name"], wanted)


def test_the_values_render_to_what_is_accepted_and_restricted(tmp_path):
    """`helm lint`, `helm template` and `helm upgrade` with the page's values; and the sidecar loads what comes out."""
    given = yaml.safe_load(VALUES)
    objects = render(given)
    assert mistakes(objects, "1.29") == mistakes(objects, "1.37") == []
    assert [violations(pod) for pod in pods(objects) if pod["spec"]["containers"][0]["name"] != "application"] == []
    assert loaded(given, tmp_path).routes


def test_helm_is_called_with_what_is_there():
    """The chart and the files of values exist, and the release has the name and namespace of the examples."""
    assert {command[1] for command in commands("helm")} == {"lint", "template", "upgrade"}
    for command in commands("helm"):
        paths = [part for part in command if part.startswith("deploy/")]
        assert all((ROOT / path).exists() for path in paths)
        assert str(CHART.relative_to(ROOT)) in paths


@pytest.mark.parametrize("command", commands("kubectl", "kustomize"), ids=" ".join)
def test_kustomize_makes_the_objects(command):
    """`kubectl kustomize` as it stands there; `kubectl apply --kustomize` applies the same."""
    assert run([kubectl(), *command[1:]])
    assert [other[-1] for other in commands("kubectl", "apply") if "--kustomize" in other] == [command[-1]]


def test_the_patched_deployment_makes_pods_that_get_the_sidecar(tmp_path):
    """The page's `kubectl patch`, applied to a Deployment without the annotation, and then the policy."""
    [command] = commands("kubectl", "patch")
    given = yaml.safe_load((DEPLOY / "examples/application/deployment.yaml").read_text())
    del given["spec"]["template"]["metadata"]["annotations"]
    (tmp_path / "orders.json").write_text(json.dumps(given))
    words = [part for part in command[2:] if part not in {"deployment", "orders"}]
    text = run([kubectl(), "patch", f"--filename={tmp_path}/orders.json", "--local", "--output=json", *words])
    pod = admitted(pod_of(json.loads(text)), tmp_path / "policy")
    assert pod["spec"]["initContainers"][0]["name"] == "camunda-sidecar"


@pytest.mark.parametrize("command", commands("kubectl", *SERVER), ids=" ".join)
def test_what_needs_a_server_can_be_typed(command):
    """The subcommand is kubectl's, and so is each option; what it names is made on this page."""
    own = command[: command.index("--")] if "--" in command else command
    subcommand = own[1:3] if own[1] == "rollout" else own[1:2]
    told = run([kubectl(), *subcommand, "--help"]) + run([kubectl(), "options"])
    assert [part for part in own if part.startswith("--") and f"{part.split('=')[0]}=" not in told] == []
    files = [part for part in own if part.startswith("deploy/")]
    assert all((ROOT / path).exists() for path in files)


def test_the_examples_of_secrets_make_what_the_chart_mounts():
    """External Secrets and cert-manager make Secrets of the examples' names, the CSI driver files."""
    files = {path.stem: yaml.safe_load(path.read_text()) for path in (DEPLOY / "examples/secrets").glob("*.yaml")}
    named = {secret["name"] for example in ("pod", "cluster") for secret in values(example)["secrets"].values()}
    external = files["external-secret"]["spec"]
    assert external["target"]["name"] in named
    camunda = values("pod")["secrets"]["camunda"]
    assert {each["secretKey"] for each in external["data"]} == {*camunda["keys"], *camunda["env"].values()}
    certificate = files["certificate"]["spec"]
    assert certificate["secretName"] in named
    hosts = yaml.safe_load(one_config(render(values("cluster"))))["guard"]["hosts"]
    assert certificate["dnsNames"] == hosts
    objects = yaml.safe_load(files["secret-provider-class"]["spec"]["parameters"]["objects"])
    assert [each["objectName"] for each in objects] == camunda["keys"]


def one_config(objects: list[dict]) -> str:
    return one([each for each in objects if "config.yaml" in each.get("data", {})], "ConfigMap")["data"]["config.yaml"]


def test_kustomize_is_what_kubectl_has():
    """The overlays that the page names are there."""
    for folder in re.findall(r"\(\.\./(deploy/kustomize/overlays/[\w.-]+)\)", PAGE):
        assert kustomize(ROOT / folder)
    assert needs.script("kubectl")
