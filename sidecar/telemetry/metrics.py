"""Builds the registry with every metric that the sidecar exposes."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.core import CounterMetricFamily
from prometheus_client.metrics import disable_created_metrics
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from sidecar import __version__, background, build
from sidecar.clock import Clock
from sidecar.telemetry.history import History
from sidecar.telemetry.http import HttpStats
from sidecar.telemetry.http_collector import HttpCollector
from sidecar.telemetry.log_writer import WRITER
from sidecar.telemetry.token_metrics import TokenMetrics


class ConfigMetrics:
    """How the last load of the configuration ended (the start is the first), and the state of its secret files."""

    def __init__(self, registry: CollectorRegistry, clock: Clock) -> None:
        self._clock = clock
        self.refused_at: float | None = None
        """When a configuration was refused, in seconds since 1970; None where the last one was used."""
        self.mistakes: tuple[str, ...] = ()
        """Why it was refused."""
        self.unusable: Mapping[str, str] = {}
        """Why a secret's newest file cannot be used, by setting."""
        self._success = Gauge(
            "camunda_sidecar_config_last_reload_success",
            "1 if the last load of the configuration was used, 0 if it was refused.",
            registry=registry,
        )
        self._timestamp = Gauge(
            "camunda_sidecar_config_last_reload_success_timestamp_seconds",
            "When a configuration was last taken into use, in seconds since 1970.",
            registry=registry,
        )

        self._secret_files = Gauge(
            "camunda_sidecar_secret_file_errors",
            "1 while a secret's or key's newest file cannot be used; the old one stays in force.",
            ("setting",),
            registry=registry,
        )

    def secret_files(self, settings: Iterable[str], unusable: Mapping[str, str]) -> None:
        """Set which settings name a watched file, and why the newest file of some cannot be used."""
        self.unusable = unusable
        self._secret_files.clear()
        for setting in settings:
            self._secret_files.labels(setting).set(setting in unusable)

    def loaded(self) -> None:
        """Note that a configuration is in force from now."""
        self._success.set(1)
        self.refused_at, self.mistakes = None, ()
        self._timestamp.set(self._clock.wall())

    def refused(self, mistakes: Iterable[str]) -> None:
        """Note that a new configuration was invalid and the old one stays in force."""
        self._success.set(0)
        self.refused_at, self.mistakes = self._clock.wall(), tuple(mistakes)


class FaultCollector(Collector):
    """Counts what went wrong without failing a request."""

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Return the counts as they are now."""
        yield CounterMetricFamily(
            "camunda_sidecar_log_lines_dropped",
            "Log lines that standard error did not take in time, or not at all.",
            value=WRITER.dropped,
        )
        family = CounterMetricFamily(
            "camunda_sidecar_background_failures", "Faults of the sidecar in work that nobody awaits.", labels=["work"]
        )
        for work, count in background.failures.items():
            family.add_metric([work], count)
        yield family


class Metrics:
    """The registry and its sinks. `tokens` takes what the token core reports, `config` what a reload does.

    `history` has the last hour of them.
    """

    def __init__(self, http: HttpStats, clock: Clock) -> None:
        # Their series beside each counter would double the exposition and tell nobody anything.
        disable_created_metrics()
        self.registry = CollectorRegistry()
        self.tokens = TokenMetrics(self.registry, clock)
        self.config = ConfigMetrics(self.registry, clock)
        self.history = History(http, self.tokens.attempts, clock)
        self.registry.register(HttpCollector(http))
        self.registry.register(FaultCollector())
        ProcessCollector(registry=self.registry)
        facts = {"version": __version__, "python": platform.python_version(), "build": build.kind()}
        info = Gauge("camunda_sidecar_build_info", "Always 1.", labelnames=facts, registry=self.registry)
        info.labels(**facts).set(1)
