"""What a start costs the issuer: one token request an audience, spaced; a restart, none."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import pairwise

import aiohttp
import pytest

from tests.acceptance.peers import Hang, grants, peer, refuses, says
from tests.acceptance.support import configuration, running, until

MIN_INTERVAL = 1.25
"""The documented default, in seconds."""


def storm(*urls: str, times: int) -> Counter[int]:
    """So many requests to each, all at once; the answers' codes."""

    async def play() -> Counter[int]:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

            async def one(url: str) -> int:
                async with session.get(url) as response:
                    await response.read()
                    return response.status

            return Counter(await asyncio.gather(*(one(url) for url in urls for _ in range(times))))

    return asyncio.run(play())


def test_a_thousand_cold_requests_cost_one_token_request_for_each_audience(tmp_path):
    """500 programs ask each of two cold APIs at once: two token requests, `min_interval` apart, and 1,000 answers."""
    with peer(grants()) as issuer, peer(says(200, b"ok")) as upstream:
        routes = {name: {"upstream": upstream.url} for name in ("operate", "optimize")}
        with running(tmp_path, configuration(tmp_path, issuer.url + "/oauth/token", routes)) as sidecar:
            urls = [f"http://{sidecar.address}/{name}/x" for name in routes]
            assert storm(*urls, times=500) == {200: 1000}
            assert sorted(request.form["audience"] for request in issuer.requests) == [
                "operate.camunda.io",
                "optimize.camunda.io",
            ]
            first, second = issuer.requests
            assert MIN_INTERVAL - 0.05 <= second.at - first.at < MIN_INTERVAL + 1.0
            assert Counter(request.bearer for request in upstream.requests) == {"token-1": 500, "token-2": 500}
            assert sidecar.total("token_requests_total", outcome="success") == 2
            assert sidecar.total("token_lookups_total", source="issuer") == 2
            assert sidecar.total("token_lookups_total") == 1000
            assert sidecar.total("http_requests_total", source="upstream", code="200") == 1000

            # A restart finds both tokens where it left them.
            assert sidecar.end() == 0
        with running(tmp_path, configuration(tmp_path, issuer.url + "/oauth/token", routes)) as sidecar:
            urls = [f"http://{sidecar.address}/{name}/x" for name in routes]
            assert storm(*urls, times=5) == {200: 10}
            assert len(issuer.requests) == 2
            assert sidecar.total("token_lookups_total", source="store") >= 1
            assert sidecar.total("token_requests_total") == 0


def test_sidecars_on_one_store_share_tokens_and_budget(tmp_path):
    """Three sidecars, two audiences, one directory: two token requests in all, `min_interval` apart."""
    with peer(grants()) as issuer, peer(says(200, b"ok")) as upstream, ExitStack() as stack:
        routes = {name: {"upstream": upstream.url} for name in ("operate", "optimize")}
        sidecars = []
        for name in ("a", "b", "c"):
            (tmp_path / name).mkdir()
            sidecars.append(
                stack.enter_context(
                    running(tmp_path / name, configuration(tmp_path, issuer.url + "/oauth/token", routes))
                )
            )
        urls = [f"http://{sidecar.address}/{name}/x" for sidecar in sidecars for name in routes]
        assert storm(*urls, times=20) == {200: 120}
        assert len(issuer.requests) == 2
        assert {request.bearer for request in upstream.requests} == {"token-1", "token-2"}
        [gap] = [after.at - before.at for before, after in pairwise(issuer.requests)]
        assert gap >= MIN_INTERVAL - 0.05


def test_a_crash_loop_costs_one_token_request(tmp_path):
    """Killed again and again with no time to say goodbye, it still asks once."""
    with peer(grants()) as issuer, peer(says(200, b"ok")) as upstream:
        settings = configuration(tmp_path, issuer.url + "/oauth/token", {"operate": {"upstream": upstream.url}})
        for _ in range(3):
            with running(tmp_path, settings) as sidecar:
                assert sidecar.ask("/operate/x").status == 200
                until(lambda: list((tmp_path / "store").glob("token-*.1")), "the token is saved")
                sidecar.process.kill()
        assert len(issuer.requests) == 1


def test_an_issuer_with_a_limit_of_its_own_is_not_held_back(tmp_path):
    """`token_requests.issuers` frees an issuer that has no limit: four audiences cost no waiting."""
    with peer(grants()) as issuer, peer(says(200, b"ok")) as upstream:
        routes = {name: {"upstream": upstream.url} for name in ("operate", "optimize", "tasklist", "zeebe")}
        limits = {"issuers": {issuer.url: {"min_interval": "0s"}}}
        settings = configuration(tmp_path, issuer.url + "/oauth/token", routes, token_requests=limits)
        with running(tmp_path, settings) as sidecar:
            assert storm(*[f"http://{sidecar.address}/{name}/x" for name in routes], times=1) == {200: 4}
            assert len(issuer.requests) == 4
            assert issuer.requests[-1].at - issuer.requests[0].at < MIN_INTERVAL


def test_no_token_is_requested_until_a_request_needs_one(tmp_path):
    """Starting, probing and looking at it asks the issuer nothing; readiness does not need it."""
    with peer(grants()) as issuer, peer(says(200, b"ok")) as upstream:
        settings = configuration(tmp_path, issuer.url + "/t", {"optimize": {"upstream": upstream.url}})
        with running(tmp_path, settings) as sidecar:
            assert [sidecar.operate(path).status for path in ("/readyz", "/livez", "/status", "/metrics", "/")] == [
                200
            ] * 5
            assert sidecar.ask("/optimize/api/readyz").status == 200  # public: it needs none
            assert issuer.requests == []


@pytest.mark.parametrize(
    ("answer", "status", "attempts"),
    [(refuses(), 502, 1), (says(429, Retry_After="30"), 503, 1), (says(500), 503, 3)],
    ids=["refused", "throttled", "failing"],
)
def test_an_error_is_shared_by_all_that_wait(tmp_path, answer, status, attempts):
    """Three hundred clients of a deleted key, of a throttling or a failing issuer: a few requests, 300 answers."""
    with peer(answer) as issuer, peer(says(200, b"ok")) as upstream:
        limits = {"min_interval": "0s", "max_wait": "4s"}
        settings = configuration(
            tmp_path, issuer.url + "/t", {"operate": {"upstream": upstream.url}}, token_requests=limits
        )
        with running(tmp_path, settings) as sidecar:
            assert storm(f"http://{sidecar.address}/operate/x", times=300) == {status: 300}
            assert len(issuer.requests) <= attempts
            assert upstream.requests == []


def test_a_stopped_process_delays_the_others_by_their_patience_and_no_more(tmp_path):
    """Whoever asks for the token is stopped (SIGSTOP): another on the same store gets one within `max_wait`."""
    hang = Hang(grants("never-used"))
    with peer(hang) as issuer, peer(says(200, b"ok")) as upstream, ExitStack() as stack:
        limits = {"min_interval": "0s", "max_wait": "4s"}
        settings = configuration(
            tmp_path, issuer.url + "/t", {"operate": {"upstream": upstream.url}}, token_requests=limits
        )
        sidecars = []
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
            sidecars.append(stack.enter_context(running(tmp_path / name, settings)))
        holder, other = sidecars
        pool = stack.enter_context(ThreadPoolExecutor())
        lost = pool.submit(holder.ask, "/operate/x")
        hang.wait_for_one()
        holder.signal(signal.SIGSTOP)
        issuer.behaviour = grants("of-the-other")
        begun = time.monotonic()
        assert other.ask("/operate/x").status == 200
        assert time.monotonic() - begun < 6.0
        assert [request.bearer for request in upstream.requests] == ["of-the-other"]
        holder.signal(signal.SIGCONT)
        hang.release.set()
        assert lost.result(30).status == 200


def test_failures_and_restarts_are_within_the_budget_too(tmp_path):
    """Every attempt takes its slot, one that fails as well, and the next process goes on where the last one was."""
    with peer(says(500)) as issuer, peer(says(200, b"ok")) as upstream:
        routes = {name: {"upstream": upstream.url} for name in ("operate", "optimize")}
        settings = configuration(tmp_path, issuer.url + "/t", routes, token_requests={"max_wait": "3s"})
        with running(tmp_path, settings) as sidecar:
            urls = [f"http://{sidecar.address}/{name}/x" for name in routes]
            assert set(storm(*urls, times=3)) == {503}
            failed = len(issuer.requests)
            assert 2 <= failed <= 6
            assert sidecar.end() == 0
        issuer.behaviour = grants()
        with running(tmp_path, settings) as sidecar:
            urls = [f"http://{sidecar.address}/{name}/x" for name in routes]
            storm(*urls, times=3)
        gaps = [after.at - before.at for before, after in pairwise(issuer.requests)]
        assert min(gaps) >= MIN_INTERVAL - 0.05, gaps
