"""Writes what is made of the chart and of its neighbours: `make manifests`, after any change to them.

Kustomize gets the objects that the chart renders for its examples of values, and patches with the chart's container.
The chart gets copies of the alerting rules and the dashboard, since it can read its own folder only. A test says when
one of them is behind.
"""

from __future__ import annotations

from pathlib import Path

import helm_python
import yaml

DEPLOY = Path(__file__).parent
CHART = DEPLOY / "helm/camunda-sidecar"
COPIES = ("alerts.yaml", "grafana/dashboard.json")
NAMESPACE = "billing"
HEAD = "# Made by `make manifests` from the Helm chart; adapt it in an overlay.\n"


def rendered(example: str, **extra: object) -> list[dict]:
    """The chart's objects for one of its examples, without the labels that are Helm's own."""
    values = yaml.safe_load((CHART / "ci" / f"{example}-values.yaml").read_text(encoding="utf-8")) | extra
    with helm_python.Chart.load(CHART) as chart:
        texts = chart.render(values, name="camunda-sidecar", namespace=NAMESPACE)
    documents = [one for name, text in texts.items() if name.endswith(".yaml") for one in yaml.safe_load_all(text)]
    return [_own(one) for one in documents if one]


def _own(one: dict) -> dict:
    for label in ("helm.sh/chart", "app.kubernetes.io/managed-by"):
        one["metadata"]["labels"].pop(label, None)
    one["metadata"].pop("namespace", None)  # an overlay's `namespace` says it
    annotations = one["spec"].get("template", {}).get("metadata", {}).get("annotations", {}) if "spec" in one else {}
    if annotations.pop("checksum/config", None) and not annotations:
        del one["spec"]["template"]["metadata"]["annotations"]
    return one


def made() -> dict[Path, str]:
    """Every file below deploy/ that is made, by its path there, with its content."""
    files = {
        CHART / "files" / Path(name).name: (DEPLOY / name).read_text(encoding="utf-8")
        for name in COPIES
        if (DEPLOY / name).exists()
    }
    kustomize = DEPLOY / "kustomize"
    for mode in ("pod", "node", "cluster"):
        for one in rendered(mode):
            kind, place = one["kind"].lower(), kustomize / "base" / mode
            if kind == "configmap" and "config.yaml" in one["data"]:
                files[place / "config.yaml"] = one["data"]["config.yaml"]
            elif kind == "podmonitor":
                files[kustomize / "monitoring" / ("pod" if mode == "pod" else "own") / "podmonitor.yaml"] = _dump(one)
            elif kind == "prometheusrule":
                files[kustomize / "monitoring/rules/prometheusrule.yaml"] = _dump(one)
            elif kind == "configmap":
                [(name, text)] = one["data"].items()
                files[kustomize / "monitoring/rules" / name] = text
            elif kind == "clusterpolicy":
                files[kustomize / "overlays/kyverno/clusterpolicy.yaml"] = _dump(one)
            else:
                files[place / f"{kind}.yaml"] = _dump(one)
    for example, component in (("pod", "sidecar"), ("pod-container", "sidecar-container")):
        [policy] = [one for one in rendered(example) if one["kind"] == "ClusterPolicy"]
        pod = policy["spec"]["rules"][0]["mutate"]["patchStrategicMerge"]
        place = kustomize / "components" / component
        if example == "pod-container":  # a Job would never end with it
            [config] = [one["data"]["config.yaml"] for one in rendered(example) if "config.yaml" in one.get("data", {})]
            files[kustomize / "overlays/pod-before-1.29/config.yaml"] = config
        files[place / "workload.yaml"] = _dump(_patch("Deployment", {"template": pod}))
        if example == "pod":
            files[place / "cronjob.yaml"] = _dump(_patch("CronJob", {"jobTemplate": {"spec": {"template": pod}}}))
    return files


def _patch(kind: str, spec: dict) -> dict:
    return {"apiVersion": "any", "kind": kind, "metadata": {"name": "any"}, "spec": spec}


def _dump(one: dict) -> str:
    return HEAD + yaml.safe_dump(one, sort_keys=False, width=116, allow_unicode=True)


if __name__ == "__main__":
    for path, text in made().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
