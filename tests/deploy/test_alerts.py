import re
import shutil
import subprocess

import pytest

from sidecar.telemetry.http import HttpStats
from sidecar.telemetry.metrics import Metrics
from tests.deploy.support import DEPLOY, documents
from tests.telemetry.support import ManualClock, samples


def known() -> set[str]:
    """Every metric's name, with a route and an identity registered."""
    stats = HttpStats()
    stats.route("operate")
    metrics = Metrics(stats, ManualClock())
    metrics.tokens.registered(issuer="https://issuer", credential="cluster", audience="operate.camunda.io")
    return {key[0] for key in samples(metrics)}


def rules() -> list[dict]:
    [document] = documents("alerts.yaml")
    return [rule for group in document["groups"] for rule in group["rules"]]


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_an_alert_asks_for_metrics_that_exist(rule):
    """An alert over a misspelt metric never fires."""
    asked = set(re.findall(r"camunda_sidecar_\w+", rule["expr"]))
    assert asked
    assert asked <= known()
    assert rule["annotations"].keys() == {"summary", "description"}


def test_prometheus_accepts_the_rules():
    """Checked by Prometheus' own tool where it is installed."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed here (Debian: apt-get install prometheus)")
    command = [promtool, "check", "rules", str(DEPLOY / "alerts.yaml")]
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
