"""What several workers' `/status` is together."""

from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families

from sidecar.admin.problems import with_problems
from sidecar.admin.status_model import IssuerStatus, RouteStatus, StoreStatus, TokenStatus
from sidecar.workers.merge_status import merge_status
from tests.admin.support import status


def route(name="operate", **counts) -> RouteStatus:
    return RouteStatus(name=name, prefix=f"/{name}", upstream="http://u", credential="cluster", **counts)


def token(state, **more) -> TokenStatus:
    return TokenStatus(credential="cluster", audience="a", issuer="https://issuer", state=state, **more)


def issuer(**more) -> IssuerStatus:
    return IssuerStatus(issuer="https://issuer", min_interval=1.25, **more)


METRICS = """\
# TYPE camunda_sidecar_http_requests_total counter
camunda_sidecar_http_requests_total{route="operate",code="200",source="upstream"} 5
camunda_sidecar_http_requests_total{route="operate",code="504",source="sidecar"} 2
camunda_sidecar_http_requests_total{route="new",code="200",source="upstream"} 1
# TYPE camunda_sidecar_token_requests_total counter
camunda_sidecar_token_requests_total{issuer="https://issuer/oauth/token",audience="a",outcome="success"} 3
camunda_sidecar_token_requests_total{issuer="https://other/oauth/token",audience="a",outcome="success"} 9
"""
"""Of workers that are there, and of one that died."""


def merged(first, others):
    return merge_status(first, others, list(text_string_to_metric_families(METRICS)))


def test_routes_add_up_and_the_first_speaks_for_the_process():
    """Counts include those of workers that died; a route that one has only just got is kept."""
    first = status(pid=1, routes=(route(requests=2, errors=1, in_flight=1),))
    other = status(pid=2, routes=(route(requests=3, errors=1, in_flight=4), route("new", requests=1)))
    whole = merged(first, {1: other})
    assert whole.pid == 1
    assert whole.routes == (route(requests=7, errors=2, in_flight=5), route("new", requests=1))


def test_a_token_is_told_by_who_knows_most():
    """A quarantine before a token, the later end before the earlier, a token before none."""
    none, old, new = token("none"), token("stale", expires_at=10.0), token("fresh", expires_at=20.0)
    refused = token("quarantined", quarantined_until=5.0)
    for seen, told in (((none, new), new), ((old, new), new), ((new, old), new), ((new, refused), refused)):
        first, other = (status(tokens=(one,)) for one in seen)
        assert merged(first, {1: other}).tokens == (told,)


def test_issuers_and_the_store():
    """Requests add up, the latest moments count, the store is up where it is so for all."""
    first = status(issuers=(issuer(requests=1, next_slot_at=5.0),), store=StoreStatus(type="file"))
    other = status(issuers=(issuer(requests=2, cooldown_until=9.0),), store=StoreStatus(type="file", up=False))
    whole = merged(first, {1: other})
    assert whole.issuers == (issuer(requests=3, next_slot_at=5.0, cooldown_until=9.0),)
    assert not whole.store.up
    assert (whole.workers, whole.workers_missing) == (2, 0)


def test_problems_are_those_of_the_whole():
    """What any worker knows, once and since the first knew it; and that a worker is missing, which none can say."""
    store = StoreStatus(type="file", location="/tokens")
    long_ago = with_problems(status(store=replace(store, up=False), uptime=10.0))
    now = status(store=store, uptime=60.0)
    bad_file = status(secret_files={"credentials.cluster.client_secret_file": "The file is empty."})
    whole = merged(now, {1: long_ago, 2: None, 3: bad_file})
    found = {problem.code: problem.since - now.started_at for problem in whole.problems}
    assert found == {"secret_file_unusable": 60.0, "store_down": 10.0, "workers_missing": 60.0}
    assert (whole.workers, whole.workers_missing) == (4, 1)


def test_an_upstream_fails_since_the_first_worker_saw_it():
    """And recently, if any worker saw it recently."""
    seen = [
        route(failing="upstream_timeout", failing_since=20.0, failed_at=25.0),
        route(failing="upstream_timeout", failing_since=10.0, failed_at=15.0),
        route(),
    ]
    first, *others = (status(routes=(one,)) for one in seen)
    [whole] = merged(first, dict(enumerate(others, 1))).routes
    assert (whole.failing, whole.failing_since, whole.failed_at) == ("upstream_timeout", 10.0, 25.0)


def test_a_token_that_one_worker_renewed_is_no_problem_of_another():
    """One failed, another has a new token on the store, which the first finds when it needs it."""
    failed = status(tokens=(token("expired", expires_at=10.0, detail="no answer"),))
    renewed = status(tokens=(token("fresh", expires_at=4_000_000_000.0),))
    assert merged(failed, {1: renewed}).problems == ()


def test_ready_is_all_of_them():
    """Who is missing, or not ready, is told by its number; the first one's own reason comes first."""
    bad = status(ready=False, reason="draining")
    good = status()
    reasons = [
        merged(good, {1: good}).reason,
        merged(good, {1: good, 2: None}).reason,
        merged(good, {1: bad}).reason,
        merged(bad, {1: None}).reason,
    ]
    assert reasons == [None, "waiting for: worker 2", "worker 1: draining", "draining"]
    assert not merged(good, {1: None}).ready
