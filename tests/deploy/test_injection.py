"""The Kyverno policy, applied to what a Deployment, a Job and a CronJob create.

Kyverno merges `patchStrategicMerge` by Kustomize's filter of that name, so `kubectl kustomize` gives its result. The
policy has no variables and no anchors, which are Kyverno's own and would not be tried here.
"""

import copy
import json

import pytest
import yaml

from tests.deploy.charts import NAMESPACE, kustomize, mistakes, one, pod_of, render, sidecar_in, values
from tests.deploy.pod_security import violations
from tests.deploy.support import DEPLOY

APPLICATION = DEPLOY / "examples/application"
ANNOTATION = {"camunda-sidecar/inject": "true"}


def policy(example: str) -> dict:
    return one(render(values(example)), "ClusterPolicy")


def workload(name: str) -> dict:
    return yaml.safe_load((APPLICATION / f"{name}.yaml").read_text())


def chosen(rule: dict, pod: dict) -> bool:
    """Whether the rule's `match` is met by a pod that is created."""
    [wanted] = [each["resources"] for each in rule["match"]["any"]]
    assert wanted.keys() == {"kinds", "operations", "namespaces", "annotations"}
    return (
        pod["kind"] in wanted["kinds"]
        and "CREATE" in wanted["operations"]
        and pod["metadata"]["namespace"] in wanted["namespaces"]
        and wanted["annotations"].items() <= pod["metadata"].get("annotations", {}).items()
    )


def admitted(pod: dict, folder, example: str = "pod") -> dict:
    """The pod as it is after the policy."""
    [rule] = policy(example)["spec"]["rules"]
    if not chosen(rule, pod):
        return pod
    patch = {key: pod[key] for key in ("apiVersion", "kind")} | rule["mutate"]["patchStrategicMerge"]
    patch["metadata"] = patch["metadata"] | {"name": pod["metadata"]["name"], "namespace": pod["metadata"]["namespace"]}
    folder.mkdir(exist_ok=True)
    (folder / "pod.json").write_text(json.dumps(pod))
    (folder / "patch.json").write_text(json.dumps(patch))
    (folder / "kustomization.yaml").write_text("resources: [pod.json]\npatches: [{path: patch.json}]\n")
    [made] = kustomize(folder)
    return made


@pytest.mark.parametrize("kind", ["deployment", "job", "cronjob"])
def test_a_legacy_pod_needs_nothing_but_the_annotation(kind, tmp_path):
    """Whoever makes the pod: it gets the sidecar, is accepted and restricted, and its own containers are as before."""
    before = pod_of(workload(kind))
    after = admitted(before, tmp_path)
    assert mistakes([after], "1.29") == mistakes([after], "1.37") == []
    assert violations(after) == []
    assert after["spec"]["containers"] == before["spec"]["containers"]
    assert sidecar_in(after["spec"])["restartPolicy"] == "Always"
    assert after["metadata"]["labels"] == before["metadata"]["labels"] | {"camunda-sidecar/injected": "true"}


def test_the_policy_makes_the_pod_that_kustomize_makes(tmp_path):
    """Two ways, one pod: what is tried with one holds for the other."""
    after = admitted(pod_of(workload("deployment")), tmp_path)
    assert after == pod_of(one(kustomize(DEPLOY / "kustomize/overlays/pod"), "Deployment"))


def test_it_is_up_before_the_pods_own_init_containers(tmp_path):
    """They may call Camunda too, for example to migrate; volumes of the pod stay."""
    pod = pod_of(workload("deployment"))
    pod["spec"] |= {
        "initContainers": [{"name": "migrate", "image": "example.com/migrate:1.0.0"}],
        "volumes": [{"name": "data", "emptyDir": {}}],
    }
    after = admitted(pod, tmp_path)
    assert [container["name"] for container in after["spec"]["initContainers"]] == ["camunda-sidecar", "migrate"]
    assert {"name": "data", "emptyDir": {}} in after["spec"]["volumes"]


def test_an_ordinary_container_comes_first(tmp_path):
    """Before Kubernetes 1.29: the kubelet starts containers in their order."""
    after = admitted(pod_of(workload("deployment")), tmp_path, "pod-container")
    assert mistakes([after], "1.25") == []
    assert [container["name"] for container in after["spec"]["containers"]] == ["camunda-sidecar", "orders"]


def test_a_second_time_changes_nothing(tmp_path):
    """A pod that has the sidecar already, by Kustomize or an earlier webhook, has one of it."""
    once = admitted(pod_of(workload("deployment")), tmp_path / "once")
    assert admitted(once, tmp_path / "twice") == once


def test_other_pods_are_left_alone(tmp_path):
    """Without the annotation, with another value, in another namespace."""
    pod = pod_of(workload("deployment"))
    bare, refusing, elsewhere = (copy.deepcopy(pod) for _ in range(3))
    del bare["metadata"]["annotations"]
    refusing["metadata"]["annotations"] = {"camunda-sidecar/inject": "false"}
    elsewhere["metadata"]["namespace"] = "another"
    for each in (bare, refusing, elsewhere):
        assert admitted(each, tmp_path) == each
    assert pod["metadata"]["namespace"] == NAMESPACE


def test_it_patches_pods_and_no_templates():
    """Kyverno would else patch Deployments and their like as well, and whoever compares them with git would see it."""
    given = policy("pod")
    assert given["metadata"]["annotations"]["pod-policies.kyverno.io/autogen-controllers"] == "none"
    assert "{{" not in json.dumps(given["spec"])
    assert "(" not in "".join(keys(given["spec"]["rules"][0]["mutate"]))


def keys(value: object) -> list[str]:
    """Every key in a tree: an anchor of Kyverno's is one in parentheses."""
    if isinstance(value, dict):
        return [*value, *(key for each in value.values() for key in keys(each))]
    return [key for each in value for key in keys(each)] if isinstance(value, list) else []
