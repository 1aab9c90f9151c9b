"""The status page's script, run by Node.js on a document of its own."""

import json
import subprocess
from pathlib import Path

import msgspec
import pytest

from sidecar.admin.page import load_page
from sidecar.admin.problems import with_problems
from sidecar.admin.status_model import StoreStatus, TokenStatus
from tests import needs
from tests.admin.support import status

SCRIPT = Path(__file__).with_name("show_page.mjs")


def shown(told) -> dict:
    """What stands on the page when `/status` answers `told`: class, visibility and text of each element by its id."""
    node = needs.program("node", package="nodejs")
    given = json.dumps({"page": load_page()[0].decode(), "status": msgspec.to_builtins(with_problems(told))})
    done = subprocess.run([node, SCRIPT], input=given, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


REFUSED = {"tokens": (TokenStatus(credential="cluster", state="quarantined", detail="access_denied"),)}
DOWN = {"store": StoreStatus(type="redis", location="redis:6379", up=False)}
DRAINING = {"ready": False, "reason": "draining"}


@pytest.mark.parametrize(
    ("facts", "tone", "word"),
    [
        ({}, "ready", "ready"),
        (DOWN, "warning", "ready"),
        ({**DOWN, **REFUSED}, "critical", "ready"),
        (DRAINING, "warning", "draining"),
    ],
)
def test_the_header_is_green_only_without_problems(facts, tone, word):
    """Amber for a warning and for a drain, red for a critical problem: green only where all is well."""
    page = shown(status(**facts))
    assert (page["ready"]["className"], page["ready"]["text"]) == (f"pill {tone}", word)
    assert "lost" not in page["classes"]


def test_the_page_begins_with_the_problems():
    """Each with its cure and the worst first, above the routes; where there are none, there is no such section."""
    page = shown(status(**DOWN, **REFUSED))
    html = load_page()[0]
    assert html.index(b'id="problems"') < html.index(b'id="routes"')
    assert page["wrong"]["hidden"] is False
    assert page["problems"]["text"].index("credential_refused") < page["problems"]["text"].index("store_down")
    assert "camunda-sidecar doctor" in page["problems"]["text"]
    assert shown(status())["wrong"]["hidden"] is True
