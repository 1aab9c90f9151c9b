"""What Prometheus makes of the dashboard and the alerts: a real one, which scrapes a running sidecar with traffic."""

from __future__ import annotations

import json
import math
import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import yaml

from tests import needs
from tests.acceptance.peers import Request, grants, peer, says
from tests.acceptance.support import SECRET, Sidecar, ask, configuration, running, until
from tests.deploy.support import DEPLOY

DASHBOARD = json.loads((DEPLOY / "grafana/dashboard.json").read_text())
VARIABLES = {"$__rate_interval": "1m", "$job": ".*", "$instance": ".*", "$route": ".*"}
ROWS = ["Token life", "Budget", "Routes", "Store", "Process"]


class Prometheus:
    def __init__(self, address: str) -> None:
        self._address = address

    def api(self, path: str) -> Any:
        reply = ask(self._address, f"/api/v1/{path}")
        answer = json.loads(reply.body)
        assert answer["status"] == "success", (path, answer)
        return answer["data"]

    def values(self, expression: str) -> list[float]:
        """Of each series of the result."""
        data = self.api(f"query?query={quote(expression)}")
        series = [data] if data["resultType"] == "scalar" else data["result"]
        return [float(each["value"][1]) for each in series]

    def is_up(self) -> bool:
        try:
            return self.values("up") == [1.0] and bool(self.values("camunda_sidecar_build_info"))
        except (OSError, ValueError):  # it is not ready, which it says in plain text
            return False


@contextmanager
def scraping(directory: Path, sidecar: Sidecar) -> Iterator[Prometheus]:
    program = needs.program("prometheus", package="prometheus")
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    file = directory / "prometheus.yaml"
    file.write_text(
        yaml.safe_dump(
            {
                "global": {"scrape_interval": "500ms", "evaluation_interval": "500ms"},
                "rule_files": [str(DEPLOY / "alerts.yaml")],
                "scrape_configs": [{"job_name": "sidecar", "static_configs": [{"targets": [sidecar.admin]}]}],
            }
        )
    )
    options = [f"--config.file={file}", f"--storage.tsdb.path={directory / 'tsdb'}", f"--web.listen-address={address}"]
    with (directory / "prometheus.log").open("wb") as log:
        process = subprocess.Popen([program, *options], stdout=log, stderr=log)
    try:
        prometheus = Prometheus(address)
        until(prometheus.is_up, "Prometheus has scraped the sidecar")
        yield prometheus
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """One that has seen good answers, an upstream's errors, and errors of the sidecar's own."""
    directory = tmp_path_factory.mktemp("prometheus")
    secret = directory / "secret"
    secret.write_text(SECRET)

    def answers(request: Request, client: socket.socket) -> None:
        says(500 if "broken" in request.target else 200)(request, client)

    with peer(grants()) as issuer, peer(answers) as upstream:
        routes = {
            "operate": {"upstream": upstream.url, "audience": "operate.camunda.io"},
            "gone": {"upstream": "http://127.0.0.1:1", "audience": "operate.camunda.io"},
        }
        written = configuration(directory, f"{issuer.url}/oauth/token", routes)
        del written["credentials"]["cluster"]["client_secret"]
        written["credentials"]["cluster"]["client_secret_file"] = str(secret)
        with running(directory, written) as sidecar, scraping(directory, sidecar) as found:
            for path in ("/operate/x", "/operate/broken", "/gone/x") * 3:
                sidecar.ask(path)
            until(lambda: found.values("sum(camunda_sidecar_http_requests_total)") == [9.0], "the traffic was scraped")
            yield found


def expressions() -> dict[str, str]:
    found = {}
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", []):
            expression = target["expr"]
            for name, value in VARIABLES.items():
                expression = expression.replace(name, value)
            found[f"{panel['title']} {target['refId']}"] = expression
    return found


def test_the_dashboard_has_its_rows_and_variables() -> None:
    """A row each for token life, budget, routes, store and process; each panel can be narrowed to an instance."""
    assert [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"] == ROWS
    assert [each["name"] for each in DASHBOARD["templating"]["list"]] == ["datasource", "job", "instance", "route"]
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", []):
            for selector in re.findall(r"\{([^}]*)\}", target["expr"]):
                assert 'job=~"$job", instance=~"$instance"' in selector, panel["title"]
            assert "http_" not in target["expr"] or 'route=~"$route"' in target["expr"], panel["title"]
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_every_expression_of_the_dashboard_answers(prometheus: Prometheus) -> None:
    """No panel is empty for a misspelt metric or label; durations are numbers where there was a request."""

    def silent() -> dict[str, list[float]]:
        answers = {title: prometheus.values(expression) for title, expression in expressions().items()}
        return {title: values for title, values in answers.items() if not values or all(map(math.isnan, values))}

    try:
        until(lambda: not silent(), "every panel has data", 10)
    finally:
        assert silent() == {}


def test_every_alert_is_understood_and_none_fires_without_trouble(prometheus: Prometheus) -> None:
    """Its expression is evaluated without an error, and whatever it looks at is there."""
    until(lambda: all(rule["health"] != "unknown" for rule in _rules(prometheus)), "every rule was evaluated")
    for rule in _rules(prometheus):
        assert (rule["health"], rule.get("lastError")) == ("ok", None), rule["name"]
        assert rule["state"] != "firing", rule["name"]
        for name in set(re.findall(r"camunda_sidecar_\w+", rule["query"])):
            assert prometheus.values(f"count({name})"), (rule["name"], name)


def test_every_variable_has_values(prometheus: Prometheus) -> None:
    """What the user chooses from."""
    for each in DASHBOARD["templating"]["list"][1:]:
        matched = re.fullmatch(r"label_values\((.*), (\w+)\)", each["definition"])
        assert matched is not None
        selector = matched[1].replace("$job", ".*").replace("$instance", ".*")
        assert prometheus.api(f"label/{matched[2]}/values?match[]={quote(selector)}"), each["name"]


def _rules(prometheus: Prometheus) -> list[dict[str, Any]]:
    return [rule for group in prometheus.api("rules")["groups"] for rule in group["rules"]]
