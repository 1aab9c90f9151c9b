"""What is wrong with a running sidecar, found in its status. Pure: a `Status` in, the same with its problems out."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from typing import Literal

from msgspec.structs import replace

from sidecar.admin.status_model import ProblemStatus, RouteStatus, Severity, Status, TokenStatus, Whose
from sidecar.clock import duration

RECENT_SECONDS = 300.0
"""For so long after it happened an event counts as a problem that is there now, where nothing tells its end."""

MOST_UPSTREAM_ERRORS = 10
"""So many errors of an upstream are a problem, if they are more than half of its answers of the last five minutes."""

DOCTOR = "Run `camunda-sidecar doctor`, which says what is in the way: DNS, TLS, a proxy, or the other end itself."

CODES: dict[str, tuple[Whose, str]] = {
    "credential_refused": (
        "credential",
        "Correct its secret; or correct its permissions and run `camunda-sidecar doctor`.",
    ),
    "new_secret_refused": ("credential", "Put the right secret into its file before the token of the old secret ends."),
    "new_secret_pending": ("issuer", f"Wait a minute. {DOCTOR}"),
    "token_unavailable": ("issuer", DOCTOR),
    "token_not_renewed": ("issuer", DOCTOR),
    "issuer_cooling_down": ("issuer", "Wait. If it comes again, let all behind this address share one token store."),
    "upstream_unreachable": ("upstream", DOCTOR),
    "upstream_failing": ("upstream", "Look at the upstream itself: it can be connected to, and does not answer."),
    "upstream_errors": (
        "upstream",
        "Look at the upstream itself. Where it answers 401 or 403, the credential has no permission there.",
    ),
    "secret_file_unusable": ("host", "Repair the file, which is then read by itself. Its old content stays in use."),
    "configuration_refused": ("host", "Correct the mistakes, run `camunda-sidecar check`, and send SIGHUP again."),
    "store_down": ("store", "See the log for what the store answered. Until it is back, tokens are in memory alone."),
    "workers_missing": ("host", "See the log for why a worker died. It is started again by itself."),
    "log_lines_dropped": ("host", "Let the reader of the sidecar's standard error read faster, or log less."),
    "draining": ("host", "Nothing is to be done: the process ends when the requests under way are answered."),
    "not_ready": ("host", "Wait some seconds; if it stays, see the log."),
}
"""Each code with where its cause lies and what to do about it; `docs/operations.md` lists the same."""
_COMMANDS = {
    **dict.fromkeys(("secret_file_unusable", "configuration_refused"), "check"),
    **dict.fromkeys(("issuer_cooling_down", "workers_missing", "log_lines_dropped", "draining", "not_ready"), "status"),
}
"""The subcommand that helps, where it is another than `doctor`."""

Found = tuple[Severity, str, str, str, float | None]
"""A problem's severity, code, subject and text, and since when (seconds since 1970) where the status tells it."""


def with_problems(status: Status, before: Iterable[ProblemStatus] = ()) -> Status:
    """`status` with the problems that follow from its other fields, critical ones first.

    Args:
        status: what is known now; the `problems` in it are replaced.
        before: problems that were found earlier or by other workers. One that is still there keeps its `since`.
    """
    now = status.started_at + status.uptime
    config = "" if status.configuration == "environment" else f" --config {shlex.quote(status.configuration)}"
    known: dict[tuple[str, str], float] = {}
    for problem in before:
        key = problem.code, problem.subject
        known[key] = min(problem.since, known.get(key, now))
    problems = [
        ProblemStatus(
            severity=severity,
            code=code,
            since=known.get((code, subject), now) if since is None else since,
            whose=CODES[code][0],
            subject=subject,
            what=what.strip(),
            cure=CODES[code][1],
            command=f"camunda-sidecar {_COMMANDS.get(code, 'doctor')}{config}",
        )
        for severity, code, subject, what, since in _find(status, now)
    ]
    return replace(status, problems=tuple(sorted(problems, key=lambda problem: problem.severity != "critical")))


def changes(
    before: Iterable[ProblemStatus], after: Iterable[ProblemStatus], now: float
) -> Iterator[tuple[Literal["critical", "warning", "over"], str]]:
    """What began and what is over, in words; `now` is in seconds since 1970."""
    old, new = ({(problem.code, problem.subject): problem for problem in each} for each in (before, after))
    for key, problem in new.items():
        if key not in old:
            yield problem.severity, problem.what
    for key, problem in old.items():
        if key not in new:
            subject = f" ({problem.subject})" if problem.subject else ""
            yield "over", f"Over after {duration(now - problem.since)}: {problem.code}{subject}."


def _find(status: Status, now: float) -> Iterator[Found]:
    for token in status.tokens:
        yield from _token(token, now)
    for route in status.routes:
        yield from _route(route, now)
    for issuer in status.issuers:
        if issuer.cooldown_until is not None and issuer.cooldown_until > now:
            seconds = round(issuer.cooldown_until - now)
            text = f"The issuer {issuer.issuer} throttles this address. Nobody asks it for another {seconds} s."
            yield "warning", "issuer_cooling_down", issuer.issuer, text, None
    yield from _process(status, now)


def _token(token: TokenStatus, now: float) -> Iterator[Found]:
    name = token.credential + (f" for {token.audience}" if token.audience else "")
    serves = token.expires_at is not None and token.expires_at > now
    severity: Severity = "warning" if serves else "critical"
    if token.new_secret == "refused":  # noqa: S105 (a state)
        text = f"The issuer refuses the new secret of {name}. {token.new_secret_detail}"
        yield severity, "new_secret_refused", name, text, None
    elif token.refused or token.state == "quarantined":
        yield severity, "credential_refused", name, f"The issuer refuses the credential {name}. {token.detail}", None
    elif token.new_secret == "pending":  # noqa: S105 (a state)
        text = f"The new secret of {name} has no token yet. {token.new_secret_detail}"
        yield severity, "new_secret_pending", name, text, None
    elif token.detail and token.state == "stale":
        yield "warning", "token_not_renewed", name, f"The token of {name} cannot be renewed. {token.detail}", None
    elif token.detail and token.state != "fresh":
        yield "critical", "token_unavailable", name, f"No token can be had with {name}. {token.detail}", None


def _route(route: RouteStatus, now: float) -> Iterator[Found]:
    errors, since = route.recent_upstream_errors, route.failing_since
    if errors >= MOST_UPSTREAM_ERRORS and 2 * errors > route.recent_requests:
        text = f"{route.upstream} answers with errors: {errors} of {route.recent_requests} in the last five minutes."
        yield "critical", "upstream_errors", route.name, text, None
    if now - route.failed_at > RECENT_SECONDS:
        return
    if route.failing == "upstream_unreachable":
        text = f"No connection to {route.upstream} can be made."
        yield "critical", "upstream_unreachable", route.name, text, since
    elif route.failing:
        text = f"{route.upstream} gave no valid answer: the last request ended with {route.failing}."
        yield "warning", "upstream_failing", route.name, text, since


def _process(status: Status, now: float) -> Iterator[Found]:
    for setting, reason in status.secret_files.items():
        yield "warning", "secret_file_unusable", setting, f"The newest file of {setting} cannot be used. {reason}", None
    if status.mistakes:
        text = f"The new configuration was refused, the old one is in force. {'; '.join(status.mistakes)}"
        yield "warning", "configuration_refused", status.configuration, text, status.reload_refused_at
    if not status.store.up:
        place = f"{status.store.type} {status.store.location}".strip()
        yield (
            "warning",
            "store_down",
            place,
            f"The token store ({place}) cannot be used. {status.store.detail}".strip(),
            None,
        )
    if status.workers_missing:
        text = f"{status.workers_missing} of {status.workers} workers do not answer."
        yield "warning", "workers_missing", "", text, None
    dropped_at = status.log_lines_dropped_at
    if dropped_at is not None and now - dropped_at < RECENT_SECONDS:
        yield "warning", "log_lines_dropped", "", f"{status.log_lines_dropped} log lines were dropped.", None
    if status.reason == "draining":
        yield "warning", "draining", "", "The sidecar is draining: it ends soon.", None
    elif not status.ready and not status.workers_missing:
        yield "warning", "not_ready", "", f"The sidecar is not ready: {status.reason}.", None
