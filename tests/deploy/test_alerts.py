import re
import subprocess
import tomllib

import pytest

from sidecar.telemetry.http import HttpStats
from sidecar.telemetry.metrics import Metrics
from tests import needs
from tests.deploy.support import DEPLOY, ROOT, documents
from tests.telemetry.support import ManualClock, samples


def known() -> set[str]:
    """Every metric's name, with a route and an identity registered."""
    stats = HttpStats()
    stats.route("operate")
    metrics = Metrics(stats, ManualClock())
    metrics.tokens.registered(issuer="https://issuer", credential="cluster", audience="operate.camunda.io")
    metrics.config.secret_files(["credentials.cluster.client_secret_file"], {})
    return {key[0] for key in samples(metrics)}


def rules() -> list[dict]:
    [document] = documents("alerts.yaml")
    return [rule for group in document["groups"] for rule in group["rules"]]


def cases() -> list[dict]:
    [document] = documents("alerts.test.yaml")
    return document["tests"]


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_an_alert_asks_for_metrics_that_exist(rule):
    """An alert over a misspelt metric never fires."""
    asked = set(re.findall(r"camunda_sidecar_\w+", rule["expr"]))
    assert asked
    assert asked <= known()
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_an_alert_has_its_page_in_the_runbook(rule):
    """Whoever is woken by it finds a section of this project's documents."""
    base = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Documentation"]
    file, _, section = rule["annotations"]["runbook_url"].removeprefix(f"{base}/").partition("#")
    headings = re.findall(r"^## (.+)$", (ROOT / "docs" / file).read_text(), re.MULTILINE)
    assert section in {heading.lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_an_alert_has_a_case_that_fires_and_one_that_is_silent(rule):
    """Silent means: what it looks at is there, and gives no reason to fire."""
    asked = set(re.findall(r"camunda_sidecar_\w+", rule["expr"]))
    fires, silent = 0, 0
    for case in cases():
        expected = str([expectation.get("exp_samples") for expectation in case["promql_expr_test"]])
        there = {series["series"].partition("{")[0] for series in case["input_series"]}
        fires += f'alertname="{rule["alert"]}"' in expected
        silent += rule["alert"] not in expected and asked <= there
    assert fires, "no case in deploy/alerts.test.yaml in which it fires"
    assert silent, "no case in deploy/alerts.test.yaml in which it is silent although its metrics are there"


@pytest.mark.parametrize("command", ["check rules alerts.yaml", "test rules alerts.test.yaml"])
def test_prometheus_accepts_the_rules_and_their_cases(command):
    """By Prometheus' own tool."""
    promtool = needs.program("promtool", package="prometheus")
    result = subprocess.run([promtool, *command.split()], cwd=DEPLOY, check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
