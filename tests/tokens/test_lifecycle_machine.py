"""The lifecycle against every order of things: a host's processes on one store, and whatever can go wrong with them.

The processes are the simulation's: the product's own decisions and budget, in virtual time.
"""

from __future__ import annotations

import random
from itertools import pairwise

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.simulation.design import MAX_WAIT, RECOVERY, SidecarProcess
from tests.simulation.engine import Engine
from tests.simulation.host import Counters, Host
from tests.simulation.issuer import Issuer, Weather, Window

INTERVAL = 1.25
ALWAYS = Window(0.0, 1e12)
COOLDOWN_MOST = 300.0 * 1.25


class HostMachine(RuleBasedStateMachine):
    """Three processes, two identities, one store, one issuer."""

    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed) -> None:
        self.engine = Engine()
        self.rng = random.Random(seed)
        self.counters = Counters()
        self.issuer = Issuer(Weather(slow=0.0, lost=0.0), self.rng)
        self.host = Host(self.engine, self.issuer, self.rng, interval=INTERVAL)
        self.processes = [SidecarProcess(self.host, 2, self.counters) for _ in range(3)]

    # --- time and clients --------------------------------------------------------------------------------------------

    @rule(seconds=st.floats(0.001, 15) | st.floats(15, 4000))
    def quiet_time_passes(self, seconds) -> None:
        self.engine.run_until(self.engine.now + seconds)

    @rule(seconds=st.floats(1, 60) | st.floats(60, 8000), how_often=st.sampled_from([0.05, 0.3, 1.0]))
    def busy_time_passes(self, seconds, how_often) -> None:
        for _ in range(40):
            for process in self.processes:
                for identity in (0, 1):
                    if self.rng.random() < how_often and process.stopped_until <= self.engine.now:
                        process.entries[identity].want()
            self.engine.run_until(self.engine.now + self.rng.expovariate(40 / seconds))
            self.nobody_waits_for_longer_than_it_may()

    @rule(process=st.integers(0, 2), identity=st.integers(0, 1), clients=st.integers(1, 4))
    def clients_want_a_token(self, process, identity, clients) -> None:
        if self.processes[process].stopped_until <= self.engine.now:
            for _ in range(clients):
                self.processes[process].entries[identity].want()

    @rule(process=st.integers(0, 2), identity=st.integers(0, 1), bad_path=st.booleans())
    def an_upstream_refuses(self, process, identity, bad_path) -> None:
        if self.processes[process].stopped_until <= self.engine.now:
            self.processes[process].entries[identity].reject(bad_path=bad_path)

    # --- faults ------------------------------------------------------------------------------------------------------

    @rule(process=st.integers(0, 2))
    def a_process_is_killed_and_started_again(self, process) -> None:
        self.processes[process].kill()
        self.processes[process].start()

    @rule(process=st.integers(0, 2), seconds=st.floats(0.1, 600))
    def a_process_is_stopped(self, process, seconds) -> None:
        self.processes[process].stop(seconds)

    @rule(seconds=st.floats(-100_000, 100_000))
    def somebody_sets_the_clock(self, seconds) -> None:
        self.host.wall_offset += seconds

    @rule(stepped=st.just(0.0) | st.floats(-100_000, 100_000))
    def the_machine_is_started_again(self, stepped) -> None:
        for process in self.processes:
            process.kill()
        self.host.wall_offset += stepped
        self.engine.run_until(self.engine.now + 10)
        self.host.reboot()
        for process in self.processes:
            process.start()

    @rule(kind=st.sampled_from(["out", "storm", "deleted", "slow", "lossy", "well"]))
    def the_weather_changes(self, kind) -> None:
        self.issuer.weather = {
            "out": Weather((ALWAYS,)),
            "storm": Weather(storms=(ALWAYS,)),
            "deleted": Weather(deleted={0: ALWAYS}),
            "slow": Weather(slow=0.9, lost=0.0),
            "lossy": Weather(slow=0.0, lost=0.5),
            "well": Weather(slow=0.0, lost=0.0),
        }[kind]

    # --- what always holds -------------------------------------------------------------------------------------------

    @invariant()
    def no_two_slots_are_closer_than_the_interval(self) -> None:
        slots = self.host.slots[-50:]
        assert all(later - earlier >= INTERVAL - 1e-3 for earlier, later in pairwise(slots))

    @invariant()
    def nothing_expired_and_nothing_refused_is_handed_out(self) -> None:
        assert (self.counters.expired_served, self.counters.refused_served) == (0, 0)

    @invariant()
    def nobody_waits_for_longer_than_it_may(self) -> None:
        assert self.counters.longest_wait <= MAX_WAIT + 0.01
        for process in self.processes:
            for entry in process.entries:
                stopped = process.stopped_until > self.engine.now - MAX_WAIT - 0.01
                assert stopped or all(began + MAX_WAIT + 0.01 >= self.host.now() for began in entry.waiting)

    @invariant()
    def a_refused_version_is_in_no_process_that_knows_it(self) -> None:
        for process in self.processes:
            for entry in process.entries:
                record = entry.state.record
                assert record.token is None or record.token.version not in record.refused_versions

    @rule()
    def after_the_last_fault_service_returns(self) -> None:
        self.issuer.weather = Weather(slow=0.0, lost=0.0)
        stopped = max(process.stopped_until for process in self.processes)
        self.engine.run_until(max(self.engine.now, stopped) + RECOVERY + COOLDOWN_MOST)
        for process in self.processes:
            for entry in process.entries:
                failed = self.counters.failed
                assert entry.want() in {"served", "waits"}
                self.engine.run_until(self.engine.now + MAX_WAIT + 1)
                assert (self.counters.failed, len(entry.waiting)) == (failed, 0)

    def teardown(self) -> None:
        """Whoever still waits is answered."""
        if hasattr(self, "engine"):
            self.engine.run_until(self.engine.now + 700 + MAX_WAIT)
            assert all(not entry.waiting for process in self.processes for entry in process.entries)


TestHost = HostMachine.TestCase
TestHost.__doc__ = "Slots apart; nothing expired or refused; everybody answered in time; service back after the faults."
TestHost.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
