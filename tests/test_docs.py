"""What the code has, the documents tell; what they tell, the code has."""

import importlib
import json
import pkgutil
import re
from pathlib import Path
from typing import get_args

import pytest
import yaml
from click.testing import CliRunner

import sidecar
from sidecar import background
from sidecar.admin.problems import CODES
from sidecar.cli import COMMANDS, main
from sidecar.config import load
from sidecar.config.products import PRODUCTS
from sidecar.config.resolve import RESPONSE_SECONDS
from sidecar.config.scalars import show_duration
from sidecar.errors import Problem
from sidecar.telemetry.http import HttpStats
from sidecar.telemetry.http_collector import CONNECTION_STATES, GUARD_REASONS, RETRY_REASONS
from sidecar.telemetry.metrics import Metrics
from sidecar.telemetry.token_metrics import STATES
from tests import pictures
from tests.telemetry.support import ManualClock

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
OPERATIONS = (ROOT / "docs/operations.md").read_text()
CONFIGURATION = (ROOT / "docs/configuration.md").read_text()
RUNBOOK = (ROOT / "docs/runbook.md").read_text()
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


def problems() -> set[type[Problem]]:
    for module in pkgutil.walk_packages(sidecar.__path__, "sidecar."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)

    def below(kind):
        for child in kind.__subclasses__():
            yield child
            yield from below(child)

    return set(below(Problem))


def metrics() -> dict[str, tuple[str, frozenset[str]]]:
    """Every metric by its exposed name: its type and labels."""
    stats = HttpStats()
    stats.route("operate")
    stats.clients["billing", "allowed"] += 1
    made = Metrics(stats, ManualClock())
    made.tokens.registered(issuer="https://issuer", credential="cluster", audience="operate.camunda.io")
    made.config.secret_files(["credentials.cluster.client_secret_file"], {})
    found = {}
    for family in made.registry.collect():
        if family.name.startswith("camunda_sidecar_"):
            labels = {label for sample in family.samples for label in sample.labels} - {"le"}
            name = f"{family.name}_total" if family.type == "counter" else family.name
            found[name] = (family.type, frozenset(labels))
    return found


def table(text: str, *columns: str) -> list[tuple[str, ...]]:
    """The rows of the Markdown table whose head begins with `columns`."""
    lines = iter(text.splitlines())
    wanted = list(columns)
    for line in lines:
        if cells(line)[: len(wanted)] == wanted:
            next(lines)
            rows = []
            for row in lines:
                if not row.startswith("|"):
                    break
                rows.append(tuple(cells(row)))
            return rows
    raise AssertionError(f"no table {columns}")


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split(" | ")] if line.startswith("|") else []


def test_the_metrics_table_is_the_registry():
    """Every metric with its type and exactly its labels, and none that does not exist."""
    told = {}
    for name, kind, *_ in table(OPERATIONS, "metric", "type"):
        matched = re.fullmatch(r"`(\w+)(?:\{([\w,]+)\})?`", name)
        told[matched[1]] = (kind, frozenset((matched[2] or "").split(",")) - {""})
    assert told == metrics()


def test_no_document_names_a_metric_that_does_not_exist():
    """A name in running text, too, is one that a reader can look up."""
    for document in DOCUMENTS:
        named = set(re.findall(r"camunda_sidecar_\w+", document.read_text()))
        assert named <= set(metrics()), document.name


def test_the_label_values_stand_beside_their_metrics():
    """A fixed set of values is told completely."""
    rows = {row[0]: row[2] for row in table(OPERATIONS, "metric", "type")}
    sets = {
        "guard_rejections": GUARD_REASONS,
        "upstream_retries": RETRY_REASONS,
        "upstream_connections": CONNECTION_STATES,
        "background_failures": get_args(background.Work),
        "token_state": STATES,
    }
    for part, values in sets.items():
        [text] = [text for name, text in rows.items() if part in name]
        assert [value for value in values if f"`{value}`" not in text] == []


def test_the_error_table_is_the_error_tree():
    """Every code with its status, and none that does not exist."""
    told = {(int(status), code.strip("`")) for status, code, *_ in table(README, "status", "code")}
    assert told == {(problem.status, problem.code) for problem in problems()}


def test_the_products_time_limits_are_told():
    """How long each product's response may take, as the code has it; 0s is no limit."""
    rows = table(CONFIGURATION, "product", "`timeouts.response`")
    told = {product.strip("`"): limit.partition(",")[0].strip("`") for product, limit, *_ in rows}
    assert told.pop("none of them") == show_duration(RESPONSE_SECONDS)
    assert told == {name: show_duration(product.response_timeout) for name, product in PRODUCTS.items()}


def test_the_runbook_has_an_entry_for_every_alert_and_error_code():
    """What it means, what users notice, what to look at, what to do; and no entry for what does not exist."""
    [alerts] = (yaml.safe_load((ROOT / "deploy/alerts.yaml").read_text())["groups"],)
    wanted = {rule["alert"] for group in alerts for rule in group["rules"]} | {problem.code for problem in problems()}
    entries = dict(re.findall(r"^## (\w+)\n\n(.*?)(?=^#|\Z)", RUNBOOK, re.MULTILINE | re.DOTALL))
    assert entries.keys() == wanted
    for name, entry in entries.items():
        assert re.findall(r"^- \*\*(.+):\*\*", entry, re.MULTILINE) == [
            "Means",
            "Users notice",
            "Look at",
            "Do",
        ], name


def test_the_problem_table_is_the_codes_of_status():
    """A script that reads `/status` finds each code that it can meet, and none that does not exist."""
    assert {row[0].strip("`") for row in table(OPERATIONS, "problem", "severity")} == CODES.keys()


def test_the_command_table_is_the_command_line():
    """Every command with the line that `--help` has for it."""
    assert {name.strip("`"): text for name, text in table(README, "command")} == COMMANDS


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_exists_and_explains_itself(name):
    """A command that is listed can be asked for help."""
    result = CliRunner().invoke(main, [name, "--help"])
    assert result.exit_code == 0, result.output
    assert len(result.output.splitlines()) > 5


def test_every_option_of_a_documented_command_line_exists():
    """`camunda-sidecar x --y` in a document is one that can be typed."""
    for document in DOCUMENTS:
        for name, rest in re.findall(r"camunda-sidecar (\w+)([^`\n]*)", document.read_text()):
            if name in COMMANDS:
                told = CliRunner().invoke(main, [name, "--help"]).output
                assert [option for option in re.findall(r"--[\w-]+", rest) if option not in told] == [], (name, rest)


def test_every_configuration_key_stands_in_the_configuration_page():
    """Each property of the JSON Schema, at whatever depth."""

    def keys(schema):
        if isinstance(schema, dict):
            yield from schema.get("properties", {})
            for value in schema.values():
                yield from keys(value)
        if isinstance(schema, list):
            for item in schema:
                yield from keys(item)

    schema = json.loads(CliRunner().invoke(main, ["check", "--schema"]).output)
    found = set(keys(schema))
    assert len(found) > 50
    assert sorted(key for key in found if f"`{key}`" not in CONFIGURATION) == []


def test_the_readmes_configuration_is_valid(tmp_path):
    """The ten lines are ten lines, and load."""
    [example] = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    assert len(example.splitlines()) == 10
    secret = tmp_path / "client-secret"
    secret.write_text("secret")
    file = tmp_path / "config.yaml"
    file.write_text(example.replace("/run/secrets/zeebe/client-secret", str(secret)))
    settings = load(file, {"ZEEBE_CLIENT_ID": "client"})
    assert [route.prefix for route in settings.routes.values()] == ["/operate", "/optimize", "/zeebe"]
    assert yaml.safe_load(example)["saas"]["cluster_id"] in README.split("After:")[0]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(document):
    """Relative links are files here, and their anchors headings there."""
    for target in re.findall(r"\]\(([^)]+)\)", document.read_text()):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (document.parent / path).resolve() if path else document
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}, target


def test_every_make_target_that_is_told_exists():
    """The commands of the README are the Makefile's."""
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for document in DOCUMENTS:
        assert set(re.findall(r"\bmake (demo|test|setup|check|bench|format|clean)\b", document.read_text())) <= targets


def test_the_pictures_are_the_codes_tables():
    """`python -m tests.pictures` draws them anew from the imports, the exchange's stages and the token's states."""
    page = pictures.PAGE.read_text()
    assert page == pictures.drawn(page), "run: python -m tests.pictures"


def test_ten_likely_changes_have_a_file_to_begin_in():
    """Each row leads to a file that is there; that every link does is tested for all documents."""
    rows = table(pictures.PAGE.read_text(), "to add or change", "begin in")
    assert len(rows) >= 10
    assert [what for what, begin, _ in rows if "](../" not in begin and "`" not in begin] == []
