"""The chart, rendered by Helm's own engine; Kustomize, as kubectl has it; and the API server's schemas."""

import functools
import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import referencing
import yaml

from tests import needs
from tests.deploy.support import DEPLOY

CHART = DEPLOY / "helm/camunda-sidecar"
RELEASE, NAMESPACE = "camunda-sidecar", "billing"
CUSTOM = ("kyverno.io", "monitoring.coreos.com", "external-secrets.io", "secrets-store.csi.x-k8s.io", "cert-manager.io")


@functools.cache
def _chart(path: Path):
    return needs.module("helm_python").Chart.load(path)


def values(name: str) -> dict:
    """One of the chart's own examples of values, in its folder `ci`."""
    return yaml.safe_load((CHART / "ci" / f"{name}-values.yaml").read_text())


def merged(first: dict, second: dict) -> dict:
    """Values over values, as Helm lays several files over one another."""
    both = {key: merged(first[key], second[key]) for key in first.keys() & second.keys() if _maps(first, second, key)}
    return first | second | both


def _maps(first: dict, second: dict, key: str) -> bool:
    return isinstance(first[key], dict) and isinstance(second[key], dict)


def files(given: dict, chart: Path = CHART) -> dict[str, str]:
    """What each template renders to; raises what `helm install` would say."""
    loaded = _chart(chart)
    loaded.validate_schema(given)
    return loaded.render(given, name=RELEASE, namespace=NAMESPACE)


def render(given: dict, chart: Path = CHART) -> list[dict]:
    """The objects that `helm install` would send."""
    return _rendered(json.dumps(given), chart)


@functools.cache
def _rendered(given: str, chart: Path) -> list[dict]:
    texts = [text for name, text in sorted(files(json.loads(given), chart).items()) if name.endswith(".yaml")]
    return [one for text in texts for one in yaml.load_all(text, yaml.CSafeLoader) if one]


def kustomize(folder: Path) -> list[dict]:
    """The objects that `kubectl apply -k` would send."""
    done = subprocess.run([kubectl(), "kustomize", folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def kubectl() -> str:
    """The wheel's, whatever else is on the PATH."""
    return needs.script("kubectl")


def one(objects: list[dict], kind: str) -> dict:
    [found] = [each for each in objects if each["kind"] == kind]
    return found


def pod_template(controller: dict) -> dict:
    """The pod that a controller's template makes."""
    spec = controller["spec"]
    return spec["jobTemplate"]["spec"]["template"] if controller["kind"] == "CronJob" else spec["template"]


def pod_of(controller: dict) -> dict:
    """The pod as the controller would create it."""
    template = pod_template(controller)
    metadata = {"name": "a-pod", "namespace": NAMESPACE} | template.get("metadata", {})
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}


def sidecar_in(spec: dict) -> dict:
    """The sidecar's container in a pod."""
    containers = [*spec.get("initContainers", []), *spec["containers"]]
    [found] = [container for container in containers if container["name"] == "camunda-sidecar"]
    return found


@functools.cache
def _schemas(version: str) -> tuple[Path, referencing.Registry]:
    package = Path(needs.module("kubernetes_validate").__file__).parent
    folder = package / f"kubernetes-json-schema/v{version}.0-local-strict"
    definitions = json.loads((folder / "_definitions.json").read_text())
    return folder, referencing.Resource.from_contents(definitions) @ referencing.Registry()


@functools.cache
def _validator(version: str, kind: str, api: str) -> jsonschema.Draft202012Validator:
    folder, registry = _schemas(version)
    group, _, name = api.rpartition("/")
    file = "-".join(part for part in (kind.lower(), group.partition(".")[0], name) if part)
    schema = json.loads((folder / f"{file}.json").read_text())
    return jsonschema.Draft202012Validator(schema, registry=referencing.Resource.from_contents(schema) @ registry)


def mistakes(objects: list[dict], version: str) -> list[str]:
    """What that version's API server would not accept; unknown fields included. Custom resources are left out."""
    known = [each for each in objects if each["apiVersion"].partition("/")[0] not in CUSTOM]
    return [mistake for each in known for mistake in _mistakes(json.dumps(each), version)]


@functools.cache
def _mistakes(text: str, version: str) -> list[str]:
    given = json.loads(text)
    errors = _validator(version, given["kind"], given["apiVersion"]).iter_errors(given)
    return [f"{given['kind']} {error.json_path}: {error.message[:200]}" for error in errors]


if __name__ == "__main__":  # python -m tests.deploy.charts VALUES: what the chart makes of one of its examples
    print(yaml.safe_dump_all(render(values(sys.argv[1])), sort_keys=False))  # noqa: T201
