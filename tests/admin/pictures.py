"""The README's pictures of the status page: `python -m tests.admin.pictures` puts them into docs/images.

The page is the real one in a real browser; the hour that it shows is made up here.
"""

from __future__ import annotations

import asyncio
import random
from functools import partial
from pathlib import Path

from sidecar.admin.problems import with_problems
from sidecar.admin.status_model import (
    ErrorStatus,
    IssuerStatus,
    ProblemStatus,
    RouteStatus,
    Status,
    StoreStatus,
    TokenStatus,
)
from sidecar.telemetry.history import STEP, Event, Recent
from sidecar.telemetry.http import DURATION_BUCKETS
from tests.admin.browser import Browser, browsing
from tests.admin.support import serving, status

IMAGES = Path(__file__).parents[2] / "docs" / "images"
NOW = 1_800_007_000.0
CLUSTER = "0f3a71de-5c1b-4b52-9e0e-6f0b7f6d2a11"
LOGIN = "https://login.cloud.camunda.io"
TYPICAL = {"operate": (5, 40), "tasklist": (5, 25), "zeebe": (4, 160), "optimize": (7, 8), "console": (6, 3)}
"""By route: the bucket of a usual duration, and requests in a frame."""
TROUBLE_BEGAN = 14
"""Frames ago."""


SINCE = ProblemStatus(
    severity="critical",
    code="credential_refused",
    whose="credential",
    what="",
    cure="",
    since=NOW - 640,
    subject="organization for api.cloud.camunda.io",
)


def frames(name: str, *, broken: bool) -> dict[int, list[int]]:
    """An hour of a route's traffic; `broken`: at its end, the upstream refuses connections."""
    dice, (usual, busy) = random.Random(name), TYPICAL[name]
    rows = {}
    for ago in range(120):
        row = [0] * (3 + len(DURATION_BUCKETS) + 1)
        wave = 1 + 0.5 * (ago % 40 < 20) + dice.uniform(-0.2, 0.2)
        for _ in range(int(busy * wave)):
            row[3 + min(len(DURATION_BUCKETS), max(0, round(dice.gauss(usual, 0.9) + (dice.random() < 0.03) * 3)))] += 1
        if dice.random() < 0.04:
            row[1] += 1
        if broken and ago < TROUBLE_BEGAN:
            row = [sum(row[3:]), 0, 0, *[0] * 9, sum(row[3:]), *[0] * 7]
        rows[int(NOW) // STEP - ago] = row
    return rows


def hour(*, troubled: bool) -> Recent:
    attempts = [
        (NOW - ago, "success", f"{name}.camunda.io")
        for name, first in (("operate", 3300), ("tasklist", 3298), ("zeebe", 3296), ("optimize", 3290))
        for ago in range(first, 0, -2870)
    ]
    events, cooldowns = [Event(NOW - 5400, "info", "The configuration was reloaded.")], []
    if troubled:
        began = NOW - TROUBLE_BEGAN * STEP
        refused = [(NOW - ago, "refused", "api.cloud.camunda.io") for ago in (640, 600, 540, 420, 180)]
        attempts += [(NOW - 1600, "throttled", "api.cloud.camunda.io"), *refused]
        cooldowns = [(NOW - 1600, NOW - 1240)]
        events += [
            Event(
                NOW - 1600, "warning", f"The issuer {LOGIN} throttles this address. Nobody asks it for another 360 s."
            ),
            Event(NOW - 1240, "over", f"Over after 6 min: issuer_cooling_down ({LOGIN})."),
            Event(NOW - 640, "critical", "The issuer refuses the credential organization for api.cloud.camunda.io."),
            Event(began, "critical", f"No connection to https://bru-2.zeebe.camunda.io/{CLUSTER} can be made."),
        ]
    routes = {name: frames(name, broken=troubled and name in ("zeebe", "console")) for name in TYPICAL}
    return Recent(routes=routes, attempts={LOGIN: sorted(attempts)}, cooldowns={LOGIN: cooldowns}, events=events)


def told(*, troubled: bool) -> Status:
    def route(name: str) -> RouteStatus:
        console, broken = name == "console", troubled and name in ("zeebe", "console")
        code = "credential_rejected" if console else "upstream_unreachable"
        error = ErrorStatus(at=NOW - 3, status=502, source="sidecar", code=code, request_id="7c1f0a9be2d44e10-9d3")
        upstream = "https://api.cloud.camunda.io" if console else f"https://bru-2.{name}.camunda.io/{CLUSTER}"
        return RouteStatus(
            name=name,
            prefix=f"/{name}",
            upstream=upstream,
            credential="organization" if console else "cluster",
            audience="api.cloud.camunda.io" if console else f"{name}.camunda.io",
            requests=30_000,
            in_flight=3 if name == "zeebe" else 0,
            failing=code if broken and not console else "",
            failing_since=NOW - TROUBLE_BEGAN * STEP,
            failed_at=NOW - 3,
            last_error=error if broken else None,
        )

    def token(name: str, age: float) -> TokenStatus:
        issued = NOW - age
        return TokenStatus(
            credential="cluster",
            audience=f"{name}.camunda.io",
            issuer=f"{LOGIN}/oauth/token",
            state="fresh",
            issued_at=issued,
            refreshes_at=issued + 2880,
            expires_at=issued + 3600,
            routes=(name,),
        )

    detail = (
        f"Credential organization for audience api.cloud.camunda.io: the issuer {LOGIN}/oauth/token answered 401 "
        'access_denied ("Unauthorized"). The client id or its secret is wrong, or the client was deleted: check both '
        "in the Console."
    )
    organization = {"credential": "organization", "audience": "api.cloud.camunda.io", "routes": ("console",)}
    organization["issuer"] = f"{LOGIN}/oauth/token"
    last = TokenStatus(
        **organization, state="fresh", issued_at=NOW - 2000, refreshes_at=NOW + 880, expires_at=NOW + 1600
    )
    if troubled:
        state = {"state": "quarantined", "refused": True, "quarantined_until": NOW + 60}
        last = TokenStatus(**organization, **state, detail=detail)
    return with_problems(
        status(
            started_at=NOW - 190_000,
            uptime=190_000.0,
            routes=tuple(map(route, TYPICAL)),
            tokens=(token("operate", 430), token("tasklist", 428), token("zeebe", 426), token("optimize", 420), last),
            issuers=(IssuerStatus(issuer=LOGIN, min_interval=1.25, requests=40),),
            store=StoreStatus(type="file", location="/var/lib/camunda-sidecar"),
        ),
        (SINCE,) if troubled else (),
    )


def draw(browser: Browser, address: object, name: str) -> None:
    """A wide one, and one of the troubled page on a phone at night."""
    browser.open(f"http://{address}/")
    browser.says(".banner", "Cause" if name == "troubled" else "All is well")
    for suffix, width, dark in (("", 1180, False), ("-phone", 390, True)):
        if name == "troubled" or not suffix:
            browser.look(width, 1060, dark=dark, scale=1.5)
            (IMAGES / f"status-{name}{suffix}.webp").write_bytes(browser.picture(format="webp", quality=70))


async def main() -> None:
    """Draw all of them."""
    IMAGES.mkdir(exist_ok=True)
    with browsing() as browser:
        for name, troubled in (("healthy", False), ("troubled", True)):
            recent = hour(troubled=troubled)
            facts = partial(told, troubled=troubled)
            async with serving(status=facts, recent=lambda _since, recent=recent: recent) as running:
                await asyncio.to_thread(draw, browser, running.address, name)


if __name__ == "__main__":
    asyncio.run(main())
