"""What every test may rely on: no other test's logging, and Ctrl-C for the processes that it starts."""

from __future__ import annotations

import signal

import pytest
import structlog


def pytest_configure() -> None:
    """A run in a shell's background ignores SIGINT, and its children would inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _untouched_logging() -> None:
    """Whoever configures logging (a service, a fuzzer's setup) does so for itself."""
    structlog.reset_defaults()
