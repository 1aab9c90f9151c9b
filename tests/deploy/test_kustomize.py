"""Kustomize, as kubectl has it, makes the same objects as Helm; and three ways to add the container make one pod."""

import shutil

import pytest
import yaml

from tests import needs
from tests.deploy.charts import CHART, kustomize, mistakes, one, pod_of, render, sidecar_in, values
from tests.deploy.pod_security import violations
from tests.deploy.support import DEPLOY

OVERLAYS = DEPLOY / "kustomize/overlays"
SAME = {"kyverno": "pod", "pod": "pod", "pod-before-1.29": "pod-container", "node": "node", "cluster": "cluster"}
WORKLOADS = ("Deployment", "Job", "CronJob")
EVERY = pytest.mark.parametrize(("overlay", "example"), SAME.items(), ids=SAME)


def plain(objects: list[dict]) -> dict[tuple[str, str], dict]:
    """By kind and name, without what only a Helm release has."""
    for each in objects:
        for label in ("helm.sh/chart", "app.kubernetes.io/managed-by"):
            each["metadata"]["labels"].pop(label, None)
        template = each.get("spec", {}).get("template", {})
        template.get("metadata", {}).pop("annotations", None)
    return {(each["kind"], each["metadata"]["name"]): each for each in objects}


@EVERY
def test_an_overlay_makes_the_charts_objects(overlay, example):
    """All that Helm makes for the same values, field by field; the applications and the policy aside."""
    made = plain([each for each in kustomize(OVERLAYS / overlay) if each["metadata"]["name"] not in APPLICATIONS])
    wanted = plain(copied(render(values(example))))
    if overlay != "kyverno":
        wanted = {key: each for key, each in wanted.items() if key[0] != "ClusterPolicy"}
    assert made == wanted


APPLICATIONS = {"orders", "import", "report"}


def copied(objects: list[dict]) -> list[dict]:
    """Renderings are kept for other tests."""
    return yaml.safe_load(yaml.safe_dump(objects))


def test_what_is_made_of_the_chart_is_not_behind_it():
    """`make manifests` writes it anew after a change of the chart, the alerting rules or the dashboard."""
    needs.module("helm_python")
    from deploy.manifests import made  # noqa: PLC0415 (it needs Helm)

    behind = [
        str(path.relative_to(DEPLOY)) for path, text in made().items() if not path.exists() or path.read_text() != text
    ]
    assert behind == [], "run `make manifests`"


@EVERY
def test_an_overlay_is_accepted_and_restricted(overlay, example):
    """By the API server's schemas, oldest and newest, and in each pod whatever the profile `restricted` says."""
    objects = kustomize(OVERLAYS / overlay)
    for version in ("1.29" if overlay in {"pod", "kyverno"} else "1.25", "1.37"):
        assert mistakes(objects, version) == []
    for workload in (each for each in objects if each["kind"] in {*WORKLOADS, "DaemonSet"}):
        assert violations(pod_of(workload)) == []


def test_a_job_and_a_cron_job_get_a_sidecar_that_ends_with_them():
    """As an init container that restarts always; an ordinary one would keep a Job from ending and is not added."""
    native, ordinary = kustomize(OVERLAYS / "pod"), kustomize(OVERLAYS / "pod-before-1.29")
    for kind in WORKLOADS:
        assert sidecar_in(pod_of(one(native, kind))["spec"])["restartPolicy"] == "Always"
        names = [container["name"] for container in pod_of(one(ordinary, kind))["spec"]["containers"]]
        assert ("camunda-sidecar" in names) is (kind == "Deployment")
        assert names[0] == ("camunda-sidecar" if kind == "Deployment" else names[-1])


def test_an_applications_own_chart_includes_the_same_container(tmp_path):
    """The chart's templates as a library: the pod is the one that Kustomize makes."""
    shutil.copytree(DEPLOY / "examples/helm-application", tmp_path / "orders")
    shutil.copytree(CHART, tmp_path / "orders/charts/camunda-sidecar")
    objects = render({}, tmp_path / "orders")
    assert mistakes(objects, "1.29") == mistakes(objects, "1.37") == []
    mine, other = (pod_of(one(made, "Deployment")) for made in (objects, kustomize(OVERLAYS / "pod")))
    other["metadata"].pop("annotations")
    assert mine == other
    assert {each["kind"] for each in objects} == {"Deployment", "ConfigMap"}
