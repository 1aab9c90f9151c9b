import pytest
from msgspec.structs import replace

from sidecar.telemetry.http import HttpStats
from sidecar.telemetry.metrics import Metrics
from sidecar.telemetry.token_metrics import STATES
from sidecar.tokens.observer import TokenObserver
from sidecar.tokens.snapshot import Snapshot
from sidecar.tokens.token_status import IssuerStatus, TokenStatus
from tests.telemetry.support import ManualClock, samples

ISSUER = "https://login.cloud.camunda.io/oauth/token"
AUDIENCE = "operate.camunda.io"


@pytest.fixture
def metrics():
    made = Metrics(HttpStats(), ManualClock())
    observer: TokenObserver = made.tokens
    observer.registered(issuer=ISSUER, credential="cluster", audience=AUDIENCE)
    return made


def value(metrics: Metrics, name: str, **labels: str) -> float:
    return samples(metrics)[f"camunda_sidecar_{name}", *sorted(labels.items())]


def test_a_registered_identitys_series_start_at_zero(metrics):
    """Every label combination that can be known is there before the first event."""
    found = {key: number for key, number in samples(metrics).items() if key[0].startswith("camunda_sidecar_")}
    names = [
        *("token_requests_total" for _ in ("success", "failed", "throttled", "refused")),
        *("token_lookups_total" for _ in ("memory", "store", "issuer", "coalesced")),
        *("token_invalidations_total" for _ in ("upstream_refused", "secret_changed", "session_rotated")),
        *("store_errors_total" for _ in ("open", "load", "save", "reserve", "lock")),
        *("token_expiry_timestamp_seconds", "quarantined", "secret_pending", "cooldown_until_timestamp_seconds"),
        *("token_last_success_timestamp_seconds", "budget_used_ratio"),
        *("token_waiters", "token_wait_seconds_count", "budget_wait_seconds_count", "store_up"),
        "token_request_duration_seconds_count",
    ]
    counted = {name: len([key for key in found if key[0] == f"camunda_sidecar_{name}"]) for name in names}
    assert counted == {name: names.count(name) for name in names}
    assert {found[key] for key in found if key[0].removeprefix("camunda_sidecar_") in names} == {0.0}


@pytest.mark.parametrize("state", STATES)
def test_a_tokens_state_is_one_of_all(metrics, state):
    """An enumeration: 1 for the state that it is in, 0 for each other one, and `none` before anything is known."""

    def ones() -> list[str]:
        told = {s: value(metrics, "token_state", credential="cluster", audience=AUDIENCE, state=s) for s in STATES}
        return [name for name, number in told.items() if number]

    assert ones() == ["none"]
    row = TokenStatus(credential="cluster", audience=AUDIENCE, state=state, issued_at=1_799_999_000.0)
    metrics.tokens.read_state(lambda: Snapshot((row,), ()), dict)
    assert ones() == [state]
    last = value(metrics, "token_last_success_timestamp_seconds", credential="cluster", audience=AUDIENCE)
    assert last == 1_799_999_000.0


def test_the_budgets_use_is_of_the_last_minute():
    """Twelve attempts, one in 1.25 s allowed, are a quarter of a minute; older ones, and no limit, count for none."""
    clock = ManualClock()
    metrics = Metrics(HttpStats(), clock)
    metrics.tokens.registered(issuer=ISSUER, credential="cluster", audience=AUDIENCE)
    interval = [1.25]
    metrics.tokens.read_state(
        lambda: Snapshot((), (IssuerStatus(issuer="https://login.cloud.camunda.io", min_interval=interval[0]),)), dict
    )
    for number in range(24):
        clock.now += 10 if number == 12 else 0
        metrics.tokens.token_requested(issuer=ISSUER, audience=AUDIENCE, outcome="failed", seconds=0.5)
    assert value(metrics, "budget_used_ratio", issuer=ISSUER) == pytest.approx(0.5)
    clock.now += 55
    assert value(metrics, "budget_used_ratio", issuer=ISSUER) == pytest.approx(0.25)
    interval[0] = 0.0
    assert value(metrics, "budget_used_ratio", issuer=ISSUER) == 0.0


def test_attempts_and_waits_are_counted(metrics):
    """Each attempt by its outcome; waiters go up and down; waits are observed."""
    tokens = metrics.tokens
    tokens.waiting()
    tokens.waiting()
    tokens.waited(0.5)
    tokens.budget_waited(issuer=ISSUER, seconds=1.25)
    tokens.token_requested(issuer=ISSUER, audience=AUDIENCE, outcome="throttled", seconds=0.1)
    assert value(metrics, "token_waiters") == 1
    assert value(metrics, "token_wait_seconds_count") == 1
    assert value(metrics, "budget_wait_seconds_sum") == 1.25
    assert value(metrics, "token_requests_total", issuer=ISSUER, audience=AUDIENCE, outcome="throttled") == 1
    assert value(metrics, "token_request_duration_seconds_count") == 1


def test_lookups_come_from_events_and_from_the_hot_paths_counter(metrics):
    """Hand-outs from memory are no events: they are read when somebody looks."""
    counts = {AUDIENCE: 0}
    metrics.tokens.read_state(lambda: Snapshot((), ()), lambda: counts)
    metrics.tokens.looked_up(audience=AUDIENCE, source="coalesced")
    counts[AUDIENCE] = 41
    assert value(metrics, "token_lookups_total", audience=AUDIENCE, source="coalesced") == 1
    assert value(metrics, "token_lookups_total", audience=AUDIENCE, source="memory") == 41


def test_states_are_told(metrics):
    """Expiry, cool-down, refusal and a new secret are read at the scrape; errors and invalidations add up."""
    tokens = metrics.tokens
    row = TokenStatus(credential="cluster", audience=AUDIENCE, state="stale", expires_at=1_800_003_600.0)
    row = replace(row, refused=True, new_secret="refused")
    issuer = IssuerStatus(issuer="https://login.cloud.camunda.io", min_interval=1.25, cooldown_until=1_800_000_060.0)
    tokens.read_state(lambda: Snapshot((row,), (issuer,)), dict)
    tokens.store_up(up=True)
    tokens.store_failed(operation="load")
    tokens.invalidated(audience=AUDIENCE, reason="upstream_refused")
    identity = {"credential": "cluster", "audience": AUDIENCE}
    assert value(metrics, "token_expiry_timestamp_seconds", **identity) == 1_800_003_600.0
    assert value(metrics, "cooldown_until_timestamp_seconds", issuer=ISSUER) == 1_800_000_060.0
    assert value(metrics, "quarantined", **identity) == value(metrics, "secret_pending", **identity) == 1
    assert value(metrics, "store_up") == 1
    assert value(metrics, "store_errors_total", operation="load") == 1
    assert value(metrics, "token_invalidations_total", audience=AUDIENCE, reason="upstream_refused") == 1


def test_an_identity_that_is_retired_has_no_series(metrics):
    """Nothing of it stays in a dashboard; what another one shares with it goes on."""
    metrics.tokens.registered(issuer=ISSUER, credential="other", audience=AUDIENCE)
    metrics.tokens.looked_up(audience=AUDIENCE, source="issuer")
    metrics.tokens.retired(issuer=ISSUER, credential="cluster", audience=AUDIENCE)
    labels = [labels for _, *labels in samples(metrics)]
    assert [value for each in labels for label, value in each if label == "credential"][:1] == ["other"]
    assert not any(("credential", "cluster") in each for each in labels)
    assert value(metrics, "token_lookups_total", audience=AUDIENCE, source="issuer") == 1
    metrics.tokens.retired(issuer=ISSUER, credential="other", audience=AUDIENCE)
    assert not any(label in {"credential", "audience", "issuer"} for _, *each in samples(metrics) for label, _ in each)
