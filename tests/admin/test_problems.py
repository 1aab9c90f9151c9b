"""What `/status` says is wrong, for each fact that can be there."""

import pytest
from msgspec.structs import replace

from sidecar.admin.problems import CODES, RECENT_SECONDS, changes, with_problems
from sidecar.admin.status_model import IssuerStatus, ProblemStatus, RouteStatus, StoreStatus, TokenStatus
from tests.admin.support import status

NOW = 1_800_000_060.0
"""What `status()` says the time is."""


def token(state, **more):
    return {"tokens": (TokenStatus(credential="cluster", audience="a", state=state, **more),)}


def route(failing, since, latest=None):
    given = {"name": "operate", "prefix": "/operate", "upstream": "https://u", "credential": "cluster"}
    return {"routes": (RouteStatus(**given, failing=failing, failing_since=since, failed_at=latest or since),)}


def cooling(until):
    return {"issuers": (IssuerStatus(issuer="https://issuer", min_interval=1.25, cooldown_until=until),)}


FOUND = {
    "refused, and nothing else to serve": (
        token("quarantined", detail="access_denied"),
        ("critical", "credential_refused", "cluster for a", "access_denied"),
    ),
    "refused while the last token serves": (
        token("stale", refused=True, expires_at=NOW + 60),
        ("warning", "credential_refused", "cluster for a", "refuses"),
    ),
    "a new secret is refused while the old one's token serves": (
        token("fresh", expires_at=NOW + 60, new_secret="refused", new_secret_detail="invalid_client"),
        ("warning", "new_secret_refused", "cluster for a", "invalid_client"),
    ),
    "a new secret is refused, and the old one's token is over": (
        token("expired", expires_at=NOW - 1, new_secret="refused"),
        ("critical", "new_secret_refused", "cluster for a", "refuses the new secret"),
    ),
    "a new secret has no token yet": (
        token("fresh", expires_at=NOW + 60, new_secret="pending", new_secret_detail="503"),
        ("warning", "new_secret_pending", "cluster for a", "503"),
    ),
    "a token cannot be renewed": (
        token("stale", expires_at=NOW + 60, detail="no answer"),
        ("warning", "token_not_renewed", "cluster for a", "no answer"),
    ),
    "a token is about to end and cannot be renewed": (
        token("expired", expires_at=NOW + 10, detail="no answer"),
        ("critical", "token_unavailable", "cluster for a", "no answer"),
    ),
    "no token was ever obtained": (
        token("none", detail="no answer"),
        ("critical", "token_unavailable", "cluster for a", "no answer"),
    ),
    "the issuer throttles": (
        cooling(NOW + 12),
        ("warning", "issuer_cooling_down", "https://issuer", "12 s"),
    ),
    "no connection to an upstream": (
        route("upstream_unreachable", NOW - 5),
        ("critical", "upstream_unreachable", "operate", "https://u"),
    ),
    "no connection to an upstream, for an hour": (
        route("upstream_unreachable", NOW - 3600, NOW - 5),
        ("critical", "upstream_unreachable", "operate", "https://u"),
    ),
    "an upstream that does not answer": (
        route("upstream_timeout", NOW - 5),
        ("warning", "upstream_failing", "operate", "upstream_timeout"),
    ),
    "an upstream that answers with errors": (
        {"routes": (replace(route("", NOW - 5)["routes"][0], recent_requests=19, recent_upstream_errors=10),)},
        ("critical", "upstream_errors", "operate", "10 of 19"),
    ),
    "a secret's file is empty": (
        {"secret_files": {"credentials.cluster.client_secret_file": "The file is empty."}},
        ("warning", "secret_file_unusable", "credentials.cluster.client_secret_file", "is empty"),
    ),
    "a reload was refused": (
        {"mistakes": ("config.yaml: routes: is empty", "config.yaml: x: is no key"), "reload_refused_at": NOW - 9},
        ("warning", "configuration_refused", "/etc/camunda-sidecar/config.yaml", "is empty; config.yaml: x: is no key"),
    ),
    "the store cannot be used": (
        {"store": StoreStatus(type="redis", location="redis:6379", up=False, detail="It did not answer.")},
        ("warning", "store_down", "redis redis:6379", "did not answer"),
    ),
    "a worker is missing": (
        {"workers": 4, "workers_missing": 1, "ready": False, "reason": "waiting for: worker 2"},
        ("warning", "workers_missing", "", "1 of 4"),
    ),
    "log lines were dropped": (
        {"log_lines_dropped": 640, "log_lines_dropped_at": NOW - 5},
        ("warning", "log_lines_dropped", "", "640"),
    ),
    "it drains": ({"ready": False, "reason": "draining"}, ("warning", "draining", "", "draining")),
    "it is not ready yet": (
        {"ready": False, "reason": "waiting for: listeners"},
        ("warning", "not_ready", "", "listeners"),
    ),
}

SILENT = {
    "a token that serves": token("fresh", expires_at=NOW + 60),
    "a token that serves, after a failure that is over": token("fresh", expires_at=NOW + 60, detail="no answer"),
    "a token that is being renewed": token("stale", expires_at=NOW + 60),
    "a token that nobody used until its end": token("expired", expires_at=NOW - 60),
    "a token that nobody wanted yet": token("none"),
    "a cool-down that is over": cooling(NOW - 1),
    "an upstream that nobody asked for long": route("upstream_unreachable", NOW - RECENT_SECONDS - 1),
    "an upstream that answers again": route("", NOW - 5),
    "log lines that were dropped long ago": {"log_lines_dropped": 1, "log_lines_dropped_at": NOW - RECENT_SECONDS - 1},
}


@pytest.mark.parametrize(("facts", "expected"), FOUND.values(), ids=FOUND)
def test_what_is_wrong_is_a_problem(facts, expected):
    """Each fact that an operator has to know gives exactly one problem, with its severity, subject, words and cure."""
    severity, code, subject, words = expected
    [problem] = with_problems(status(**facts)).problems
    assert (problem.severity, problem.code, problem.subject) == (severity, code, subject)
    assert words in problem.what
    assert problem.whose in {"host", "credential", "issuer", "upstream", "store"}
    assert len(problem.cure) > 20
    assert (problem.what + problem.cure).count("  ") == 0


@pytest.mark.parametrize("facts", SILENT.values(), ids=SILENT)
def test_what_is_well_is_no_problem(facts):
    """`status --check` can be a monitoring check: it is silent where nobody has to do anything."""
    assert with_problems(status(**facts)).problems == ()


def test_every_code_is_in_the_table_and_can_come():
    """No code without a case that gives it, none that a case gives without a cure."""
    assert {code for _, (_, code, _, _) in FOUND.values()} == CODES.keys()


def test_critical_ones_come_first():
    """Whoever reads only the first line reads the worst."""
    facts = {**token("quarantined"), "store": StoreStatus(type="memory", up=False), **cooling(NOW + 5)}
    found = [problem.severity for problem in with_problems(status(**facts)).problems]
    assert found == ["critical", "warning", "warning"]


def test_a_problem_keeps_the_moment_since_when_it_is_there():
    """New now, kept from one look to the next and from the first of several workers, forgotten when it is over."""
    down, up = ({"store": StoreStatus(type="memory", up=value)} for value in (False, True))
    first = with_problems(status(**down))
    later = with_problems(status(**down, uptime=90.0), first.problems)
    of_two = with_problems(status(**down, uptime=90.0), (*later.problems, changed(later.problems[0], NOW - 20)))
    over = with_problems(status(**up, uptime=120.0), later.problems)
    again = with_problems(status(**down, uptime=150.0), over.problems)
    assert [one.problems[0].since for one in (first, later, of_two, again)] == [NOW, NOW, NOW - 20, NOW + 90]
    assert over.problems == ()


def test_what_the_status_dates_itself_is_not_dated_anew():
    """A reload is refused at a moment, an upstream fails since a request: these stand in the status."""
    facts = {"mistakes": ("routes: is empty",), "reload_refused_at": NOW - 500, **route("upstream_timeout", NOW - 7)}
    assert [problem.since for problem in with_problems(status(**facts)).problems] == [NOW - 7, NOW - 500]


def test_what_begins_and_what_is_over_is_told_once():
    """The page's list of events is made of these words."""
    down, up = ({"store": StoreStatus(type="memory", up=value, detail="Gone.")} for value in (False, True))
    first, over = with_problems(status(**down)), status(**up)
    later = with_problems(status(**down, uptime=90.0), first.problems)
    assert list(changes((), first.problems, NOW)) == [("warning", "The token store (memory) cannot be used. Gone.")]
    assert list(changes(first.problems, later.problems, NOW + 30)) == []
    assert list(changes(later.problems, over.problems, NOW + 90)) == [
        ("over", "Over after 1 min 30 s: store_down (memory).")
    ]


def test_each_problem_has_a_command_for_this_configuration():
    """It can be pasted as it is; without a file there is nothing to name."""
    for file, option in (("/etc/a b.yaml", " --config '/etc/a b.yaml'"), ("environment", "")):
        [problem] = with_problems(status(**token("none", detail="x"), configuration=file)).problems
        assert problem.command == f"camunda-sidecar doctor{option}"


def changed(problem, since):
    return ProblemStatus(**{name: getattr(problem, name) for name in problem.__struct_fields__} | {"since": since})
