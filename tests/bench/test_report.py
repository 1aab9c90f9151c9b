"""The tables and the picture."""

import json
from xml.etree import ElementTree as ET

import pytest

from bench import picture, report
from bench.goals import goals
from bench.record import Notebook

_LABELS = {"haproxy": "HAProxy", "envoy": "Envoy", "sidecar": "camunda-sidecar"}


def _notebook():
    notebook = Notebook()
    for peer, rates in {
        "haproxy": [30000, 31000, 29000],
        "envoy": [9000, 9500, 9100],
        "sidecar": [27000, 28000, 25000],
    }.items():
        for section in ("throughput", "tls"):
            for rate in rates:
                notebook.add(section, "32 connections, varied", peer, **{"requests/s": float(rate)})
    notebook.add("startup", "cold", "sidecar", ms_to_ready=612.0)
    notebook.fault("throughput", "32 connections, varied", "envoy", "requests/s", ["3 status errors"])
    return notebook


def test_goals_compare_pairs_of_rounds():
    """Each goal has its target, what was reached, and whether that is enough."""
    found = {
        (goal.name, goal.target): (round(goal.reached.median, 2), goal.met)
        for goal in goals(_notebook())
        if goal.ours == "sidecar"
    }
    assert found == {
        ("requests/s, plain, 32 connections, varied, to haproxy's", 0.85): (0.9, True),
        ("requests/s, plain, 32 connections, varied, to envoy's", 2.0): (2.95, True),
        ("requests/s, TLS, 32 connections, varied, to haproxy's", 0.9): (0.9, True),
        ("requests/s, TLS, 32 connections, varied, to envoy's", 2.0): (2.95, True),
        ("start to ready", 350.0): (612.0, False),
    }


def test_the_tables_hold_figures_ratios_faults_and_environment():
    """Nothing that was measured or thrown away is left out."""
    text = report.markdown(_notebook(), {"kernel": "6.1"}, _LABELS)
    for part in (
        "30,000 ±3 %",
        "camunda-sidecar to HAProxy",
        "0.90 (0.86 to 0.90)",
        "- envoy, 32 connections, varied: 3 status errors",
        "| kernel | 6.1 |",
    ):
        assert part in text


def test_what_was_not_measured_is_a_dash():
    """A missing figure is never a zero."""
    assert report.cell(None) == "-"


def test_results_are_json():
    """Every round is kept, so that others can reckon anew."""
    kept = json.loads(report.as_json(_notebook(), {}))
    assert kept["records"][0]["rounds"] == [30000.0, 31000.0, 29000.0]
    assert kept["records"][0]["figure"]["median"] == 30000.0


def test_a_document_gets_the_table_between_its_markers():
    """The rest of the document stays as it is, and a second run replaces the first's table."""
    document = "before\n<!-- bench:begin -->\nold\n<!-- bench:end -->\nafter\n"
    once = report.between_markers(document, "a \\1 table")
    assert once == "before\n<!-- bench:begin -->\n\na \\1 table\n\n<!-- bench:end -->\nafter\n"
    assert report.between_markers(once, "a \\1 table") == once


@pytest.mark.parametrize("text", [None, "no markers here"])
def test_a_document_without_markers_is_left_alone(tmp_path, text):
    """Nobody's file is overwritten."""
    path = tmp_path / "README.md"
    if text is not None:
        path.write_text(text)
    assert report.put(path, "table") is False
    assert (path.read_text() if path.exists() else None) == text


def test_the_picture_is_valid_and_has_every_proxy():
    """Bars stand in order, the fastest first, and the picture says in words what it shows."""
    rows = picture.bars(_notebook(), "throughput", "32 connections, varied")
    drawn = ET.fromstring(picture.draw([("Plain & simple", rows)], _LABELS, "a note"))
    texts = [element.text for element in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert [text for text in texts if text in _LABELS.values()] == ["HAProxy", "camunda-sidecar", "Envoy"]
    assert "HAProxy 30,000" in drawn.attrib["aria-label"]
