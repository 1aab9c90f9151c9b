from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"


def documents(name: str) -> list[dict]:
    """Every YAML document of a file in deploy/."""
    return [document for document in yaml.safe_load_all((DEPLOY / name).read_text()) if document]


def of_kind(kind: str) -> dict:
    """The one document of that kind in the Kubernetes manifest."""
    [found] = [document for document in documents("kubernetes.yaml") if document["kind"] == kind]
    return found


def pod() -> dict:
    return of_kind("Deployment")["spec"]["template"]


def sidecar() -> dict:
    [found] = pod()["spec"]["initContainers"]
    return found
