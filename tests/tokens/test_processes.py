"""Real processes on one directory: many at once, killed, stopped, on a slow disk, on a full one."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from tests.tokens.processes import REFUSED, STEPS, THROTTLED, Group, Issuer, Plan

INTERVAL = 0.2
MAX_WAIT = 3.0
SLACK = 1.5
"""Seconds for a busy machine."""


async def together(plan: Plan) -> list[list[dict[str, object]]]:
    """All processes of a plan, from start to end."""
    group = await Group.of(plan)
    group.go()
    return await group.results()


def tokens(results) -> list[set[object]]:
    """By identity, what the processes got."""
    return [{process[identity]["token"] for process in results} for identity in range(len(results[0]))]


async def test_sixteen_at_once_on_a_cold_cache_make_one_request_an_identity(tmp_path) -> None:
    """They all get the same tokens; the requests are apart."""
    async with Issuer().running() as issuer:
        plan = Plan(str(tmp_path / "store"), issuer.port, processes=16, identities=3, min_interval=INTERVAL)
        results = await together(plan)
    assert len(results) == 16
    assert sorted(audience for _, audience in issuer.arrivals) == ["audience-0", "audience-1", "audience-2"]
    assert all(len(got) == 1 and "unavailable" not in str(got) for got in tokens(results))
    assert issuer.closest > 0.8 * INTERVAL


async def test_started_again_they_make_none(tmp_path) -> None:
    """A crash loop costs no token request."""
    async with Issuer().running() as issuer:
        plan = Plan(str(tmp_path / "store"), issuer.port, processes=4, min_interval=INTERVAL)
        first = await together(plan)
        again = await together(plan)
    assert tokens(first) == tokens(again)
    assert len(issuer.arrivals) == 1


async def test_sixty_four_processes_on_a_slow_disk(tmp_path) -> None:
    """Each call to the file system takes 20 ms longer: one request all the same, and everybody is served in time."""
    async with Issuer().running() as issuer:
        plan = Plan(str(tmp_path / "store"), issuer.port, processes=64, slow_disk=0.02, min_interval=INTERVAL)
        results = await together(plan)
    assert len(results) == 64
    (got,) = tokens(results)
    assert got == {"audience-0-1"}
    assert len(issuer.arrivals) == 1
    assert max(process[0]["seconds"] for process in results) <= plan.max_wait


@pytest.mark.parametrize("step", STEPS)
async def test_one_killed_at_each_step_of_a_fetch_delays_nobody_and_loses_nothing(tmp_path, step) -> None:
    """`kill -9` with the lock, with a slot, waiting for the answer, half through a write: the kernel frees the lock.

    The others get a token within two slots and a poll; what was saved is used, what was not costs one more request.
    """
    async with Issuer().running() as issuer:
        plan = Plan(str(tmp_path / "store"), issuer.port, max_wait=MAX_WAIT, min_interval=INTERVAL)
        victim = await Group.of(Plan(**{**plan.__dict__, "step": step, "action": "kill"}))
        others = await Group.of(Plan(**{**plan.__dict__, "processes": 3}))
        victim.go()
        assert await victim.results() == []
        others.go()
        results = await others.results()
    (got,) = tokens(results)
    assert len(got) == 1
    assert got != {"token_unavailable"}
    assert max(process[0]["seconds"] for process in results) < 2 * INTERVAL + SLACK
    assert len(issuer.arrivals) == {"locked": 1, "reserved": 1, "saved": 1, "served": 1}.get(step, 2)
    assert issuer.closest > 0.8 * INTERVAL


@pytest.mark.parametrize(
    ("says", "told"), [(b"", "audience-0-1"), (REFUSED, "credential_rejected"), (THROTTLED, "token_unavailable")]
)
async def test_what_a_client_was_told_outlives_kill_9_in_that_moment(tmp_path, says, told) -> None:
    """A token, a quarantine, a cool-down: the next process knows it, and asks nothing of the issuer."""
    async with Issuer(says=says).running() as issuer:
        plan = Plan(str(tmp_path / "store"), issuer.port, max_wait=MAX_WAIT, min_interval=INTERVAL)
        victim = await Group.of(Plan(**{**plan.__dict__, "step": "served", "action": "kill"}))
        victim.go()
        assert await victim.results() == []
        results = await together(plan)
    assert tokens(results) == [{told}]
    assert len(issuer.arrivals) == 1


@pytest.mark.parametrize("step", STEPS)
async def test_one_stopped_at_each_step_of_a_fetch_delays_the_others_by_their_patience_for_the_lock(
    tmp_path, step
) -> None:
    """SIGSTOP: after half of `max_wait` the second lock: of three others one asks. SIGCONT: it is served too."""
    async with Issuer().running() as issuer:
        plan = Plan(str(tmp_path / "store"), issuer.port, max_wait=MAX_WAIT, min_interval=INTERVAL)
        victim = await Group.of(Plan(**{**plan.__dict__, "step": step, "action": "stop"}))
        others = await Group.of(Plan(**{**plan.__dict__, "processes": 3}))
        victim.go()
        await victim.is_stopped()
        others.go()
        results = await others.results()
        (got,) = tokens(results)
        assert len(got) == 1
        assert got != {"token_unavailable"}
        assert max(process[0]["seconds"] for process in results) < 0.5 * MAX_WAIT + 2 * INTERVAL + SLACK
        assert len(issuer.arrivals) == {"locked": 1, "reserved": 1, "saved": 1, "served": 1}.get(step, 2)
        assert issuer.closest > 0.8 * INTERVAL
        victim.go_on()
        ((served,),) = await victim.results()
    assert served["token"] != ""


async def test_what_a_stopped_process_knew_does_not_bury_what_is_newer(tmp_path) -> None:
    """It was stopped with an answer in its hand; the others' token is there by now, and stays."""
    async with Issuer().running() as issuer:
        plan = Plan(str(tmp_path / "store"), issuer.port, max_wait=MAX_WAIT, min_interval=INTERVAL)
        victim = await Group.of(Plan(**{**plan.__dict__, "step": "answered", "action": "stop"}))
        victim.go()
        await victim.is_stopped()
        (newer,) = tokens(await together(plan))
        victim.go_on()
        await victim.results()
        (after,) = tokens(await together(plan))
    assert newer == after == {"audience-0-2"}
    assert len(issuer.arrivals) == 2


# --- the disk ----------------------------------------------------------------------------------------------------


async def test_no_space_for_a_file_costs_sharing_and_nothing_else(tmp_path) -> None:
    """No file may grow (as on a full disk): the store degrades to memory, the token comes."""
    async with Issuer().running() as issuer:
        plan = Plan(str(tmp_path / "store"), issuer.port, min_interval=INTERVAL)
        first = await Group.of(plan)
        limited = await Group.of(plan)
        _limit_file_size(limited.process.pid)
        limited.go()
        (got,) = tokens(await limited.results())
        first.go()
        (other,) = tokens(await first.results())
    assert got == {"audience-0-1"}
    assert other == {"audience-0-2"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
async def test_a_full_disk_costs_sharing_and_nothing_else(tmp_path) -> None:
    """A real one, full to the last byte; when there is space again, it is used again."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounting = await asyncio.create_subprocess_exec("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk))
    if await mounting.wait():
        pytest.skip("this system lets nobody mount a small disk")
    try:
        _fill(disk)
        async with Issuer().running() as issuer:
            plan = Plan(str(disk / "store"), issuer.port, min_interval=INTERVAL)
            (got,) = tokens(await together(plan))
            (disk / "filler").unlink()
            (shared,) = tokens(await together(plan))
            (again,) = tokens(await together(plan))
    finally:
        unmounting = await asyncio.create_subprocess_exec("umount", str(disk))
        await unmounting.wait()
    assert [got, shared, again] == [{"audience-0-1"}, {"audience-0-2"}, {"audience-0-2"}]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a directory read-only")
async def test_a_read_only_directory_costs_sharing_and_nothing_else(tmp_path) -> None:
    """Mounted read-only, so that it is for root as well: what is there is read, nothing is written."""
    directory = tmp_path / "store"
    async with Issuer().running() as issuer:
        plan = Plan(str(directory), issuer.port, min_interval=INTERVAL, identities=1)
        await together(plan)
        mounting = await asyncio.create_subprocess_exec("mount", "--bind", str(directory), str(directory))
        if await mounting.wait():
            pytest.skip("this system lets nobody mount a directory")
        try:
            remounting = await asyncio.create_subprocess_exec("mount", "-o", "remount,ro,bind", str(directory))
            assert await remounting.wait() == 0
            (read,) = tokens(await together(plan))
            _, other = tokens(await together(Plan(**{**plan.__dict__, "identities": 2})))
        finally:
            unmounting = await asyncio.create_subprocess_exec("umount", str(directory))
            await unmounting.wait()
    assert read == {"audience-0-1"}
    # Where it is found out in the very moment in which the first token is looked up, that one is asked for too.
    assert other in ({"audience-1-2"}, {"audience-1-3"})


async def test_a_directory_that_this_user_may_not_write_to_costs_sharing_and_nothing_else(tmp_path) -> None:
    """By its permissions; root gives its rights away for this."""
    directory = tmp_path / "closed"
    directory.mkdir()
    directory.chmod(0o555)
    async with Issuer().running() as issuer:
        plan = Plan(str(directory / "store"), issuer.port, min_interval=INTERVAL, powerless=True)
        (got,) = tokens(await together(plan))
    directory.chmod(0o755)
    assert got == {"audience-0-1"}
    assert not (directory / "store").exists()


def _limit_file_size(pid: int) -> None:
    import resource  # noqa: PLC0415

    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))


def _fill(disk: Path) -> None:
    with (disk / "filler").open("wb", buffering=0) as stream:
        try:
            while True:
                stream.write(b"x" * 512)
        except OSError:
            pass
